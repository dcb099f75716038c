"""An input of a derivation, pinned to one snapshot: its rows, its changed rows and its watermark. What is made of them lives elsewhere."""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from pyiceberg.schema import Schema
from pyiceberg.table import Table

from platform_resources.contracts.iceberg import TableDefinition, table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.types import quote
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import Changes, changes_between
from platform_resources.lakehouse.files import DeletedRows, FileTask
from platform_resources.lakehouse.reading import empty_relation_sql, files_scan_sql, metadata_scan_sql, snapshot_at
from platform_resources.lakehouse.stamp import read_watermark


@dataclass(frozen=True)
class PinnedInput:
    """One product as a derivation reads it: the table object holds one state of the metadata, so head and watermark agree.

    `snapshot_id` is None for a product that was never made; it then counts as empty. `scratch` is a folder of the derivation's own.
    """

    contract: Contract
    table: Table | None
    snapshot_id: int | None
    scratch: Path

    @classmethod
    def pin(cls, contract: Contract, lakehouse: Lakehouse, scratch: Path, snapshot_id: int | None = None) -> PinnedInput:
        """The input at a snapshot, default the head of main."""
        table = lakehouse.table(contract.identifier)
        head = table.metadata.current_snapshot_id if table is not None else None
        return cls(contract, table, head if snapshot_id is None else snapshot_id, scratch)

    @cached_property
    def definition(self) -> TableDefinition:
        """The table as its contract wants it: what a transform may rely on."""
        return table_definition(self.contract)

    @property
    def watermark(self) -> datetime | None:
        """The input's own watermark."""
        return read_watermark(self.table) if self.table is not None else None

    def rows_sql(self) -> str:
        """SELECT of all rows at the pinned snapshot, with exactly the contract's columns."""
        if self.table is None or self.snapshot_id is None:
            return f"SELECT * FROM {self.nothing_sql()}"
        return self._select(metadata_scan_sql(self._metadata, snapshot_at(self.table, self.snapshot_id)), self.has_contract_columns)

    @cached_property
    def _metadata(self) -> str:
        """Location of the metadata as pinned. DuckDB reads it anew in each query, and the table's own file goes after 50 commits."""
        copy = self.scratch / f"{self.contract.identifier}.metadata.json"
        if self.table is not None:
            copy.write_text(self.table.metadata.model_dump_json())
        return str(copy)

    def nothing_sql(self) -> str:
        """Text usable in FROM: the contract's columns and no rows."""
        return empty_relation_sql(self.definition.schema)

    def changes_since(self, since: int | None, *, aging: bool = True) -> Changes:
        """What changed from a snapshot to the pinned one. `since` None means that there was nothing; for `aging` see `changes_between`."""
        if self.table is None or self.snapshot_id is None:
            if since is None:
                return Changes("none", (), (), None, "it was never made")
            return Changes("recompute", (), (), None, "its table is gone")
        if since is None:
            return Changes("append", (), (), self.snapshot_id, "it is new")
        return changes_between(self.table, since, self.snapshot_id, aging=aging)

    def added_sql(self, changes: Changes, since: int | None) -> str:
        """SELECT of the rows of the files that an append added."""
        if since is None:
            return self.rows_sql()
        return self._files(changes.added)

    def changed_sql(self, changes: Changes, since: int | None, wanted: Collection[str]) -> str:
        """SELECT of the columns `wanted` of the rows that are there and were not, or were there and are not.

        A rewritten file holds mostly rows that did not change; those on both sides cancel out, so a copy-on-write merge of ten keys
        does not recompute every key of the files it rewrote. Objects, arrays and maps that are not wanted are compared by their digest:
        rows that hold a page's text would take its size in memory, twice.
        """
        return f"SELECT {', '.join(map(quote, wanted)) or '1'} FROM ({self._changed(changes, since, wanted)})"

    def _changed(self, changes: Changes, since: int | None, wanted: Collection[str]) -> str:
        if since is None or changes.kind == "append":
            return self.added_sql(changes, since)
        nested = [f.name for f in self.definition.schema.fields if not f.field_type.is_primitive and f.name not in wanted]
        digests = ", ".join(f"md5(CAST({quote(name)} AS VARCHAR)) AS {quote(name)}" for name in nested)
        columns = f"* REPLACE ({digests})" if digests else "*"
        added, removed = (f"SELECT {columns} FROM ({self._files(parts)})" for parts in (changes.added, changes.removed))
        return f"(({added}) EXCEPT ALL ({removed})) UNION ALL (({removed}) EXCEPT ALL ({added}))"

    def _files(self, parts: Sequence[FileTask | DeletedRows]) -> str:
        if self.table is None or not parts:
            return f"SELECT * FROM {self.nothing_sql()}"
        return self._select(files_scan_sql(self.table, parts), _same_columns(self.table.schema(), self.definition.schema))

    @cached_property
    def has_contract_columns(self) -> bool:
        """Whether the snapshot's columns are the contract's: not so while a new column has not been written yet."""
        if self.table is None:
            return True
        snapshot = self.table.metadata.snapshot_by_id(self.snapshot_id) if self.snapshot_id is not None else None
        schemas: Mapping[int, Schema] = self.table.schemas()
        written = schemas.get(snapshot.schema_id) if snapshot is not None and snapshot.schema_id is not None else None
        current = _same_columns(self.table.schema(), self.definition.schema)
        return current and (written is None or _same_columns(written, self.definition.schema))

    def _select(self, relation: str, same: bool) -> str:
        columns = ", ".join(quote(field.name) for field in self.definition.schema.fields)
        if same:
            return f"SELECT {columns} FROM {relation}"
        return f"SELECT {columns} FROM (SELECT * FROM {self.nothing_sql()} UNION ALL BY NAME SELECT * FROM {relation})"


def _same_columns(one: Schema, other: Schema) -> bool:
    """Names and types in any order, whatever the field ids."""

    def shape(schema: Schema) -> dict[str, str]:
        return {path: str(schema.find_type(path)) for path in schema._name_to_id if not schema.find_type(path).is_struct}  # noqa: SLF001

    return shape(one) == shape(other)


def pin_inputs(
    keys: Sequence[str], registry: Registry, lakehouse: Lakehouse, scratch: Path, snapshots: Mapping[str, int | None] | None = None
) -> dict[str, PinnedInput]:
    """Every input by key, at its head or at the snapshots given; readable as long as the folder `scratch`."""
    return {key: PinnedInput.pin(registry.get(key), lakehouse, scratch, (snapshots or {}).get(key)) for key in keys}


def least_watermark(inputs: Sequence[PinnedInput]) -> datetime | None:
    """The minimum of the inputs' watermarks (law 6).

    A product that never has one (a file drop) does not count; a stream without one, or a product that was never made, makes the
    answer unknown: nothing can be claimed for it.
    """
    marks = []
    for one in inputs:
        mark = one.watermark
        if mark is None and (one.contract.is_stream or one.table is None):
            return None
        if mark is not None:
            marks.append(mark)
    return min(marks, default=None)
