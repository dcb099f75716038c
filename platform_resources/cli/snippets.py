"""Programs to paste for consumers who have an engine and PyIceberg but not this platform. How the platform itself reads is not here.

Each asks the catalog at every run, hence finds the newest snapshot. What could be a secret is never in the text.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.engines.spark import POM, jdbc_address

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
{keys}rows = con.sql(f"SELECT * FROM iceberg_scan('{{metadata}}')")
print(rows.limit(10))
"""
_POLARS = """\
# Newest rows of {identifier}. Needs: pip install polars {pyiceberg}
{imports}import polars as pl
from pyiceberg.catalog import load_catalog

{catalog}
# Polars may warn that polars_iceberg is not installed: that is about speed alone.
rows = pl.scan_iceberg(catalog.load_table("{identifier}"), reader_override="native"{keys})
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
_SPARK = """\
# Newest rows of {identifier}. Needs: Java 17, pip install pyspark=={version}; Spark fetches the packages from Maven Central.
{imports}from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[*]").config("spark.sql.session.timeZone", "UTC")
builder = builder.config("spark.jars.packages", "{packages}")
builder = builder.config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
spark = builder.getOrCreate()
{catalog}
for name, value in catalog.items():  # here, and not before the start, where a key would stand on a command line
    spark.conf.set(name, value)
rows = spark.table("{name}.{identifier}"){without}  # spark.sql("SELECT * FROM ... VERSION AS OF snapshot") for an older state
rows.show(10)
"""
ENGINES = {"duckdb": _DUCKDB, "polars": _POLARS, "pyiceberg": _PYICEBERG, "spark": _SPARK}
KEY, SECRET = 'os.environ["AWS_ACCESS_KEY_ID"]', 'os.environ["AWS_SECRET_ACCESS_KEY"]'


def snippet(engine: str, contract: Contract, settings: Settings) -> str:
    """A complete Python program for one of `ENGINES`, which leaves the rows in `rows` and prints ten of them."""
    remote = settings.object_store is not None
    catalog, from_environment = _catalog_in_spark(settings) if engine == "spark" else _catalog(settings)
    imports = "import os\n" if from_environment or remote else ""
    return ENGINES[engine].format(
        identifier=contract.identifier,
        name=settings.catalog_name,
        pyiceberg=f'"pyiceberg[{_extras(settings)}]"',
        imports=imports if engine == "duckdb" else imports and f"{imports}\n",
        catalog=catalog,
        extensions='("avro", "iceberg", "httpfs")' if remote else '("avro", "iceberg")',
        keys={"duckdb": _keys_in_duckdb, "polars": _keys_in_polars}[engine](settings) if engine in ("duckdb", "polars") else "",
        packages=",".join(_packages(settings)),
        version=SPARK_VERSION,
        # Iceberg keeps the name for itself in Spark, so a read of all columns fails
        without='.drop("_partition")' if contract.is_stream else "",
    )


SPARK_VERSION = "4.1.4"  # newer ones do not fit the Iceberg runtime of the pom


def _packages(settings: Settings) -> list[str]:
    """Maven coordinates of what Spark needs for this catalog and this store, out of the platform's own pom."""
    unwanted = {"sqlite-jdbc", "postgresql", "iceberg-aws-bundle"}
    if settings.catalog_type == "sql":
        unwanted.discard("sqlite-jdbc" if settings.catalog_address.startswith("sqlite:") else "postgresql")
    if settings.object_store is not None:
        unwanted.discard("iceberg-aws-bundle")
    space = "{http://maven.apache.org/POM/4.0.0}"
    found = []
    for one in ET.parse(POM).getroot().iter(f"{space}dependency"):  # noqa: S314 - our own file
        group, artifact, version = (str(one.findtext(f"{space}{part}")) for part in ("groupId", "artifactId", "version"))
        if artifact not in unwanted:
            found.append(f"{group}:{artifact}:{version}")
    return found


