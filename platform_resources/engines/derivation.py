"""Incremental derivation (law 7): from what changed in the inputs to one staged write of the product.

The plan is made from the product's own stamp: which snapshot of each input it covers and which code made it. Each plan gives the
table that a full computation over the pinned inputs would give. How a transform runs lives in `running`, what an input says in
`inputs`, how a write is staged in the lakehouse.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import duckdb
import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.quality import quoted
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import session
from platform_resources.engines.inputs import PinnedInput, least_watermark, pin_inputs
from platform_resources.engines.partitioning import partition_columns, partition_value_spark, partition_value_sql
from platform_resources.engines.running import define_views, run_transform
from platform_resources.engines.spark import Spark
from platform_resources.engines.spark_running import AFFECTED, Restriction
from platform_resources.engines.sql import key_columns
from platform_resources.engines.tracing import plain_path
from platform_resources.engines.transform import Transform
from platform_resources.engines.types import duck_type, quote
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import Changes
from platform_resources.lakehouse.expiry import register_reader
from platform_resources.lakehouse.partitions import parse_partition
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.retention import forgotten_before
from platform_resources.lakehouse.staging import (
    Fence,
    PartitionScope,
    StagedWrite,
    stage_append,
    stage_empty,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import CODE_VERSION, Stamp, committed_snapshot, has_committed, read_position_at, summary_of
from platform_resources.runs import code_version

Plan = Literal["full", "append", "key", "partition", "nothing"]


@dataclass(frozen=True)
class Derived:
    """A derivation, staged: what was done and why.

    `staged` is None when there is nothing to write, not even a position: no input moved, or this run has committed before
    (`committed` is then that snapshot, None when it has expired since). `position` maps each input's key to the snapshot read, None for a
    product never made.
    """

    staged: StagedWrite | None
    plan: Plan
    reason: str
    position: dict[str, int | None]
    watermark: datetime | None
    committed: int | None = None


@dataclass(frozen=True)
class _KeyColumn:
    """One column by which rows are recomputed: `value` turns an SQL expression into what is compared.

    `spark` does so in Spark's words, None where it cannot.
    """

    name: str
    template: str
    spark: str | None = None

    def value(self, expression: str) -> str:
        return self.template.replace("{}", expression)


@dataclass(frozen=True)
class _Task:
    """One run of one derivation: what is pinned, what was there before, what the write will say of itself."""

    con: duckdb.DuckDBPyConnection
    inputs: Mapping[str, PinnedInput]
    changes: Mapping[str, Changes]
    before: Mapping[str, int | None]
    stamp: Stamp
    fence: Fence
    engine: str

    def changed(self) -> list[str]:
        """Keys of the inputs with added or removed files."""
        return [key for key, change in self.changes.items() if change.kind != "none"]


class Derivation:
    """One derived product over its inputs.

    Args:
        contract, transform: the product and what makes it.
        lakehouse, registry, settings: where inputs and output are and how they are reached.
        con: a session of `duck.connect` to work in; default one of its own for each staging.
        spark: what computes where the engine is Spark; default: the session that the settings describe.
    """

    def __init__(
        self,
        contract: Contract,
        transform: Transform,
        *,
        lakehouse: Lakehouse,
        registry: Registry,
        settings: Settings,
        con: duckdb.DuckDBPyConnection | None = None,
        spark: Spark | None = None,
    ) -> None:
        self._con = con
        self._spark = spark or Spark(settings)
        self.contract, self.transform = contract, transform
        self.lakehouse, self.registry, self.settings = lakehouse, registry, settings
        self.definition = table_definition(contract)

    @property
    def code_version(self) -> str:
        """What the table's rows were made by: the transform and everything the contract says about them."""
        return code_version(self.contract.fingerprint, self.transform.code_version)

    def is_behind(self) -> bool:
        """Whether a run would do something: an input has a snapshot that the own position does not cover, or the code changed."""
        heads = self._heads()
        table = self.lakehouse.table(self.contract.identifier)
        if table is None:
            return any(head is not None for head in heads.values())
        position, made_by = _position_and_code(table)
        if position is None:
            return any(head is not None for head in heads.values())
        return made_by != self.code_version or heads != {key: position.get(key) for key in heads}

    def _heads(self) -> dict[str, int | None]:
        heads: dict[str, int | None] = {}
        for key in self.transform.inputs:
            table = self.lakehouse.table(self.registry.get(key).identifier)
            heads[key] = table.metadata.current_snapshot_id if table is not None else None
        return heads

    def stage(self, *, run_id: str, partition: str | None = None, recompute: bool = False, engine: str | None = None) -> Derived:
        """Compute what is missing and stage it as one write, which the caller audits, then commits, refuses or discards.

        Args:
            run_id: a run that committed before stages nothing again.
            partition: recompute this partition only, e.g. `2026-01-01`; moves no position.
            recompute: compute everything from the whole inputs.
            engine: `duckdb` or `spark` for this run's query; default: the contract's.

        Raises:
            PlatformError: `engine-not-offered`, `append-input-rewritten`, `append-input-shortened`, `transform-failed`, `position-expired`,
                `partition-untold`, and what staging raises when the rows break the contract.
            Fenced: another run moved the position meanwhile.
        """
        if engine is not None and self.transform.kind == "python":
            raise PlatformError(
                "engine-not-offered", f"{self.contract.key} is a function in Python: its annotations say on which engine it runs.",
                "Leave the engine out of the run.", file=self.transform.where,
            )  # fmt: skip
        table = self.lakehouse.table(self.contract.identifier)
        position, made_by = _position_and_code(table) if table is not None else (None, None)
        if table is not None and has_committed(table, run_id, partition):
            done = committed_snapshot(table, run_id, partition)
            said = f"snapshot {done.snapshot_id}" if done is not None else "a snapshot that has expired since"
            at = done.snapshot_id if done is not None else None
            return Derived(None, "nothing", f"run {run_id} has committed {said}", dict(position or {}), None, at)
        for key in self.transform.inputs:  # before they are read: from here on expiry waits for what this product has not read
            register_reader(self.lakehouse, self.registry.get(key).identifier, self.contract.identifier)
        with self._session() as con, TemporaryDirectory(prefix="sdp-inputs-") as folder:
            if partition is not None:
                return self._stage_named_partition(con, Path(folder), run_id, partition, position, engine or self.contract.engine)
            inputs = pin_inputs(self.transform.inputs, self.registry, self.lakehouse, Path(folder))
            task = self._task(con, run_id, inputs, position, engine or self.contract.engine)
            reason = "a recomputation was asked for" if recompute else self._reason_for_full(task, position, made_by)
            if reason:
                if not recompute:
                    self._refuse_loss(task, position, reason)
                return self._full(task, reason)
            if dict(task.stamp.position or {}) == {key: task.before.get(key) for key in inputs}:
                return Derived(None, "nothing", "no input has a new snapshot", dict(position or {}), task.stamp.watermark)
            return self._incremental(task)

    @contextmanager
    def _session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self._con is not None:
            yield self._con
            return
        with session(self.settings) as con:
            yield con

    def _task(
        self,
        con: duckdb.DuckDBPyConnection,
        run_id: str,
        inputs: Mapping[str, PinnedInput],
        position: Mapping[str, Any] | None,
        engine: str,
    ) -> _Task:
        before = {key: (position or {}).get(key) for key in inputs}
        stamp = Stamp(
            run_id=run_id,
            code_version=self.code_version,
            contract_version=self.contract.version,
            position={key: pinned.snapshot_id for key, pinned in inputs.items()},
            watermark=least_watermark([pinned for key, pinned in inputs.items() if key not in self.contract.slow_inputs]),
        )
        # What a row gave stays, when the row has become too old to be kept.
        aging = self.contract.incremental != "append" and not self.contract.outlives_inputs
        known = inputs.items() if position is not None else ()
        changes = {key: pinned.changes_since(before[key], aging=aging) for key, pinned in known}
        return _Task(con, inputs, changes, before, stamp, Fence(position=position), engine)

    def _run(self, task: _Task, restricted: Mapping[str, Restriction] | None = None, only: str = "") -> pa.Table | pa.RecordBatchReader:
        return run_transform(
            task.con, self.transform, task.inputs, self.definition.schema,
            restricted=restricted or {}, only=only, engine=task.engine, spark=self._spark,
        )  # fmt: skip

    def _reason_for_full(self, task: _Task, position: Mapping[str, Any] | None, made_by: str | None) -> str | None:
        if position is None:
            return "it was never computed"
        if made_by != self.code_version:
            return "the transform or the contract changed"
        for key, change in task.changes.items():
            if change.kind == "recompute":
                return f"what changed in {key} cannot be told: {change.reason}"
        return None

    def _refuse_loss(self, task: _Task, position: Mapping[str, Any] | None, reason: str) -> None:
        """A row-wise product keeps what rows gave that have aged in its inputs: it is computed without them only when somebody says so."""
        if position is None or self.contract.incremental != "append":
            return
        own = self.contract.sla.retention
        for key, pinned in task.inputs.items():
            since = forgotten_before(pinned.table) if pinned.table is not None else None
            if since is not None and (own is None or datetime.now(UTC) - own < since):
                raise PlatformError(
                    "append-input-shortened",
                    f"{self.contract.key} has to be computed anew since {reason}; what it made of rows of {key} from before "
                    f"{since:%Y-%m-%d}, which have aged, would be lost.",
                    f"Run `sdp run {self.contract.key} --recompute` if it may be.",
                    file=self.contract.path,
                )

    def _incremental(self, task: _Task) -> Derived:
        changed = task.changed()
        if not changed:
            return self._nothing(task)
        if self.contract.incremental == "append":
            return self._append(task, changed)
        if self.contract.incremental in ("key", "partition"):
            return self._by_key(task, changed)
        truly = [key for key in changed if self._has_changed_rows(task, key)]
        return self._full(task, f"{' and '.join(truly)} changed") if truly else self._nothing(task)

    def _has_changed_rows(self, task: _Task, key: str) -> bool:
        text = task.inputs[key].changed_sql(task.changes[key], task.before[key], ())
        return bool(task.con.execute(f"SELECT 1 FROM ({text}) LIMIT 1").fetchone())

    def _derived(self, task: _Task, staged: StagedWrite, plan: Plan, reason: str) -> Derived:
        return Derived(staged, plan, reason, dict(task.stamp.position or {}), task.stamp.watermark)

    def _nothing(self, task: _Task, reason: str = "no row of an input changed") -> Derived:
        return self._derived(task, stage_empty(self.lakehouse, self.definition, task.stamp, fence=task.fence), "nothing", reason)

    def _full(self, task: _Task, reason: str) -> Derived:
        define_views(task.con, task.inputs, {})
        floor = self._last_aged(task.con, task.inputs)
        if floor is not None:
            return self._all_but_aged(task, reason, floor)
        data = self._run(task)
        staged = stage_overwrite(self.lakehouse, self.definition, data, task.stamp, partitions=PartitionScope.table(), fence=task.fence)
        return self._derived(task, staged, "full", reason)

    def _all_but_aged(self, task: _Task, reason: str, floor: int) -> Derived:
        """Everything that can be computed; partitions up to `floor`, whose rows have aged in an input, stay as they were computed."""
        column = (self._partition_columns() or [])[0]
        own = duckdb_scan_sql(self.lakehouse.create(self.definition))
        value = column.value(quoted(column.name))
        held = task.con.execute(f"SELECT DISTINCT {value} FROM {own} WHERE {value} > {floor}").fetchall()
        data = self._run(task, only=f"WHERE {column.value(f'result.{quoted(column.name)}')} > {floor}")
        scope = PartitionScope.listed([Record(*row) for row in held])
        staged = stage_overwrite(self.lakehouse, self.definition, data, task.stamp, partitions=scope, fence=task.fence)
        return self._derived(task, staged, "full", f"{reason}; what was made of rows that have aged stays")

    def _last_aged(self, con: duckdb.DuckDBPyConnection, inputs: Mapping[str, PinnedInput]) -> int | None:
        """The newest partition of which an input no longer has every row, as Iceberg counts it.

        None where none lacks any, and for a product that does not outlive its inputs.
        """
        times = [forgotten_before(one.table) for one in inputs.values() if one.table is not None] if self.contract.outlives_inputs else []
        since = max((time for time in times if time is not None), default=None)
        columns = self._partition_columns()
        if since is None or not columns:
            return None
        last = f"TIMESTAMPTZ '{since - timedelta(microseconds=1):%Y-%m-%d %H:%M:%S.%f}+00'"
        found = con.execute(f"SELECT {columns[0].value(last)}").fetchone()
        return int(found[0]) if found else None

    def _append(self, task: _Task, changed: Sequence[str]) -> Derived:
        """Row-wise: the added rows give the rows to add. An input that did not change is given without rows."""
        for key in changed:
            if task.changes[key].kind != "append":
                raise PlatformError(
                    "append-input-rewritten",
                    f"{self.contract.key} is incremental: append, and rows of its input {key} were changed or deleted.",
                    f"Run `sdp run {self.contract.key} --recompute`, or declare incremental: key, partition or full.",
                    file=self.contract.path,
                )
        texts = {
            key: pinned.added_sql(task.changes[key], task.before[key]) if key in changed else f"SELECT * FROM {pinned.nothing_sql()}"
            for key, pinned in task.inputs.items()
        }
        restricted = {
            key: Restriction(files=tuple(one.data_file.file_path for one in task.changes[key].added) if key in changed else ())
            for key in task.inputs
            if key not in changed or task.before[key] is not None
        }
        define_views(task.con, task.inputs, texts)
        data = self._run(task, restricted)
        staged = stage_append(self.lakehouse, self.definition, data, task.stamp, fence=task.fence)
        return self._derived(task, staged, "append", f"rows were added to {' and '.join(changed)}")

    def _by_key(self, task: _Task, changed: Sequence[str]) -> Derived:
        """Recompute the keys (or partitions) that changed rows touch, from the whole inputs, and replace them."""
        columns = self._key_columns()
        truly = [key for key in changed if self._has_changed_rows(task, key)]
        if not truly:
            return self._nothing(task)
        for key in truly:
            if columns is None:
                return self._full(task, "its partitions cannot be computed in SQL")
            if key not in self.transform.keys:
                why = self.transform.untraced.get(key, "it does not carry them")
                return self._full(task, f"{key} changed and cannot be traced by {', '.join(one.name for one in columns)}: {why}")
        affected = self._find_affected(task, truly, columns or [])
        if not affected.num_rows:
            return self._nothing(task, "what changed is older than what the inputs keep, and stays as it was computed")
        data = self._recompute_affected(task, columns or [])
        what = (
            f"{affected.num_rows} {'partitions' if self.contract.incremental == 'partition' else 'keys'} of {' and '.join(truly)} changed"
        )
        if self.contract.incremental == "partition":
            records = [Record(*row.values()) for row in affected.to_pylist()]
            scope = PartitionScope.listed(records)
            staged = stage_overwrite(self.lakehouse, self.definition, data, task.stamp, partitions=scope, fence=task.fence)
            return self._derived(task, staged, "partition", what)
        staged = stage_merge(
            self.lakehouse, self.definition, data, task.stamp,
            keys=tuple(one.name for one in columns or []), delete_keys=affected, replace_keys=True, fence=task.fence,
        )  # fmt: skip
        return self._derived(task, staged, "key", what)

    def _key_columns(self) -> list[_KeyColumn] | None:
        """How the key columns, or the partitions, are compared; None when DuckDB cannot compute them."""
        if self.contract.incremental == "key":
            schema = self.definition.schema
            return [_KeyColumn(name, f"CAST({{}} AS {duck_type(schema.find_type(name))})", "{}") for name in key_columns(self.contract)]
        return self._partition_columns()

    def _partition_columns(self) -> list[_KeyColumn] | None:
        columns = []
        for name, field, kind in partition_columns(self.definition):
            template = partition_value_sql("{}", field, kind)
            if template is None:
                return None
            columns.append(_KeyColumn(name, template, partition_value_spark("{}", field, kind)))
        return columns or None

    def _places(self, key: str, columns: Sequence[_KeyColumn]) -> list[list[str]]:
        """For each place where an input is read: the compared value of each key column, over the input's columns."""
        names = list(key_columns(self.contract))
        return [[column.value(place[names.index(column.name)]) for column in columns] for place in self.transform.keys.get(key, ())]

    def _find_affected(self, task: _Task, changed: Sequence[str], columns: Sequence[_KeyColumn]) -> pa.Table:
        selects: list[str] = []
        for key in changed:
            places = self._places(key, columns)
            said = " ".join(value for place in places for value in place)
            fields = task.inputs[key].definition.schema.fields
            wanted = [field.name for field in fields if re.search(rf"\b{re.escape(field.name)}\b", said, re.IGNORECASE)]
            text = task.inputs[key].changed_sql(task.changes[key], task.before[key], wanted)
            task.con.execute(f"CREATE OR REPLACE TABLE __changed AS {text}")
            for place in places:
                values = ", ".join(f"{value} AS __k{index}" for index, value in enumerate(place))
                table = f"__keys{len(selects)}"
                task.con.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT DISTINCT {values} FROM __changed")
                selects.append(f"SELECT * FROM {table}")
        task.con.execute(f"CREATE OR REPLACE TABLE {AFFECTED} AS {' UNION '.join(selects)}")
        floor = self._last_aged(task.con, task.inputs)
        if floor is not None:
            task.con.execute(f"DELETE FROM {AFFECTED} WHERE __k0 <= {floor}")
        names = ", ".join(f"__k{index} AS {quote(column.name)}" for index, column in enumerate(columns))
        return task.con.execute(f"SELECT {names} FROM {AFFECTED}").to_arrow_table()

    def _recompute_affected(self, task: _Task, columns: Sequence[_KeyColumn]) -> pa.Table | pa.RecordBatchReader:
        """The transform over inputs held to the affected keys, its result held to them too.

        An input that is read at several places by different columns, or does not carry the key, stays whole: slower, never wrong.
        """
        texts: dict[str, str] = {}
        restricted: dict[str, Restriction] = {}
        for key, pinned in task.inputs.items():
            places = self._places(key, columns)
            if len(places) == 1:
                texts[key] = f"SELECT __input.* FROM ({pinned.rows_sql()}) AS __input {self._semi_join(task, places[0])}"
                restricted[key] = Restriction(values=self._values_in_spark(key, columns))
        define_views(task.con, task.inputs, texts)
        only = self._semi_join(task, [column.value(f"result.{quoted(column.name)}") for column in columns])
        return self._run(task, restricted, only)

    def _values_in_spark(self, key: str, columns: Sequence[_KeyColumn]) -> tuple[str, ...] | None:
        """The compared values of the one place that reads an input, as Spark says them: those of columns that are carried unchanged."""
        names, (place,) = list(key_columns(self.contract)), self.transform.keys[key]
        paths = [plain_path(place[names.index(column.name)]) for column in columns]
        if any(path is None or column.spark is None for path, column in zip(paths, columns, strict=True)):
            return None
        return tuple((column.spark or "").replace("{}", path or "") for path, column in zip(paths, columns, strict=True))

    def _semi_join(self, task: _Task, values: Sequence[str]) -> str:
        """Plain equality where no affected key is null, since DuckDB skips files and row groups by it."""
        tests = []
        for index, value in enumerate(values):
            nulls = task.con.execute(f"SELECT 1 FROM {AFFECTED} WHERE __k{index} IS NULL LIMIT 1").fetchone()
            tests.append(f"{value} {'IS NOT DISTINCT FROM' if nulls else '='} {AFFECTED}.__k{index}")
        return f"SEMI JOIN {AFFECTED} ON {' AND '.join(tests)}"

    def _stage_named_partition(
        self,
        con: duckdb.DuckDBPyConnection,
        scratch: Path,
        run_id: str,
        partition: str,
        position: Mapping[str, Any] | None,
        engine: str,
    ) -> Derived:
        """One partition from the whole inputs; the stamp has no position, so what is missing stays missing.

        A row-wise product reads the snapshots it covers: rows beyond them would be added a second time later. Others read the heads,
        since a later run replaces what it recomputes.
        """
        record = parse_partition(self.definition, partition)
        pinned = {key: position.get(key) for key in self.transform.inputs} if position and self.contract.incremental == "append" else None
        inputs = pin_inputs(self.transform.inputs, self.registry, self.lakehouse, scratch, pinned)
        for key, one in inputs.items():
            if (
                pinned
                and one.table is not None
                and one.snapshot_id is not None
                and one.table.metadata.snapshot_by_id(one.snapshot_id) is None
            ):
                raise PlatformError(
                    "position-expired", f"The snapshot {one.snapshot_id} of {key} that {self.contract.key} covers has expired.",
                    f"Run `sdp run {self.contract.key} --recompute`.",
                )  # fmt: skip
        columns = self._partition_columns()
        if columns is None:
            raise PlatformError(
                "partition-untold",
                f"The partitions of {self.contract.key} cannot be computed in SQL (bucket), so {partition} cannot be told.",
                f"Run `sdp run {self.contract.key} --recompute`.", file=self.contract.path,
            )  # fmt: skip
        task = self._task(con, run_id, inputs, None, engine)
        task = replace(task, stamp=replace(task.stamp, position=None, watermark=None, partition=partition), fence=Fence(position=position))
        values = [record[index] for index in range(len(columns))]
        floor = self._last_aged(con, inputs)
        if floor is not None and values[0] is not None and values[0] <= floor:
            raise PlatformError(
                "partition-aged", f"{partition} of {self.contract.key} is made of rows of which some have aged in an input.",
                "Recompute a later partition; what was computed of this one stays.", file=self.contract.path,
            )  # fmt: skip
        row = pa.table({f"__k{index}": pa.array([value]) for index, value in enumerate(values)})
        con.register("__named", row)
        typed = ", ".join(f"{column.value('NULL')} AS __k{index}" for index, column in enumerate(columns))  # an array of nulls has no type
        con.execute(f"CREATE OR REPLACE TABLE {AFFECTED} AS SELECT {typed} WHERE false UNION ALL SELECT * FROM __named")
        if self.contract.incremental == "partition":
            data = self._recompute_affected(task, columns)
        else:
            define_views(con, inputs, {})
            only = self._semi_join(task, [column.value(f"result.{quoted(column.name)}") for column in columns])
            data = self._run(task, only=only)
        scope = PartitionScope.named(partition)
        staged = stage_overwrite(self.lakehouse, self.definition, data, task.stamp, partitions=scope, fence=task.fence)
        return Derived(staged, "partition", f"the partition {partition} was asked for", dict(position or {}), None)


def _position_and_code(table: Table) -> tuple[Mapping[str, Any] | None, str | None]:
    """The product's position and the code version of the snapshot that carries it: a partition recomputed later carries neither."""
    position, snapshot_id = read_position_at(table)
    snapshot = table.metadata.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
    return position, summary_of(snapshot).get(CODE_VERSION) if snapshot is not None else None
