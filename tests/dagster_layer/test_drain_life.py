"""The life of a drain as a run: signals, death, locks, giving way, and how often it speaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from data_products.stream_assets import REPORT_SECONDS, Reporter
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.locks import hold, holder
from platform_resources.parts import Parts
from platform_resources.runs import drain_config, drain_lock, drain_tags
from platform_resources.sourcing import source
from platform_resources.streams.ingestion import DrainCommit, DrainReport
from sensors import liveness

Load = Callable[..., Any]
ORDER = "shop/order"

RUNNER = """
import sys
import dagster as dg
from data_products.assembly import domain_definitions
from platform_resources.runs import drain_config, drain_tags

definitions = domain_definitions("data_products.shop")
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    definitions.get_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["shop", "order"])],
        tags=drain_tags(["shop/order"]),
        run_config=drain_config("drain_shop", until=sys.argv[2]),
        raise_on_error=False,
    )
"""


@pytest.fixture
def start(settings: Settings, instance: dg.DagsterInstance) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a drain of shop/order in a process of its own: `start("stopped", failpoints="...")`."""
    home = Path(instance.root_directory)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    children: list[subprocess.Popen[bytes]] = []

    def begin(until: str, failpoints: str = "") -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "SDP_PROJECT": str(settings.project),
            "SDP_HOME": str(settings.home),
            "SDP_FAILPOINTS": failpoints,
            "DAGSTER_HOME": str(home),
        }
        child = subprocess.Popen([sys.executable, "-c", RUNNER, str(home), until], env=environment, cwd=SOURCE_ROOT, stderr=subprocess.PIPE)
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.wait()


def eventually(found: Callable[[], Any], what: str, within: float = 90.0) -> Any:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.1)
    pytest.fail(f"{what} did not happen within {within:.0f} s")


def ingested(settings: Settings) -> int:
    table = Lakehouse(settings).table("shop.order")
    return source(ORDER, settings=settings).arrow().num_rows if table is not None else 0


@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled in the UI", "SIGTERM from outside"])
def test_a_stopped_drain_keeps_its_commits_and_tells_them(
    start: Callable[..., subprocess.Popen[bytes]],
    produce: Callable[..., None],
    settings: Settings,
    instance: dg.DagsterInstance,
    *,
    cancelled: bool,
) -> None:
    produce({"amount": 1}, {"amount": 2})
    child = start("stopped")
    eventually(lambda: ingested(settings) == 2, "the first commit")
    produce({"amount": 3})
    eventually(lambda: ingested(settings) == 3, "the second commit")
    if cancelled:
        instance.report_run_canceling(instance.get_runs()[0])
    child.send_signal(signal.SIGINT if cancelled else signal.SIGTERM)
    child.wait(timeout=60)
    [run] = instance.get_runs()
    assert run.status == (DagsterRunStatus.CANCELED if cancelled else DagsterRunStatus.SUCCESS)
    assert holder(settings.locks_path, drain_lock(ORDER)) is None
    last = instance.get_latest_materialization_event(dg.AssetKey(["shop", "order"]))
    assert last is not None
    assert last.asset_materialization is not None
    assert last.asset_materialization.metadata["dagster/row_count"].value == 3
    table = Lakehouse(settings).table("shop.order")
    assert table is not None
    assert last.asset_materialization.metadata["sdp/snapshot_id"].value == table.metadata.current_snapshot_id


