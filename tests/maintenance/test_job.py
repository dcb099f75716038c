"""The maintenance job as the platform runs it: it looks, does what the look names, tells it as facts, and fails for what failed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from data_products.assembly import domain_definitions
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.locks import hold
from platform_resources.parts import Parts
from platform_resources.runs import maintain_lock, run_lock
from tests.maintenance.tables import append


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), project=SOURCE_ROOT)


@pytest.fixture
def definitions(settings: Settings) -> dg.Definitions:
    return domain_definitions("data_products.platform", settings=settings)


def fill(settings: Settings) -> str:
    """Small files in a product's table."""
    definition = table_definition(Registry.load(settings.project).get("activity/top_pages"))
    for number in range(6):
        append(Lakehouse(settings), definition, ("enwiki", date(2026, 1, 1), number, number, "Title", 0, 1, 1, 0, 0, 5))
    return definition.identifier


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    ops = {"platform__table_maintenance": {"config": config}} if config else {}
    return definitions.resolve_job_def("maintenance").execute_in_process(instance=instance, raise_on_error=False, run_config={"ops": ops})


def rows_of(settings: Settings, name: str) -> list[dict[str, object]]:
    table = Lakehouse(settings).table(f"platform.{name}")
    assert table is not None
    return arrow_table(table).to_pylist()


def test_a_table_in_need_is_seen_maintained_and_told(settings: Settings, definitions: dg.Definitions) -> None:
    name = fill(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(definitions, instance)
        assert result.success
        assert {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()} == {  # type: ignore[union-attr]
            "platform/table_health", "platform/table_maintenance",
        }  # fmt: skip
        looked = {row["table_name"]: row for row in rows_of(settings, "table_health")}
        assert [need["action"] for need in looked[name]["needs"]] == ["compact"]  # type: ignore[attr-defined]
        assert looked[name]["small_files"] == looked[name]["files"] == 6
        facts = {(row["table_name"], row["action"]): row for row in rows_of(settings, "table_maintenance")}
        packed = facts[name, "compact"]
        assert (packed["outcome"], packed["files_before"], packed["files_after"]) == ("done", 6, 1)
        assert packed["run_id"] == result.run_id and "6 are under half of 128 MiB" in str(packed["reason"])
        assert facts[name, "orphans"]["outcome"] == "done"
        assert run(definitions, instance).success
    again = [row for row in rows_of(settings, "table_maintenance") if row["table_name"] == name]
    assert len(again) == 2  # nothing is done twice, nor the folder listed again on the same day


def test_one_table_s_fault_stops_no_other_and_fails_the_run_with_one_sentence(settings: Settings, definitions: dg.Definitions) -> None:
    good, broken = fill(settings), "trust_safety.reverts"
    definition = table_definition(Registry.load(settings.project).get("trust_safety/reverts"))
    table = Lakehouse(settings).create(definition)
    table.io.delete(table.metadata_location)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(definitions, instance)
        assert not result.success
        (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
        said = failure.step_failure_data.user_failure_data.description  # type: ignore[union-attr]
        assert said.startswith("Maintenance of 1 table failed") and broken in said
        record = instance.get_latest_materialization_event(dg.AssetKey(["platform", "table_maintenance"]))
        assert record is not None and record.run_id == result.run_id  # its facts are published
    facts = {(row["table_name"], row["action"]): row["outcome"] for row in rows_of(settings, "table_maintenance")}
    assert facts[good, "compact"] == "done" and facts[broken, "look"] == "failed"


def test_the_tables_can_be_named_and_out_of_time_nothing_is_begun(settings: Settings, definitions: dg.Definitions) -> None:
    name = fill(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(definitions, instance, tables=[name], seconds=0.0).success
        assert {row["outcome"] for row in rows_of(settings, "table_maintenance") if row["table_name"] == name} == {"postponed"}
        assert not run(definitions, instance, tables=["activity.top_page"]).success


def test_two_maintainers_of_one_table_do_not_work_twice(settings: Settings, definitions: dg.Definitions) -> None:
    name = fill(settings)
    with hold(settings.locks_path, maintain_lock(name), "another"), dg.DagsterInstance.ephemeral() as instance:
        assert run(definitions, instance).success
    (fact,) = [row for row in rows_of(settings, "table_maintenance") if row["table_name"] == name]
    assert fact["outcome"] == "waits" and "another" in str(fact["reason"])


def test_the_schedule_asks_for_a_run_unless_one_is_at_work(settings: Settings, definitions: dg.Definitions, tmp_path: Path) -> None:
    schedule = definitions.resolve_schedule_def("maintenance")
    job = definitions.resolve_job_def("maintenance")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        def tick() -> dg.RunRequest | dg.SkipReason:
            context = dg.build_schedule_context(instance, repository_def=definitions.get_repository_def())
            data = schedule.evaluate_tick(context)
            return data.run_requests[0] if data.run_requests else dg.SkipReason(data.skip_message)

        assert isinstance(tick(), dg.RunRequest)
        assert job.tags["sdp/kind"] == "maintain"  # a share of the queue of its own
        selected = frozenset(dg.AssetKey(["platform", one]) for one in ("table_health", "table_maintenance"))
        run_ = instance.create_run_for_job(job, asset_selection=selected, status=DagsterRunStatus.STARTED)
        with hold(Parts(settings).settings.locks_path, run_lock("platform/table_maintenance"), run_.run_id):
            skipped = tick()
        assert isinstance(skipped, dg.SkipReason) and run_.run_id in str(skipped.skip_message)
