"""DuckDB sessions of the platform: UTC, bounded, extensions loaded from the installed wheels. What is queried lives elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.schema import Schema

from platform_resources.config import Settings
from platform_resources.engines.types import duck_type, quote
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.file_io import StoreError, refusal, unreachable


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """An in-memory session that reads the lakehouse.

    The time zone is UTC: DuckDB 1.5 casts and truncates timestamps in the session's zone, so any other puts rows in wrong days.
    Extensions are LOADed by path (avro before iceberg, which needs it; httpfs only for a remote warehouse); nothing is downloaded. The
    keys of a remote warehouse are given to the session here, once: no query ever holds them.

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
        "python_enable_replacements": "false",  # a bare name in FROM must never find a Python variable
    }
    if settings.duckdb_threads:
        config["threads"] = settings.duckdb_threads
    con = duckdb.connect(config=config)
    con.execute("SET enable_progress_bar = false")  # DuckDB takes `python -c`, as runs are started, for a person and draws it on stdout
    con.execute("SET GLOBAL TimeZone = 'UTC'")  # global: a cursor of the session is a session of its own
    store = settings.object_store
    for name in ("avro", "iceberg", *(["httpfs"] if store else [])):
        con.execute(f"LOAD '{_extension(name)}'")
    if store is not None:
        store.give_to(con, settings.warehouse_uri)
        con.execute("SET enable_http_metadata_cache = true")  # a table's files never change: no asking for their size again
    return con


def reach_warehouse(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Let a session that somebody else made read a remote warehouse; nothing to do for a folder."""
    store = settings.object_store
    if store is not None:
        con.execute(f"LOAD '{_extension('httpfs')}'")
        store.give_to(con, settings.warehouse_uri)


@contextmanager
def session(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session of `connect` that is closed at the end, whatever happened in it.

    Closing waits for the threads of a query, and one that Ctrl-C left behind may run for ever: so it is interrupted first.

    Raises:
        PlatformError: as `connect`; `store-unreachable`, `store-refused` in the place of DuckDB's own errors (`store_fault`).
    """
    con = connect(settings)
    try:
        with store_faults_told():
            yield con
    finally:
        con.interrupt()
        con.close()


def store_fault(error: BaseException) -> StoreError | None:
    """What an error of a query says of the object store, told as the platform's own reader tells it; None for any other error.

    Whoever takes a query's error for a fault of the query asks here first. Errors come from DuckDB itself, as text under a type of Arrow's
    own where rows are streamed, or from Polars. A file that is not there (404) is no fault of the store.
    """
    text = str(error)
    if isinstance(error, duckdb.Error) or (isinstance(error, OSError | pa.ArrowException) and text.startswith(_STREAMED)):
        asked, status = _ASKED.search(text), _STATUS.search(text)
    elif text.startswith(_OF_POLARS):
        asked, status = _ASKED_BY_POLARS.search(text), _STATUS_TO_POLARS.search(text)
    else:
        return None
    if asked is None:
        return None
    location = asked["url"].partition("?")[0]
    if status is None:
        return unreachable(location, asked["reason"] or "the answer broke off")
    fault = refusal(location, int(status[1]), status[1])
    return fault if isinstance(fault, StoreError) else None


@contextmanager
def store_faults_told() -> Iterator[None]:
    """Errors of DuckDB about the object store come out as `store_fault` tells them.

    Raises:
        PlatformError: `store-unreachable`, `store-refused`, `store-bucket-missing`.
    """
    try:
        yield
    except Exception as error:
        if (fault := store_fault(error)) is not None:
            raise fault from error
        raise


_STREAMED = ("HTTP Error: ", "IO Error: ")
_ASKED = re.compile(r"(?:(?:(?:IO|HTTP) Error: |\")(?P<reason>[^:\"\n]*) error for )?HTTP (?:GET|HEAD|POST|PUT)[a-z ]* '(?P<url>[^']+)'")
_OF_POLARS = "object-store error: "
_ASKED_BY_POLARS = re.compile(r"Error performing [A-Z]+ (?P<url>\S+) .*? - (?P<reason>[^(\n]*[^(\s])")
_STATUS_TO_POLARS = re.compile(r"status code: (\d{3})\b")
_STATUS = re.compile(r"\bHTTP (\d{3})\b")


def offline_session() -> duckdb.DuckDBPyConnection:
    """A session that can reach no file and no network, for judging queries; errors come as JSON with their position."""
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "python_enable_replacements": "false",
            "enable_external_access": "false",
            "threads": 1,
        }
    )
    con.execute("SET TimeZone = 'UTC'; SET errors_as_json = true")
    return con


@cache
def aggregate_functions() -> frozenset[str]:
    """DuckDB's aggregates and window functions by name, with the macros that call one (`geomean`, `json_group_array`).

    DuckDB is asked because sqlglot knows only some: an aggregate unknown to it would pass for a function of one row.
    """
    with offline_session() as con:
        known = con.execute("SELECT function_name, function_type, macro_definition FROM duckdb_functions()").fetchall()
    names = {str(name) for name, kind, _ in known if kind == "aggregate"}
    calls = {str(name): set(re.findall(r'(\w+)"?\(', str(text))) for name, kind, text in known if kind == "macro"}
    while found := {name for name, called in calls.items() if called & names} - names:
        names |= found
    return frozenset(names)


def create_empty_tables(con: duckdb.DuckDBPyConnection, schemas: Mapping[str, Schema]) -> None:
    """An empty table `domain.product` for each identifier, with the columns of its Iceberg schema."""
    for identifier, schema in schemas.items():
        columns = ", ".join(f"{quote(field.name)} {duck_type(field.field_type)}" for field in schema.fields)
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(identifier.partition('.')[0])}")
        con.execute(f"CREATE TABLE {qualified_name(identifier)} ({columns})")


def qualified_name(identifier: str) -> str:
    """`domain.product` quoted for SQL."""
    domain, _, product = identifier.partition(".")
    return f"{quote(domain)}.{quote(product)}"


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
