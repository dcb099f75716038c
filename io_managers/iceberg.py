"""How an asset's value becomes an Iceberg commit, and how a product is loaded as an input.

One IO manager for every engine, routed by the type of the value. What a write means (law 1: one commit, law 4: the contract, law 5:
nothing unaudited) is `platform_resources.lakehouse`'s; here it is tied to a Dagster output and told to the UI. Computing rows is not
done here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
from pyiceberg.table import Table

from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.specs import column_schema
from platform_resources.engines.audit import CheckOutcome, audit
from platform_resources.engines.duck import session
from platform_resources.engines.spark import to_reader
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.files import live_rows
from platform_resources.lakehouse.staging import Commit, PartitionScope, StagedWrite, publish, stage_append, stage_merge, stage_overwrite
from platform_resources.lakehouse.stamp import CODE_VERSION, Stamp, has_committed, last_change, read_position, read_stamp
from platform_resources.parts import Parts
from platform_resources.runs import code_version, look_at, refused_branch
from platform_resources.sourcing import Source, source

COLUMN_LINEAGE = "dagster/column_lineage"
OUTAGES = frozenset({"store-unreachable", "catalog-unreachable", "log-unreachable"})  # codes of faults that pass by themselves


class BlockedError(Exception):
    """A staged write does not keep a blocking check; `outcomes` are those that failed."""

    def __init__(self, outcomes: list[CheckOutcome]) -> None:
        self.outcomes = outcomes
        super().__init__(", ".join(outcome.check.name for outcome in outcomes))


class IcebergIOManager(dg.IOManager):
    """Publishes what an asset returns as one audited commit, and loads a product in the type the input is annotated with.

    Accepts a `StagedWrite` (already staged and audited by a derivation), a DuckDB relation, a Polars LazyFrame or DataFrame, a Spark
    DataFrame, an Arrow table or record batch reader, and None (nothing to publish).

    Raises:
        dagster.Failure: the contract refuses the data, or a blocking check fails; nothing is published.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Commit and report: one output, at most one snapshot."""
        contract = self._parts.registry.get(_product(context.asset_key))
        try:
            staged = obj if obj is None or isinstance(obj, StagedWrite) else self._stage(context, contract, obj)
            metadata = publish_staged(self._parts, contract, staged, context.run_id, audited=staged is obj)
            self._tell_versions(context, contract)
        except PlatformError as error:
            raise failure_of(error) from None
        lineage = (context.definition_metadata or {}).get(COLUMN_LINEAGE)
        context.add_output_metadata({**metadata, **({COLUMN_LINEAGE: lineage} if lineage is not None else {})})

    def _tell_versions(self, context: dg.OutputContext, contract: Contract) -> None:
        """Tell Dagster the version of the data, known only now that it is committed, and those of the inputs it was made from.

        Dagster takes an input's version from its last event; a stream has commits that are newer than that, and a run that has read
        them would be shown as out of step with its input.
        """
        try:
            step = context.step_context
        except dg.DagsterInvariantViolationError:
            return  # a context built by hand
        table = self._parts.lakehouse.table(contract.identifier)
        version = data_version(table) if table is not None else None
        if table is None or version is None:
            return
        step.set_data_version(context.asset_key, dg.DataVersion(version))
        for product, snapshot_id in (read_position(table) or {}).items():
            key = dg.AssetKey(product.split("/"))
            told = (step.input_asset_records or {}).get(key)
            source_table = self._parts.lakehouse.table(self._parts.registry.get(product).identifier) if told is not None else None
            read = data_version(source_table, at=snapshot_id) if source_table is not None else None
            if told is not None and read is not None:
                told.data_version = dg.DataVersion(read)

    def _stage(self, context: dg.OutputContext, contract: Contract, obj: Any) -> StagedWrite | None:
        """Stage a value as the contract's write mode says; None when this run has already committed it."""
        definition, partition = table_definition(contract), context.partition_key if context.has_partition_key else None
        table = self._parts.lakehouse.table(contract.identifier)
        if table is not None and has_committed(table, context.run_id, partition):
            return None
        stamp = Stamp(
            run_id=context.run_id, code_version=code_version(contract.fingerprint), contract_version=contract.version, partition=partition
        )
        data = to_arrow(obj)
        if definition.write_mode == "append":
            return stage_append(self._parts.lakehouse, definition, data, stamp)
        if definition.write_mode == "merge":
            return stage_merge(self._parts.lakehouse, definition, data, stamp, keys=definition.primary_key)
        if partition is not None:
            scope = PartitionScope.named(partition)
        else:
            scope = PartitionScope.present() if definition.partition_spec.fields else PartitionScope.table()
        return stage_overwrite(self._parts.lakehouse, definition, data, stamp, partitions=scope)

    def load_input(self, context: dg.InputContext) -> Any:
        """The product in the type of the input's annotation: LazyFrame, DuckDB relation, Arrow table or reader.

        Raises:
            dagster.Failure: the product does not exist, or the annotation is none of these.
        """
        wanted = context.dagster_type.typing_type
        key = _product(context.asset_key)
        try:
            if _is_spark_frame(wanted):
                return source(key, settings=self._parts.settings, registry=self._parts.registry).spark()
            if wanted not in _LOADERS:
                raise _input_type_unknown(key, wanted)
            return _LOADERS[wanted](source(key, settings=self._parts.settings, registry=self._parts.registry))
        except PlatformError as error:
            raise failure_of(error) from None