def _catalog(settings: Settings) -> tuple[str, bool]:
    """The lines that open the catalog, and whether they read the environment: an address that may hold a password stays there."""
    uri, store = settings.catalog_address, settings.object_store
    public = _is_public(settings)
    lines = []
    if not public:
        lines.append("# SDP_CATALOG_URI: the catalog's address with your own user and password; it is not printed here.")
    if settings.catalog_type == "rest":
        lines.append(f"# A token or credential comes from the environment: PYICEBERG_CATALOG__{settings.catalog_name.upper()}__TOKEN.")
    more = ""
    if store is not None:
        lines.append("# The keys of the object store come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.")
        shown = {name: json.dumps(value) for name, value in store.file_io().items() if name in ("s3.endpoint", "s3.region")}
        shown |= {"s3.access-key-id": KEY, "s3.secret-access-key": SECRET}
        lines += ["store = {", *(f'    "{name}": {value},' for name, value in shown.items()), "}"]
        more = ", **store"
    address = json.dumps(uri) if public else 'os.environ["SDP_CATALOG_URI"]'
    # A SQL catalog's tables are found by its name as well: any other name sees none.
    lines.append(f'catalog = load_catalog("{settings.catalog_name}", type="{settings.catalog_type}", uri={address}{more})')
    return "\n".join(lines), not public


def _is_public(settings: Settings) -> bool:
    """Whether the catalog's address can hold no password."""
    uri = settings.catalog_address
    return uri.startswith("sqlite:") or (settings.catalog_type == "rest" and not {"@", "?"} & set(uri))


def _keys_in_duckdb(settings: Settings) -> str:
    store = settings.object_store
    if store is None:
        return ""
    words = {"TYPE": "s3", "KEY_ID": "?", "SECRET": "?", "REGION": f"'{store.region}'"}
    words["URL_STYLE"] = "'path'" if store.path_style else "'vhost'"
    if store.endpoint:
        words["ENDPOINT"] = f"'{store.endpoint.partition('://')[2]}'"
        words["USE_SSL"] = str(not store.endpoint.startswith("http:")).lower()
    text = ", ".join(f"{name} {value}" for name, value in words.items())
    return f'con.execute("CREATE SECRET ({text})", [{KEY}, {SECRET}])\n'


def _keys_in_polars(settings: Settings) -> str:
    store = settings.object_store
    if store is None:
        return ""
    shown = {name: json.dumps(value) for name, value in store.polars().items() if "_key" not in name}
    shown |= {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
    return ", storage_options={" + ", ".join(f'"{name}": {value}' for name, value in shown.items()) + "}"


def _catalog_in_spark(settings: Settings) -> tuple[str, bool]:
    """As `_catalog`, in Spark's properties."""
    name, store = settings.catalog_name, settings.object_store
    prefix = f"spark.sql.catalog.{name}"
    public = _is_public(settings)
    lines, entries = [], {prefix: '"org.apache.iceberg.spark.SparkCatalog"', f"{prefix}.warehouse": json.dumps(settings.warehouse_uri)}
    if settings.catalog_type == "rest":
        lines.append("# A token or credential is one more property: .token or .credential.")
        entries |= {f"{prefix}.type": '"rest"', f"{prefix}.uri": json.dumps(settings.catalog_address) if public else _ADDRESS}
    else:
        address = json.dumps(jdbc_address(settings.catalog_address)[0]) if public else _ADDRESS
        entries |= {f"{prefix}.type": '"jdbc"', f"{prefix}.uri": address, f"{prefix}.jdbc.schema-version": '"V1"'}
        if not public:
            entries |= {f"{prefix}.jdbc.user": 'os.environ["PGUSER"]', f"{prefix}.jdbc.password": 'os.environ.get("PGPASSWORD", "")'}
    if not public:
        lines.append("# SDP_CATALOG_ADDRESS: jdbc:postgresql://host:port/database, or that of a REST catalog; not printed here.")
    if store is not None:
        lines.append("# The keys of the object store come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.")
        entries |= {key: json.dumps(value) for key, value in store.spark(name).items() if "access-key" not in key}
        entries |= {f"{prefix}.s3.access-key-id": KEY, f"{prefix}.s3.secret-access-key": SECRET}
    lines += ["catalog = {", *(f'    "{key}": {value},' for key, value in entries.items()), "}"]
    return "\n".join(lines), not public


_ADDRESS = 'os.environ["SDP_CATALOG_ADDRESS"]'


def _extras(settings: Settings) -> str:
    """What PyIceberg has to bring along."""
    wanted = ["pyarrow"]
    if settings.catalog_type == "sql":
        wanted.append("sql-sqlite" if settings.catalog_address.startswith("sqlite:") else "sql-postgres")
    return ",".join(wanted)
