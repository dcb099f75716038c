"""From the gate to a derived product, in process over real parts: ticks, runs, checks, publication and refusal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from io_managers.iceberg import data_version
from platform_resources.config import Settings
from platform_resources.contracts.registry import Registry
from platform_resources.engines.derivation import Derivation
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import read_position
from platform_resources.runs import drain_config, transform_config
from platform_resources.sourcing import source
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.local_log import LocalLog

Load = Callable[..., Any]
CHECKED = dg.DagsterEventType.ASSET_CHECK_EVALUATION


@pytest.fixture(autouse=True)
def _short_idleness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_products.stream_assets.IDLE_SECONDS", 0.3)


def rows(settings: Settings) -> dict[str, int]:
    table = source("finance/revenue", settings=settings).arrow()
    return dict(zip(table["customer"].to_pylist(), table["amount"].to_pylist(), strict=True))


def checks(load: Load, result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """What the event log has of the checks of a run."""
    records = load("shop").instance.get_records_for_run(result.run_id, of_type=CHECKED).records
    found = [record.event_log_entry.dagster_event.asset_check_evaluation_data for record in records]
    return {evaluation.check_name: evaluation.passed for evaluation in found}


def turn(load: Load, *, expect: bool = True) -> dg.ExecuteInProcessResult | None:
    """One round as the daemon makes it: drain what waits, then compute what is behind."""
    shop, finance = load("shop"), load("finance")
    for request in shop.tick("streams").run_requests or ():
        assert shop.execute(request).success
    result = None
    for request in finance.tick("automation").run_requests or ():
        result = finance.execute(request)
        assert result.success is expect
    return result


def test_events_become_a_checked_derived_product(
    location: Load, produce: Callable[..., None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.liveness.FIRST_DELAY", 0.0)
    lakehouse = Lakehouse(settings)
    finance = location("finance")
    assert "waits for the first rows of shop/order" in finance.tick("automation").skip_message

    produce({"customer": "ann", "amount": 3}, {"customer": "bob", "amount": 4}, {"customer": "ann", "amount": 5})
    result = turn(location)
    assert result is not None
    assert rows(settings) == {"ann": 8, "bob": 4}
    assert checks(location, result) == {"one_row_per_customer": True, "nobody_spends_too_much": True}

    [materialization] = finance.events("finance/revenue")
    facts = {name: value.value for name, value in materialization.asset_materialization.metadata.items()}
    table = lakehouse.table("finance.revenue")
    assert table is not None
    assert facts["dagster/row_count"] == 2
    assert facts["dagster/table_name"] == "finance.revenue"
    assert facts["dagster/uri"] == table.location()
    assert [column.name for column in facts["dagster/column_schema"].columns] == ["customer", "amount"]
    assert facts["dagster/column_lineage"].deps_by_column["amount"] == [dg.TableColumnDep(dg.AssetKey(["shop", "order"]), "amount")]
    assert facts["sdp/snapshot_id"] == table.metadata.current_snapshot_id
    assert materialization.asset_materialization.tags["dagster/data_version"] == str(table.metadata.current_snapshot_id)
    assert facts["sdp/plan"] == "full"
    assert facts["sdp/reason"]

    # A failing blocking check: recorded, nothing published, the refused rows on their branch, the position unmoved.
    produce({"customer": "bob", "amount": 100_000})
    refused = turn(location, expect=False)
    assert refused is not None
    assert checks(location, refused) == {"one_row_per_customer": True, "nobody_spends_too_much": False}
    failure = refused.failure_data_for_node("finance__revenue").error
    assert "nobody_spends_too_much" in failure.message
    assert rows(settings) == {"ann": 8, "bob": 4}
    after = lakehouse.table("finance.revenue")
    assert after is not None
    assert after.metadata.current_snapshot_id == table.metadata.current_snapshot_id
    assert f"refused/{refused.run_id}" in after.metadata.refs
    assert read_position(after) == read_position(table)
    assert len(finance.events("finance/revenue")) == 1


def test_a_run_is_in_step_with_the_commits_it_read_before_they_were_told(
    location: Load, produce: Callable[..., None], settings: Settings
) -> None:
    """A drain tells of its commits every 15 s only; the UI must not show who read the newest one as out of step."""
    produce({"customer": "ann", "amount": 3})
    turn(location)
    produce({"customer": "bob", "amount": 4})
    shop, finance = location("shop"), location("finance")
    order = Registry.load(settings.project).get("shop/order")
    Drain(order, lakehouse=Lakehouse(settings), log=LocalLog(settings.log_path), run_id="untold", settings=settings).run(until="end")
    finance.execute(None, "finance/revenue")
    read = finance.events("finance/revenue")[-1].asset_materialization.tags["dagster/input_data_version/shop/order"]
    assert read == data_version(Lakehouse(settings).table("shop.order"))
    assert read != shop.events("shop/order")[-1].asset_materialization.tags["dagster/data_version"]


def test_what_nobody_changed_is_published_with_its_reason_only(
    location: Load, produce: Callable[..., None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce({"customer": "ann", "amount": 3})
    first = turn(location)
    assert first is not None
    finance = location("finance")
    before = finance.events("finance/revenue")[-1].asset_materialization
    again = finance.execute(None, "finance/revenue")
    assert again.success
    facts = finance.events("finance/revenue")[-1].asset_materialization
    assert facts.metadata["sdp/plan"].value == "nothing"
    assert facts.metadata["dagster/row_count"].value == 1
    assert facts.tags["dagster/data_version"] == before.tags["dagster/data_version"]
    # The checks are not shown as skipped: what the last audit found still holds, and says since which run.
    assert checks(location, again) == {"one_row_per_customer": True, "nobody_spends_too_much": True}
    finance.execute(None, "finance/revenue")
    storage, key = finance.instance.event_log_storage, dg.AssetCheckKey(dg.AssetKey(["finance", "revenue"]), "one_row_per_customer")
    last = storage.get_latest_asset_check_execution_by_key([key])[key]
    assert last.status == AssetCheckExecutionRecordStatus.SUCCEEDED
    assert last.evaluation is not None
    assert last.evaluation.metadata["sdp/standing_since"].value == first.run_id


def test_a_check_that_failed_by_mistake_stands_no_longer_when_the_mistake_is_reverted(
    location: Load, produce: Callable[..., None], project: Path
) -> None:
    produce({"customer": "ann", "amount": 3}, {"customer": "bob", "amount": 4})
    first = turn(location)
    assert first is not None
    path, name = project / "data_products/finance/revenue.yaml", "nobody_spends_too_much"
    text = path.read_text()
    path.write_text(text.replace("amount > 1000", "amount > 1"))
    for _ in range(2):  # as often as it is tried
        assert not location("finance", registry=Registry.load(project)).execute(None, "finance/revenue").success
    assert latest(location("finance").instance, name).passed is False
    path.write_text(text)
    finance = location("finance", registry=Registry.load(project))
    for _ in range(2):
        assert finance.execute(None, "finance/revenue").success
        found = latest(finance.instance, name)
        assert found.passed and found.metadata["sdp/standing_since"].value == first.run_id


def latest(instance: dg.DagsterInstance, name: str) -> Any:
    """What the newest run that was to evaluate a check of finance/revenue says of it."""
    key = dg.AssetCheckKey(dg.AssetKey(["finance", "revenue"]), name)
    return instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].evaluation


NOT_EMPTY = """\
      - name: somebody_bought
        metric: rowCount
        description: There is revenue.
        mustBeGreaterThan: 0
        severity: error