class _Audit:
    """The audit of one write, again for each restaging, never twice for the same: what was audited is what is published.

    `known` is the snapshot that the asset has audited itself, and yielded the results of.
    """

    def __init__(self, parts: Parts, contract: Contract, run_id: str, *, known: int | None) -> None:
        self._parts, self._contract, self._run_id, self._known = parts, contract, run_id, known

    def __call__(self, staged: StagedWrite) -> None:
        if staged.snapshot_id == self._known or stands_audited(staged):  # restaging changes the id
            return
        failed = blocking_failures(audit_staged(self._parts, self._contract, staged))
        if failed:
            staged.refuse(refused_branch(self._run_id))
            raise BlockedError(failed)
        self._known = staged.snapshot_id


def publish_staged(parts: Parts, contract: Contract, staged: StagedWrite | None, run_id: str, *, audited: bool) -> dict[str, Any]:
    """Commit a staged write; what the UI learns of it.

    Args:
        parts: where it goes.
        contract: the product.
        staged: the write; None for "nothing", which also is what a retry finds whose commit had already happened.
        run_id: names the branch of a refused write.
        audited: the write was audited as it is staged; it is audited anew only on another head.

    Raises:
        dagster.Failure: a blocking check fails; nothing is published.
    """
    if staged is None:
        table = parts.lakehouse.table(contract.identifier)
        return {} if table is None else standing_metadata(contract, table)
    try:
        commit = publish(staged, _Audit(parts, contract, run_id, known=staged.snapshot_id if audited else None))
    except BlockedError as blocked:  # the write is kept on its branch
        raise refusal(contract, run_id, blocked.outcomes) from None
    except BaseException:  # a cancelled run too leaves no files behind
        staged.discard()
        raise
    return commit_metadata(contract, commit, staged.table.location())


_LOADERS: Mapping[Any, Callable[[Source], Any]] = {
    pl.LazyFrame: Source.polars,
    duckdb.DuckDBPyRelation: Source.duckdb,
    pa.Table: Source.arrow,
    pa.RecordBatchReader: lambda product: product.arrow().to_reader(),
}


def _is_spark_frame(kind: Any) -> bool:
    """Told by its name, so that Spark is imported by those alone who use it."""
    return getattr(kind, "__name__", "") == "DataFrame" and str(getattr(kind, "__module__", "")).startswith("pyspark.sql")


def _input_type_unknown(key: str, wanted: Any) -> PlatformError:
    return PlatformError(
        "input-type-unknown",
        f"The input {key} is annotated {getattr(wanted, '__name__', wanted)}, which the lakehouse cannot load.",
        "Annotate it polars.LazyFrame, duckdb.DuckDBPyRelation, pyarrow.Table, pyarrow.RecordBatchReader or pyspark.sql.DataFrame.",
    )


