"""Programs to paste for consumers who have an engine and PyIceberg but not this platform. How the platform itself reads is not here.

Each asks the catalog at every run, hence finds the newest snapshot. What could be a secret is never in the text.
"""

from __future__ import annotations

import json

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract

_DUCKDB = """\
# Newest rows of {identifier}. Needs: pip install duckdb {pyiceberg}
{imports}from importlib.util import find_spec
from pathlib import Path

import duckdb
from pyiceberg.catalog import load_catalog

{catalog}
metadata = catalog.load_table("{identifier}").metadata_location  # goes out of date with the next commit: ask anew, do not keep it

con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'")
for name in {extensions}:
    wheel = find_spec(f"duckdb_extension_{{name}}")  # from PyPI, for machines that cannot reach extensions.duckdb.org
    folder = Path(wheel.submodule_search_locations[0] if wheel else "")
    file = folder / "extensions" / f"v{{duckdb.__version__}}" / f"{{name}}.duckdb_extension"
    con.execute(f"LOAD '{{file}}'" if file.is_file() else f"INSTALL {{name}}; LOAD {{name}}")
rows = con.sql(f"SELECT * FROM iceberg_scan('{{metadata}}')")
print(rows.limit(10))
"""
_POLARS = """\
# Newest rows of {identifier}. Needs: pip install polars {pyiceberg}
{imports}import polars as pl
from pyiceberg.catalog import load_catalog

{catalog}
# Polars may warn that polars_iceberg is not installed: that is about speed alone.
rows = pl.scan_iceberg(catalog.load_table("{identifier}"), reader_override="native")
print(rows.head(10).collect())
"""
_PYICEBERG = """\
# Newest rows of {identifier}. Needs: pip install {pyiceberg}
{imports}from pyiceberg.catalog import load_catalog

{catalog}
# PyIceberg's scan gives an empty list where a list of structs is null; DuckDB and Polars read it as null.
rows = catalog.load_table("{identifier}").scan()  # scan(row_filter="...", selected_fields=(...), limit=10) reads less
print(rows.to_arrow().slice(0, 10))
"""
ENGINES = {"duckdb": _DUCKDB, "polars": _POLARS, "pyiceberg": _PYICEBERG}


def snippet(engine: str, contract: Contract, settings: Settings) -> str:
    """A complete Python program for one of `ENGINES`, which leaves the rows in `rows` and prints ten of them."""
    remote = not settings.warehouse_uri.startswith("file:")
    catalog, from_environment = _catalog(settings, remote=remote)
    imports = "import os\n" if from_environment else ""
    extensions = '("avro", "iceberg", "httpfs")' if remote else '("avro", "iceberg")'
    return ENGINES[engine].format(
        identifier=contract.identifier,
        pyiceberg=f'"pyiceberg[{_extras(settings)}]"',
        imports=imports if engine == "duckdb" else imports and f"{imports}\n",
        catalog=catalog,
        extensions=extensions,
    )


def _catalog(settings: Settings, *, remote: bool) -> tuple[str, bool]:
    """The lines that open the catalog, and whether they read the environment: an address that may hold a password stays there."""
    properties = settings.catalog_properties()
    uri = properties["uri"]
    public = uri.startswith("sqlite:") or (settings.catalog_type == "rest" and not {"@", "?"} & set(uri))
    lines = []
    if not public:
        lines.append("# SDP_CATALOG_URI: the catalog's address with your own user and password; it is not printed here.")
    if settings.catalog_type == "rest":
        lines.append(f"# A token or credential comes from the environment: PYICEBERG_CATALOG__{settings.catalog_name.upper()}__TOKEN.")
    if remote:
        lines.append("# The keys of the object store come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION.")
    address = json.dumps(uri) if public else 'os.environ["SDP_CATALOG_URI"]'
    # A SQL catalog's tables are found by its name as well: any other name sees none.
    lines.append(f'catalog = load_catalog("{settings.catalog_name}", type="{settings.catalog_type}", uri={address})')
    return "\n".join(lines), not public


def _extras(settings: Settings) -> str:
    """What PyIceberg has to bring along."""
    wanted = ["pyarrow"]
    if settings.catalog_type == "sql":
        wanted.append("sql-sqlite" if settings.catalog_properties()["uri"].startswith("sqlite:") else "sql-postgres")
    return ",".join(wanted)
