"""The IO manager over a real catalog: every engine's value becomes one audited commit, every annotation loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from io_managers.iceberg import IcebergIOManager
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import connect
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.catalog_server import CatalogUnreachable
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.file_io import StoreError
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.staging import publish, stage_append, stage_empty
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.parts import Parts
from platform_resources.sourcing import source

KEY = dg.AssetKey(["finance", "revenue"])
ROWS = pa.table({"customer": ["ann", "bob"], "amount": [8, 4]})
DAILY = """\
    properties:
      - {name: customer, logicalType: string, required: true, description: Who ordered., primaryKey: true, primaryKeyPosition: 1}
      - {name: day, logicalType: date, required: true, description: Day., partitioned: true, primaryKey: true, primaryKeyPosition: 2}
"""


@pytest.fixture
def parts(project: Path, settings: Settings) -> Parts:
    return Parts(settings, registry=Registry.load(project))


@pytest.fixture
def write(parts: Parts, instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Materialise finance/revenue with a value, as an asset of a team's own would."""

    def materialize(value: Any, *, partition: str | None = None) -> dg.ExecuteInProcessResult:
        dated = dg.StaticPartitionsDefinition([partition]) if partition else None

        @dg.asset(key=KEY, io_manager_key="io_manager", partitions_def=dated)
        def revenue() -> Any:
            return value

        return dg.materialize(
            [revenue], resources={"io_manager": IcebergIOManager(parts)}, instance=instance, partition_key=partition, raise_on_error=False
        )

    return materialize


def stored(settings: Settings) -> list[dict[str, Any]]:
    return sorted(source("finance/revenue", settings=settings).arrow().to_pylist(), key=str)


def as_relation(settings: Settings) -> duckdb.DuckDBPyRelation:
    return connect(settings).from_arrow(ROWS)


@pytest.mark.parametrize(
    "value",
    [
        lambda _: ROWS,
        lambda _: ROWS.to_reader(),
        lambda _: pl.from_arrow(ROWS).lazy(),  # type: ignore[union-attr]
        lambda _: pl.from_arrow(ROWS),
        as_relation,
    ],
    ids=["arrow table", "arrow reader", "polars lazy", "polars frame", "duckdb relation"],
)
def test_every_engines_value_is_stored_in_one_commit(
    write: Callable[..., Any], settings: Settings, value: Callable[[Settings], Any]
) -> None:
    result = write(value(settings))
    assert result.success
    assert stored(settings) == ROWS.to_pylist()
    table = Lakehouse(settings).table("finance.revenue")
    assert table is not None
    assert len(table.metadata.snapshots) == 2  # the empty first one, and this
    [materialization] = result.asset_materializations_for_node("finance__revenue")
    facts = {name: entry.value for name, entry in materialization.metadata.items()}
    assert facts["sdp/snapshot_id"] == table.metadata.current_snapshot_id
    assert (facts["dagster/row_count"], facts["sdp/rows"], facts["dagster/storage_kind"]) == (2, 2, "iceberg")
    assert materialization.tags is not None
    assert materialization.tags["dagster/data_version"] == str(table.metadata.current_snapshot_id)


@pytest.mark.parametrize(
    ("annotation", "count"),
    [
        (pl.LazyFrame, lambda value: value.collect().height),
        (pa.Table, lambda value: value.num_rows),
        (pa.RecordBatchReader, lambda value: value.read_all().num_rows),
        (duckdb.DuckDBPyRelation, lambda value: len(value.fetchall())),
    ],
)
def test_an_input_of_another_location_is_loaded_as_annotated(
    write: Callable[..., Any], parts: Parts, instance: dg.DagsterInstance, annotation: type, count: Callable[[Any], int]
) -> None:
    assert write(ROWS).success

    def body(revenue: Any) -> None:
        assert isinstance(revenue, annotation)
        assert count(revenue) == 2

    body.__annotations__["revenue"] = annotation
    reader = dg.asset(ins={"revenue": dg.AssetIn(key=KEY)}, name="reader")(body)
    result = dg.materialize(
        [reader, dg.AssetSpec(KEY).with_io_manager_key("io_manager")],
        resources={"io_manager": IcebergIOManager(parts)},
        instance=instance,
        selection=["reader"],
    )
    assert result.success


def test_an_annotation_that_no_engine_gives_is_one_sentence(write: Callable[..., Any], parts: Parts, instance: dg.DagsterInstance) -> None:
    @dg.asset(ins={"revenue": dg.AssetIn(key=KEY)})
    def reader(revenue: dict) -> None:  # type: ignore[type-arg]
        raise AssertionError

    result = dg.materialize(
        [reader, dg.AssetSpec(KEY).with_io_manager_key("io_manager")],
        resources={"io_manager": IcebergIOManager(parts)},
        instance=instance,
        selection=["reader"],
        raise_on_error=False,
    )
    assert "annotated dict, which the lakehouse cannot load" in failure(result, "reader")