"""


def test_a_first_publication_without_rows_is_audited(
    location: Load, produce: Callable[..., None], project: Path, settings: Settings
) -> None:
    path = project / "data_products/finance/revenue.yaml"
    path.write_text(path.read_text().replace("    properties:\n", NOT_EMPTY + "    properties:\n", 1))
    produce({"amount": 3})  # an order without a customer: no revenue
    refused = turn(location, expect=False)
    assert refused is not None
    assert checks(location, refused)["somebody_bought"] is False
    assert not location("finance").events("finance/revenue")
    again = location("finance").execute(None, "finance/revenue")  # the refused write is no publication that would stand
    assert not again.success


def test_a_changed_check_audits_a_product_that_stays_empty(
    location: Load, produce: Callable[..., None], project: Path, settings: Settings
) -> None:
    produce({"amount": 3})
    first = turn(location)
    assert first is not None
    assert checks(location, first) == {"one_row_per_customer": True, "nobody_spends_too_much": True}
    path = project / "data_products/finance/revenue.yaml"
    path.write_text(path.read_text().replace("    properties:\n", NOT_EMPTY + "    properties:\n", 1))
    changed = location("finance", registry=Registry.load(project)).execute(None, "finance/revenue")
    assert not changed.success
    assert checks(location, changed)["somebody_bought"] is False


def test_a_recomputed_partition_is_published_and_makes_nothing_fresh(
    location: Load, produce: Callable[..., None], project: Path, settings: Settings
) -> None:
    path = project / "data_products/finance/revenue.yaml"
    keyed = "primaryKey: true, primaryKeyPosition: 2"
    day = f"      - {{name: day, logicalType: date, required: true, description: Day., partitioned: true, {keyed}}}\n"
    text = path.read_text().replace("properties: [customer]", "properties: [customer, day]")
    path.write_text(text.replace("      - {name: amount,", day + "      - {name: amount,"))
    query = 'select customer, cast(meta.dt as date) as day, sum(amount) as amount from shop."order" group by all'
    (project / "data_products/finance/revenue.sql").write_text(query)
    produce({"customer": "ann", "amount": 3})
    assert turn(location) is not None
    finance, table = location("finance"), Lakehouse(settings).table("finance.revenue")
    assert table is not None
    config = transform_config("finance/revenue", partition="2026-01-01")
    result = finance.execute(None, "finance/revenue", run_config=config)
    assert result.success
    after = Lakehouse(settings).table("finance.revenue")
    assert after is not None
    assert after.metadata.current_snapshot_id != table.metadata.current_snapshot_id
    assert read_position(after) == read_position(table)
    assert checks(location, result)["one_row_per_customer"] is True
    assert len(finance.events("finance/revenue")) == 1  # the first computation alone: Dagster takes a materialisation for freshness
    [told] = finance.events("finance/revenue", dg.DagsterEventType.ASSET_OBSERVATION)
    facts = told.asset_observation.metadata
    assert facts["sdp/partition"].value == "2026-01-01"
    assert facts["sdp/snapshot_id"].value == after.metadata.current_snapshot_id
    produce({"customer": "ann", "amount": 5000})
    assert location("shop").execute(location("shop").tick("streams").run_requests[0]).success
    assert not finance.execute(None, "finance/revenue", run_config=config).success  # refused by the check, like any other write


def standing(instance: dg.DagsterInstance, name: str) -> Any:
    """The result of a check of shop/order in the newest run that was to evaluate it; None when that run has none."""
    key = dg.AssetCheckKey(dg.AssetKey(["shop", "order"]), name)
    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return record.evaluation if isinstance(record.evaluation, dg.AssetCheckEvaluation) else None


def test_a_drain_without_rows_lets_the_last_results_stand(location: Load, produce: Callable[..., None]) -> None:
    produce({"amount": 3})
    shop, config = location("shop"), drain_config("drain_shop", until="end")
    first = shop.execute(None, "shop/order", run_config=config)
    assert checks(location, first) == {"amounts_are_not_absurd": True, "customers_are_named": False}
    for _ in range(2):  # what stands goes on standing, and names the run that found it
        again = shop.execute(None, "shop/order", run_config=config)
        assert checks(location, again) == {"amounts_are_not_absurd": True, "customers_are_named": False}
        assert standing(shop.instance, "customers_are_named").metadata["sdp/standing_since"].value == first.run_id


def test_a_result_that_refused_a_batch_does_not_stand(location: Load, produce: Callable[..., None]) -> None:
    produce({"customer": "ann", "amount": 3_000_000})
    shop = location("shop")
    config = {"until": "end", "skip_checks": ["amounts_are_not_absurd"]}
    refused = shop.execute(None, "shop/order", run_config=drain_config("drain_shop", until="end"))
    assert not refused.success
    assert checks(location, refused)["amounts_are_not_absurd"] is False
    resting = shop.execute(None, "shop/order", run_config=drain_config("drain_shop", until="end"))
    assert "amounts_are_not_absurd" not in checks(location, resting)  # neither as passed nor as failed a second time
    skipping = shop.execute(None, "shop/order", run_config={"ops": {"drain_shop": {"config": config}}})
    assert skipping.success
    assert checks(location, skipping) == {"customers_are_named": True}
    assert standing(shop.instance, "amounts_are_not_absurd") is None


def test_a_recomputation_can_be_asked_for(location: Load, produce: Callable[..., None], settings: Settings) -> None:
    produce({"customer": "ann", "amount": 3})
    turn(location)
    finance = location("finance")
    result = finance.execute(None, "finance/revenue", run_config=transform_config("finance/revenue", recompute=True))
    assert result.success
    assert finance.events("finance/revenue")[-1].asset_materialization.metadata["sdp/plan"].value == "full"
    assert rows(settings) == {"ann": 3}


def test_automation_misses_no_commit_that_lands_while_the_product_is_computed(
    location: Load, produce: Callable[..., None], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce({"customer": "ann", "amount": 3})
    shop, finance = location("shop"), location("finance")
    shop.execute(shop.tick("streams").run_requests[0])
    [request] = finance.tick("automation").run_requests
    # While the run is under way, more orders land: the run has read its inputs' heads before.
    original = Derivation.stage

    def stage_then_more(self: Derivation, **given: Any) -> Any:
        derived = original(self, **given)
        produce({"customer": "ann", "amount": 4})
        assert shop.execute(shop.tick("streams").run_requests[0]).success
        return derived

    monkeypatch.setattr(Derivation, "stage", stage_then_more)
    assert finance.execute(request).success
    monkeypatch.setattr(Derivation, "stage", original)
    assert rows(settings) == {"ann": 3}
    time.sleep(1)  # the promised frequency
    [request] = finance.tick("automation").run_requests
    assert finance.execute(request).success
    assert rows(settings) == {"ann": 7}


def test_a_stream_reports_its_commits_checks_and_totals(location: Load, produce: Callable[..., None], settings: Settings) -> None:
    produce({"customer": "ann", "amount": 3}, {"amount": 4})
    shop = location("shop")
    [request] = shop.tick("streams").run_requests
    result = shop.execute(request)
    assert result.success
    [entry] = shop.events("shop/order")
    facts = {name: value.value for name, value in entry.asset_materialization.metadata.items()}
    table = Lakehouse(settings).table("shop.order")
    assert table is not None
    assert facts["dagster/row_count"] == 2
    assert facts["sdp/rows"] == 2
    assert facts["sdp/snapshot_id"] == table.metadata.current_snapshot_id
    assert facts["sdp/position"] == {"shop.order.v1": {"0": 2}}
    assert checks(location, result) == {"amounts_are_not_absurd": True, "customers_are_named": False}
    [observation] = shop.events("shop/order", dg.DagsterEventType.ASSET_OBSERVATION)
    totals = observation.asset_observation.metadata["sdp/report"].value
    assert (totals["read"], totals["inserted"], totals["quarantined"]) == (2, 2, 0)
    assert not shop.tick("streams").run_requests


def test_an_aggregate_check_stops_a_stream_and_keeps_its_batch(location: Load, produce: Callable[..., None], settings: Settings) -> None:
    produce({"customer": "ann", "amount": 3_000_000})
    shop = location("shop")
    result = shop.execute(shop.tick("streams").run_requests[0])
    assert not result.success
    assert checks(location, result)["amounts_are_not_absurd"] is False
    message = result.failure_data_for_node("drain_shop").error.message
    assert "amounts_are_not_absurd" in message
    assert "--skip-check" in message
    table = Lakehouse(settings).table("shop.order")
    assert table is not None
    assert f"refused/{result.run_id}" in table.metadata.refs
    assert source("shop/order", settings=settings).arrow().num_rows == 0
    assert not shop.tick("streams").run_requests  # it rests; hammering would only write the same mail again
    again = shop.execute(None, "shop/order", run_config={"ops": {"drain_shop": {"config": {"skip_checks": ["amounts_are_not_absurd"]}}}})
    assert again.success
    assert source("shop/order", settings=settings).arrow().num_rows == 1


def test_a_partition_that_does_not_exist_is_one_sentence(location: Load, produce: Callable[..., None], project: Path) -> None:
    produce({"customer": "ann", "amount": 3})
    turn(location)
    result = location("finance").execute(None, "finance/revenue", run_config=transform_config("finance/revenue", partition="2026-01-01"))
    assert not result.success
    error = result.failure_data_for_node("finance__revenue").error
    assert error.cls_name == "Failure"
