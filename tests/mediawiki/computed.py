"""What the platform makes of events and snapshots: the transforms of mediawiki/history and its steps, bare or incrementally.

Bare is one DuckDB session over rows in memory: each query as it stands, once. Incrementally is what a run does: rows are committed to the
input tables, every product is derived from what changed, audited and committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import orjson
import pyarrow as pa

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import arrow_schema, table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit
from platform_resources.engines.current import expanded
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect, create_empty_tables
from platform_resources.engines.loading import read_transform
from platform_resources.engines.sql import parse_query, referenced_tables
from platform_resources.engines.transform import Transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.streams.codec import Codec
from tests.mediawiki.lives import BLOCKS, PAGE_CHANGE, TAGS, USERS, VISIBILITY, Event

Rows = list[dict[str, Any]]
STREAMS = {
    PAGE_CHANGE: "mediawiki/page_change",
    VISIBILITY: "mediawiki/revision_visibility_change",
    TAGS: "mediawiki/revision_tags_change",
    BLOCKS: "mediawiki/user_blocks_change",
    USERS: "mediawiki/user_change",
}
LANDED = ("mediawiki/history_snapshot", "mediawiki/project_namespace_map")
RESULTS = ("mediawiki/history", "mediawiki/history_reduced")


@cache
def registry() -> Registry:
    return Registry.load(SOURCE_ROOT)


@cache
def codec(key: str) -> Codec:
    return Codec(registry().get(key))


class Query(NamedTuple):
    """A transform's text, which current views are written out in, and the products it reads."""

    text: str
    inputs: tuple[str, ...]


@cache
def queries() -> dict[str, Query]:
    """The results and what they are derived from, each after its inputs. Read without tracing, which takes seconds."""
    found: dict[str, Query] = {}

    def visit(key: str) -> None:
        path = registry().transform_path(key)
        if path is None or key in found:
            return
        text = path.read_text()
        text = expanded(text, referenced_tables(parse_query(text)), registry())
        inputs = tuple(f"{table.db}/{table.name}" for table in referenced_tables(parse_query(text)))
        for one in inputs:
            visit(one)
        found[key] = Query(text, inputs)

    for key in RESULTS:
        visit(key)
    return found


@cache
def transforms() -> dict[str, Transform]:
    """The same with their tracing, which deriving needs."""
    read = {key: read_transform(registry().get(key), registry()) for key in queries()}
    return {key: transform for key, transform in read.items() if transform is not None}


@cache
def schema(key: str) -> pa.Schema:
    return arrow_schema(table_definition(registry().get(key)))


def arrived(batch: Iterable[tuple[str, Event]], at: datetime) -> dict[str, pa.Table]:
    """Rows of each stream's table, as ingestion would append them at this time. An event that breaks its schema is a fault of the test."""
    by_stream: dict[str, list[bytes]] = {stream: [] for stream in STREAMS}
    for stream, event in batch:
        by_stream[stream].append(orjson.dumps(event))
    tables = {}
    for stream, lines in by_stream.items():
        if not lines:
            continue
        decoded = codec(STREAMS[stream]).decode(lines)
        assert not decoded.errors, (stream, decoded.errors[0], lines[decoded.errors[0].index])
        first = int(at.timestamp()) * 1_000
        own = {"_topic": stream, "_partition": 0, "_log_time": at, "_ingested_at": at, "_event_hash": bytes(16)}
        offsets = pa.array(range(first, first + decoded.table.num_rows), pa.int64())
        tables[STREAMS[stream]] = _completed(STREAMS[stream], decoded.table.append_column("_offset", offsets), own)
    return tables


def landed(key: str, rows: Rows, month: date, at: datetime) -> pa.Table:
    """Rows of a landed table, as the slice of this month."""
    own = {"_file_name": f"{month}-{len(rows)}", "_file_hash": bytes(16), "_line": None, "_slice": month, "_landed_at": at}
    columns = [schema(key).field(column.name) for column in registry().get(key).columns]
    return _completed(key, pa.Table.from_pylist(rows, pa.schema(columns)), own)


def _completed(key: str, table: pa.Table, own: Mapping[str, Any]) -> pa.Table:
    for field in schema(key):
        if field.name not in table.column_names:
            table = table.append_column(field, pa.array([own.get(field.name)] * table.num_rows, field.type))
    return table.select(schema(key).names)


class Bare:
    """One session over rows in memory, made empty for each life."""

    def __init__(self) -> None:
        self.con = duckdb.connect(config={"threads": 1})
        self.con.execute("SET TimeZone = 'UTC'")
        inputs = {key for query in queries().values() for key in query.inputs} - queries().keys()
        self.inputs = sorted(inputs)
        create_empty_tables(self.con, {registry().get(key).identifier: table_definition(registry().get(key)).schema for key in inputs})

    def computed(self, commits: Sequence[Mapping[str, pa.Table]]) -> dict[str, Rows]:
        """Rows of every derived product, by its key."""
        for key in self.inputs:
            self.con.execute(f"DELETE FROM {registry().get(key).identifier}")
        for commit in commits:
            for key, table in commit.items():
                if table.num_rows:
                    self.con.register("incoming", table)
                    self.con.execute(f"INSERT INTO {registry().get(key).identifier} BY NAME SELECT * FROM incoming")
        found = {}
        for key, query in queries().items():
            name = registry().get(key).identifier
            self.con.execute(f"CREATE OR REPLACE TABLE {name} AS {query.text}")
            found[key] = self.con.execute(f"FROM {name}").to_arrow_table().to_pylist()
        return found


class Platform:
    """A lakehouse of its own, with the products derived from it incrementally."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(project=SOURCE_ROOT, home=home)
        self.lakehouse = Lakehouse(self.settings)
        self.con = connect(self.settings)
        self.plans: dict[str, list[str]] = {}

    def commit(self, tables: Mapping[str, pa.Table]) -> None:
        """Add rows to the input tables."""
        for key, table in tables.items():
            if table.num_rows:
                definition = table_definition(registry().get(key))
                stage_append(self.lakehouse, definition, table, Stamp(run_id=str(uuid.uuid4()))).commit()

    def derive(self) -> None:
        """Bring every product up to date, as its runs would; lives may break what only warns."""
        for key, plan in derived(self.con, self.lakehouse, self.settings, blocking_only=True).items():
            self.plans.setdefault(key, []).append(plan)


def derived(con: duckdb.DuckDBPyConnection, lakehouse: Lakehouse, settings: Settings, *, blocking_only: bool = False) -> dict[str, str]:
    """Derive, audit and commit every product in one session; each check, or each that would stop it, must pass. The plan of each."""
    plans = {}
    for key, transform in transforms().items():
        contract = registry().get(key)
        parts: dict[str, Any] = {"lakehouse": lakehouse, "registry": registry(), "settings": settings, "con": con}
        found = Derivation(contract, transform, **parts).stage(run_id=str(uuid.uuid4()))
        plans[key] = found.plan
        if found.staged is not None:
            failed = [one for one in audit(con, found.staged, contract) if not one.passed and (one.check.blocking or not blocking_only)]
            assert not failed, f"{key} would not be published: {failed}"
            found.staged.commit()
    return plans


def stored(lakehouse: Lakehouse, key: str) -> Rows:
    """The rows of a product's table; none where it was never written."""
    table = lakehouse.table(registry().get(key).identifier)
    return arrow_table(table).to_pylist() if table is not None else []