def failure(result: dg.ExecuteInProcessResult, node: str = "finance__revenue") -> str:
    data = result.failure_data_for_node(node)
    assert data is not None
    assert data.error is not None
    return data.error.to_string()


def test_data_that_breaks_a_blocking_check_is_kept_aside(write: Callable[..., Any], settings: Settings) -> None:
    assert write(ROWS).success
    result = write(pa.table({"customer": ["ann", "ann"], "amount": [1, 2]}))
    assert "one_row_per_customer" in failure(result)
    assert stored(settings) == ROWS.to_pylist()
    table = Lakehouse(settings).table("finance.revenue")
    assert table is not None
    assert f"refused/{result.run_id}" in table.metadata.refs


def test_data_that_breaks_the_contract_is_one_sentence_and_leaves_nothing(write: Callable[..., Any], settings: Settings) -> None:
    assert write(ROWS).success
    for wrong in (
        pa.table({"customer": ["ann", None], "amount": [1, 2]}),
        pa.table({"customer": ["ann"]}),
        pa.table({"customer": ["ann"], "amount": ["a lot"]}),
    ):
        result = write(wrong)
        assert not result.success
        assert "amount" in failure(result) or "customer" in failure(result)
    assert "which the lakehouse cannot store" in failure(write({"customer": "ann"}))
    assert stored(settings) == ROWS.to_pylist()