def test_a_killed_drain_is_noticed_and_its_successor_neither_loses_nor_doubles(
    start: Callable[..., subprocess.Popen[bytes]],
    produce: Callable[..., None],
    settings: Settings,
    instance: dg.DagsterInstance,
    location: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    produce({"amount": 1}, {"amount": 2})
    child = start("idle", failpoints="drain-before-main-commit")
    child.wait(timeout=90)
    assert child.returncode == -signal.SIGKILL
    shop = location("shop")
    assert not shop.tick("streams").run_requests  # for 30 s it might be a run that is only slow
    monkeypatch.setitem(liveness.SILENCE, DagsterRunStatus.STARTED, 0.0)
    monkeypatch.setattr(liveness, "FIRST_DELAY", 0.0)
    [request] = shop.tick("streams").run_requests
    assert [run.status for run in instance.get_runs()] == [DagsterRunStatus.FAILURE]
    monkeypatch.setattr("data_products.stream_assets.IDLE_SECONDS", 0.3)
    assert shop.execute(request).success
    assert sorted(source(ORDER, settings=settings).arrow()["amount"].to_pylist()) == [1, 2]


def test_a_stream_that_another_drain_holds_is_left_to_it(location: Load, produce: Callable[..., None], settings: Settings) -> None:
    produce({"amount": 1})
    with hold(settings.locks_path, drain_lock(ORDER), "by-hand"):
        result = location("shop").execute(None, ORDER, run_config=drain_config("drain_shop", until="end"))
    assert result.success
    assert ingested(settings) == 0


def test_a_drain_gives_way_to_a_queued_one(
    location: Load, produce: Callable[..., None], settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_products.stream_assets.YIELD_SECONDS", 0.2)
    monkeypatch.setattr("data_products.stream_assets.IDLE_SECONDS", 300.0)
    produce({"amount": 1})
    shop = location("shop")

    def queue() -> None:
        eventually(lambda: ingested(settings) == 1, "the first commit", 60)
        queue_successor(instance)

    successor = threading.Thread(target=queue)
    successor.start()
    began = time.monotonic()
    result = shop.execute(None, ORDER, run_config=drain_config("drain_shop", seconds=120))
    successor.join()
    assert result.success
    assert time.monotonic() - began < 100
    assert instance.get_runs_count(RunsFilter(statuses=[DagsterRunStatus.QUEUED])) == 1


def queue_successor(instance: dg.DagsterInstance) -> None:
    """Put a drain of one more stream into the queue, as the sensor does."""
    origin = RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="shop"), "repository")
    create_run_for_test(
        instance,
        job_name="__ASSET_JOB",
        status=DagsterRunStatus.QUEUED,
        tags=drain_tags([ORDER, "shop/new"]),
        remote_job_origin=RemoteJobOrigin(origin, "__ASSET_JOB"),
    )


def test_what_stopped_a_stream_is_told_while_its_neighbours_go_on(
    location: Load,
    produce: Callable[..., None],
    project: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data_products.stream_assets.YIELD_SECONDS", 0.2)
    monkeypatch.setattr("data_products.stream_assets.IDLE_SECONDS", 300.0)
    order = project / "data_products/shop/order.yaml"
    (project / "data_products/shop/visit.yaml").write_text(order.read_text().replace("order", "visit"))
    produce({"amount": 3_000_000})
    shop = location("shop")
    key = dg.AssetCheckKey(dg.AssetKey(["shop", "order"]), "amounts_are_not_absurd")

    def failed() -> bool:
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return bool(history) and isinstance(history[0].evaluation, dg.AssetCheckEvaluation) and not history[0].evaluation.passed

    def look() -> None:
        eventually(failed, "the check's result", 60)
        queue_successor(instance)  # so that the run ends: had the result come with its end, it would have gone on for its full time

    watcher = threading.Thread(target=look)
    watcher.start()
    result = shop.execute(None, ORDER, "shop/visit", run_config=drain_config("drain_shop", seconds=30))
    watcher.join()
    assert not result.success
    [ended] = shop.events("shop/visit", dg.DagsterEventType.ASSET_OBSERVATION)
    assert ended.asset_observation.description == "Drain ended: stop."


class Told:
    """Stands where a run's context is: keeps the materialisations that are logged."""

    selected_asset_check_keys = frozenset[dg.AssetCheckKey]()

    def __init__(self) -> None:
        self.events: list[dg.AssetMaterialization] = []

    def log_event(self, event: dg.AssetMaterialization | dg.AssetObservation) -> None:
        if isinstance(event, dg.AssetMaterialization):
            self.events.append(event)


def test_a_drain_tells_at_most_one_materialisation_in_fifteen_seconds_and_nothing_is_left_untold(project: Path, settings: Settings) -> None:
    now, told = [0.0], Told()
    registry = Registry.load(project)
    reporter = Reporter(told, registry.get(ORDER), Parts(settings, registry=registry), clock=lambda: now[0])  # type: ignore[arg-type]
    for number in range(1, 101):
        now[0] += 0.5
        counts = {"read": 2, "inserted": 2}
        reporter.committed(DrainCommit(ORDER, number, 2, 2 * number, counts, {"shop.order.v1": {"0": 2 * number}}, None))
    reporter.ended(DrainReport())
    reporter.ended(DrainReport())
    times = len(told.events)
    assert times == 1 + int(50 // REPORT_SECONDS) + 1
    assert sum(event.metadata["sdp/rows"].value for event in told.events) == 200  # type: ignore[misc]
    assert sum(event.metadata["sdp/counts"].value["inserted"] for event in told.events) == 200  # type: ignore[index,call-overload,misc]
    assert told.events[-1].metadata["dagster/row_count"].value == 200
