"""DuckDB sessions of the platform: UTC, bounded, extensions loaded from the installed wheels. What is queried lives elsewhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import duckdb

from platform_resources.config import Settings
from platform_resources.errors import PlatformError


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An in-memory session that reads the lakehouse.

    The time zone is UTC: DuckDB 1.5 casts and truncates timestamps in the session's zone, so any other puts rows in wrong days.
    Extensions are LOADed by path (avro before iceberg, which needs it; httpfs only for a remote warehouse); nothing is downloaded.

    Raises:
        PlatformError: `duckdb-extension-missing` when a wheel with an extension is not installed.
    """
    spill = settings.home / "tmp" / "duckdb"
    spill.mkdir(parents=True, exist_ok=True)
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "memory_limit": settings.duckdb_memory_limit,
        "temp_directory": str(spill),
        "preserve_insertion_order": "false",
    }
    if settings.duckdb_threads:
        config["threads"] = settings.duckdb_threads
    con = duckdb.connect(config=config)
    con.execute("SET TimeZone = 'UTC'")
    remote = not settings.warehouse_uri.startswith("file:")
    for name in ("avro", "iceberg", *(["httpfs"] if remote else [])):
        con.execute(f"LOAD '{_extension(name)}'")
    return con


def _extension(name: str) -> str:
    spec = find_spec(f"duckdb_extension_{name}")
    folder = Path(next(iter(spec.submodule_search_locations or []), "")) if spec else None
    found = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension" if folder else None
    if found is None or not found.is_file():
        raise PlatformError(
            "duckdb-extension-missing",
            f"The DuckDB extension {name} for version {duckdb.__version__} is not installed.",
            f"Install duckdb-extension-{name}=={duckdb.__version__} (make install).",
        )
    return str(found).replace("'", "''")