def test_rows_outside_the_partition_are_refused_and_no_rows_clear_it(
    project: Path, settings: Settings, instance: dg.DagsterInstance, write: Callable[..., Any]
) -> None:
    path = project / "data_products/finance/revenue.yaml"
    before, rest = path.read_text().split("    properties:\n")
    path.write_text(before + DAILY + rest.split("\n", 1)[1])
    daily = IcebergIOManager(Parts(settings, registry=Registry.load(project)))

    def put(*rows: tuple[str, str, int], partition: str) -> dg.ExecuteInProcessResult:
        @dg.asset(key=KEY, io_manager_key="io_manager", partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
        def revenue() -> pa.Table:
            names = {"customer": [r[0] for r in rows], "day": [r[1] for r in rows], "amount": [r[2] for r in rows]}
            schema = pa.schema([("customer", pa.string()), ("day", pa.string()), ("amount", pa.int64())])
            table = pa.table(names, schema=schema)
            return table.set_column(1, "day", table["day"].cast(pa.date32()))

        resources = {"io_manager": daily}
        return dg.materialize([revenue], resources=resources, instance=instance, partition_key=partition, raise_on_error=False)

    assert put(("ann", "2026-01-01", 1), partition="2026-01-01").success
    assert put(("ann", "2026-01-02", 2), partition="2026-01-02").success
    assert put(("bob", "2026-01-01", 3), partition="2026-01-01").success
    assert [(row["customer"], row["amount"]) for row in stored(settings)] == [("ann", 2), ("bob", 3)]
    stray = put(("eve", "2026-01-03", 4), partition="2026-01-01")
    assert "2026-01-01" in failure(stray)
    assert put(partition="2026-01-01").success
    assert [(row["customer"], row["amount"]) for row in stored(settings)] == [("ann", 2)]


@pytest.mark.parametrize("expires", [False, True])
def test_a_retried_step_whose_commit_had_happened_writes_nothing_again(
    parts: Parts, settings: Settings, instance: dg.DagsterInstance, expires: bool
) -> None:
    definition = table_definition(parts.registry.get("finance/revenue"))

    @dg.asset(key=KEY, io_manager_key="flaky", retry_policy=dg.RetryPolicy(max_retries=1))
    def revenue() -> pa.Table:
        return ROWS

    class Flaky(IcebergIOManager):
        calls = 0

        def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
            super().handle_output(context, obj)
            Flaky.calls += 1
            if Flaky.calls == 1:
                if expires:  # until the retry a hundred others commit
                    publish(stage_empty(parts.lakehouse, definition, Stamp("other", "another")))
                    expire_snapshots(parts.lakehouse, definition.identifier, keep=1)
                raise RuntimeError("the answer to the commit was lost")

    assert dg.materialize([revenue], resources={"flaky": Flaky(parts)}, instance=instance).success
    assert Flaky.calls == 2
    table = Lakehouse(settings).table("finance.revenue")
    assert table is not None
    assert len(table.metadata.snapshots) == (1 if expires else 2)


@pytest.mark.parametrize(
    ("fault", "writes"),
    [
        (StoreError("store-unreachable", "503."), 2),
        (CatalogUnreachable.at("db:5432", "refused"), 2),
        (StoreError("store-refused", "403."), 1),
    ],
)
def test_an_outage_is_retried_and_a_refusal_is_not(
    parts: Parts, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, fault: PlatformError, writes: int
) -> None:
    opened: list[str] = []
    real = PyArrowFileIO.new_output

    def output(io: Any, location: str) -> Any:
        if location.endswith(".parquet"):
            opened.append(location)
            if len(opened) == 1:
                raise fault
        return real(io, location)

    monkeypatch.setattr(PyArrowFileIO, "new_output", output)

    @dg.asset(key=KEY, io_manager_key="io_manager", retry_policy=dg.RetryPolicy(max_retries=1))
    def revenue() -> pa.Table:
        return ROWS

    resources = {"io_manager": IcebergIOManager(parts)}
    result = dg.materialize([revenue], resources=resources, instance=instance, raise_on_error=False)
    assert (result.success, len(opened)) == (writes == 2, writes)


def test_what_is_published_was_audited_on_the_head_it_lands_on(
    write: Callable[..., Any], parts: Parts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer commits between audit and commit: the write is staged and audited again, not rebased in silence."""
    import io_managers.iceberg as module

    assert write(ROWS).success
    audited, original = [], module.audit_staged

    def audit_and_be_overtaken(given: Parts, contract: Any, staged: Any) -> Any:
        outcomes = original(given, contract, staged)
        audited.append(staged.snapshot_id)
        if len(audited) == 1:
            definition = table_definition(contract)
            publish(stage_append(given.lakehouse, definition, pa.table({"customer": ["cid"], "amount": [1]}), Stamp("other")))
        return outcomes

    monkeypatch.setattr(module, "audit_staged", audit_and_be_overtaken)
    assert write(pa.table({"customer": ["dan"], "amount": [2]})).success
    table = Lakehouse(settings).table("finance.revenue")
    assert table is not None
    assert table.metadata.current_snapshot_id == audited[-1]
    assert len(audited) == 2
    assert stored(settings) == [{"customer": "dan", "amount": 2}]


def test_a_contracts_merge_rule_reaches_the_table(project: Path, settings: Settings, instance: dg.DagsterInstance) -> None:
    """The newest row of a key wins, a marked one deletes, and what fails its check stays on a branch; positions on read as declared."""
    path = project / "data_products" / "finance" / "revenue.yaml"
    declared = (
        "      - {property: incremental, value: key}\n"
        "      - {property: mergeStrategy, value: merge-on-read}\n"
        "      - {property: sequence, value: [step]}\n"
        "      - {property: deleteMarker, value: kind=gone}\n"
    )
    text = path.read_text().replace("      - {property: writeMode, value: overwrite}\n", declared)
    more = "      - {name: step, logicalType: integer, description: Step.}\n      - {name: kind, logicalType: string, description: Kind.}\n"
    path.write_text(text.replace("slaProperties:", more + "slaProperties:"))
    manager = IcebergIOManager(Parts(settings, registry=Registry.load(project)))

    def put(*rows: tuple[str, int, int, str | None]) -> dg.ExecuteInProcessResult:
        @dg.asset(key=KEY, io_manager_key="io_manager")
        def revenue() -> pa.RecordBatchReader:
            names = ("customer", "amount", "step", "kind")
            schema = pa.schema([("customer", pa.string()), ("amount", pa.int64()), ("step", pa.int64()), ("kind", pa.string())])
            return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema).to_reader()

        return dg.materialize([revenue], resources={"io_manager": manager}, instance=instance, raise_on_error=False)

    def found() -> list[tuple[Any, ...]]:
        return sorted(tuple(row.values())[:3] for row in source("finance/revenue", settings=settings).arrow().to_pylist())

    assert put(("ann", 1, 1, None), ("ann", 2, 2, None), ("bob", 4, 5, None), ("cid", 7, 1, None)).success
    assert found() == [("ann", 2, 2), ("bob", 4, 5), ("cid", 7, 1)]
    result = put(("ann", 3, 3, None), ("bob", 9, 4, None), ("cid", 0, 2, "gone"), ("dan", 5, 1, None))
    assert result.success and found() == [("ann", 3, 3), ("bob", 4, 5), ("dan", 5, 1)]
    table = Lakehouse(settings).table("finance.revenue")
    assert table is not None and table.metadata.snapshots[-1].summary is not None
    summary = table.metadata.snapshots[-1].summary.additional_properties
    assert (summary["sdp.merge"], summary["added-position-deletes"]) == ('{"ignored":1}', "2")
    [materialization] = result.asset_materializations_for_node("finance__revenue")
    assert materialization.metadata["dagster/row_count"].value == 3
    assert "nobody_spends_too_much" in failure(put(("ann", 5000, 9, None)))
    assert found() == [("ann", 3, 3), ("bob", 4, 5), ("dan", 5, 1)]
    fresh = Lakehouse(settings).table("finance.revenue")
    assert fresh is not None
    [branch] = [name for name in fresh.metadata.refs if name.startswith("refused/")]
    kept = (
        connect(settings).sql(f"select customer, amount from {duckdb_scan_sql(fresh, fresh.metadata.refs[branch].snapshot_id)}").fetchall()
    )
    assert sorted(kept) == [("ann", 5000), ("bob", 4), ("dan", 5)]