def to_arrow(value: Any) -> pa.Table | pa.RecordBatchReader:
    """The value as Arrow, batch by batch where its engine can.

    Raises:
        PlatformError: `output-type-unknown`.
    """
    if isinstance(value, pa.Table | pa.RecordBatchReader):
        return value
    if isinstance(value, duckdb.DuckDBPyRelation):
        return value.to_arrow_reader()
    if isinstance(value, pl.LazyFrame):
        return value.collect(engine="streaming").to_arrow()
    if isinstance(value, pl.DataFrame):
        return value.to_arrow()
    if any(_is_spark_frame(kind) for kind in type(value).__mro__):
        return to_reader(value)
    raise PlatformError(
        "output-type-unknown",
        f"The asset returned {type(value).__name__}, which the lakehouse cannot store.",
        "Return a DuckDB relation, a Polars LazyFrame, a Spark DataFrame, or an Arrow table or record batch reader.",
    )


def commit_metadata(contract: Contract, commit: Commit, location: str) -> dict[str, Any]:
    """What the UI and other programs learn of one commit. Row counts are rows, sizes bytes."""
    return {
        **table_facts(contract, location),
        "dagster/row_count": commit.table_rows,
        "sdp/snapshot_id": commit.snapshot_id,
        "sdp/rows": commit.rows,
        "sdp/data_files": commit.data_files,
        "sdp/bytes": commit.bytes,
    }


def standing_metadata(contract: Contract, table: Table) -> dict[str, Any]:
    """The same facts when nothing was published: those of the table's head."""
    head = table.current_snapshot()
    summary: Mapping[str, str] = head.summary.additional_properties if head is not None and head.summary is not None else {}
    rows = {"dagster/row_count": live_rows(summary)} if "total-records" in summary else {}
    return {**table_facts(contract, table.location()), **rows, **({"sdp/snapshot_id": head.snapshot_id} if head is not None else {})}


def table_facts(contract: Contract, location: str) -> dict[str, Any]:
    """What holds of a product's table at every commit."""
    return {
        "dagster/column_schema": column_schema(contract),
        "dagster/table_name": contract.identifier,
        "dagster/storage_kind": "iceberg",
        "dagster/uri": location,
    }


def audit_staged(parts: Parts, contract: Contract, staged: StagedWrite) -> list[CheckOutcome]:
    """Every check of the contract on the written but uncommitted table."""
    with session(parts.settings) as con:
        return audit(con, staged, contract)


def stands_audited(staged: StagedWrite) -> bool:
    """Whether there is nothing to check: the write moves only position or watermark, and the rows were published under these same checks.

    Both are needed: a first publication without rows, or one under changed checks, has not been audited by anybody.
    """
    made_by, _ = read_stamp(staged.table, CODE_VERSION)
    return staged.operation == "append" and staged.rows == 0 and made_by == staged.stamp.code_version


def blocking_failures(outcomes: list[CheckOutcome]) -> list[CheckOutcome]:
    """Failed checks that keep the data from being published."""
    return [outcome for outcome in outcomes if outcome.check.blocking and not outcome.passed]


def refusal(contract: Contract, run_id: str, failed: list[CheckOutcome]) -> dg.Failure:
    """The failure of a run whose data was not published."""
    said = "; ".join(f"{o.check.name} ({o.error or f'measured {o.measured:g}'})" for o in failed)
    return dg.Failure(
        description=f"{contract.key} was not published: {said}. The refused rows are kept on branch {refused_branch(run_id)}. "
        f"Look at them with `{look_at(contract.identifier, refused_branch(run_id))}`.",
        metadata={"sdp/code": "check-failed", "sdp/refused_branch": refused_branch(run_id), "sdp/checks": [o.check.name for o in failed]},
        allow_retries=False,
    )


def failure_of(error: PlatformError) -> dg.Failure:
    """A fault as Dagster shows it: the sentence, not a stack trace. An outage may pass; a retry mends nothing that a user gave wrong."""
    place = {"message": error.message, "remedy": error.remedy, "file": error.file, "line": error.line}
    return dg.Failure(
        description=str(error),
        metadata={"sdp/code": error.code, "sdp/error": dg.MetadataValue.json(place)},
        allow_retries=error.code in OUTAGES,
    )


def _product(key: dg.AssetKey) -> str:
    return key.to_user_string()


def data_version(table: Table, at: int | None = None) -> str | None:
    """The snapshot that last added or removed a row, up to the snapshot `at`, as text: heartbeats, moved positions and compaction make no
    new version of the data.
    """
    changed = last_change(table, at)
    return None if changed is None else str(changed)
