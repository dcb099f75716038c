"""What the sensors ask for, tick by tick, over a real instance and real runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.test_utils import create_run_for_test
from dagster._utils.tags import normalize_tags

from platform_resources.config import Settings
from platform_resources.contracts.registry import Registry
from platform_resources.locks import hold
from platform_resources.parts import Parts
from platform_resources.runs import CODE_TAG, drain_lock, drain_tag, drain_tags, failed_tag, run_lock, transform_tag, transform_tags
from sensors import liveness
from sensors.automation import propose_transforms
from sensors.liveness import FIRST_DELAY, LONGEST_DELAY, active_work, drain_failed, history, transform_failed
from sensors.streams import Need, propose_drains

Load = Callable[..., Any]
ORDER, CLICK, VISIT, REVENUE = "shop/order", "shop/click", "shop/visit", "finance/revenue"


@pytest.fixture
def parts(project: Path, settings: Settings) -> Parts:
    """Parts of the project, with a second quiet and a loud stream."""
    order = (project / "data_products/shop/order.yaml").read_text()
    (project / "data_products/shop/visit.yaml").write_text(order.replace("order", "visit"))
    (project / "data_products/shop/click.yaml").write_text(
        order.replace("order", "click").replace("loud, value: false", "loud, value: true")
    )
    return Parts(settings, registry=Registry.load(project))


class Drains:
    """Ticks of the stream sensor over needs that the test sets."""

    def __init__(self, instance: dg.DagsterInstance, parts: Parts) -> None:
        self.instance, self.parts = instance, parts
        self.needs = {ORDER: Need(0, heartbeat=False), VISIT: Need(0, heartbeat=False), CLICK: Need(0, heartbeat=False)}
        self.now = time.time

    def tick(self) -> list[set[str]]:
        """The sets of products of the runs asked for."""
        contracts = [self.parts.registry.get(key) for key in (CLICK, ORDER, VISIT)]
        requests, self.reasons = propose_drains(
            self.instance,
            "shop",
            contracts,
            self.parts,
            need=lambda contract, _: self.needs[contract.key],
            now=lambda: self.now(),  # noqa: PLW0108 - a test sets `now` later
        )
        self.requests = requests
        return [{key.to_user_string() for key in request.asset_selection or ()} for request in requests]

    def run(self, *keys: str, status: DagsterRunStatus, **tags: str) -> str:
        """A run record as the sensor's request leaves it."""
        run = create_run_for_test(
            self.instance,
            job_name="__ASSET_JOB",
            status=status,
            tags={**drain_tags(keys), **tags},
            asset_selection=frozenset(dg.AssetKey(key.split("/")) for key in keys),
        )
        return run.run_id


@pytest.fixture
def drains(instance: dg.DagsterInstance, parts: Parts) -> Drains:
    return Drains(instance, parts)


def test_nothing_waits_so_nothing_runs(drains: Drains) -> None:
    assert drains.tick() == []


def test_one_run_takes_all_quiet_streams_and_each_loud_one_has_its_own(drains: Drains) -> None:
    drains.needs |= {ORDER: Need(3, heartbeat=False), CLICK: Need(9, heartbeat=False)}
    assert drains.tick() == [{CLICK}, {ORDER, VISIT}]
    assert drains.requests[1].tags == {
        "sdp/kind": "drain",
        "sdp/products": "shop/order,shop/visit",
        "sdp/domain": "shop",
        "sdp-drain/shop.order": "1",
        "sdp-drain/shop.visit": "1",
    }


def test_dagster_takes_the_names_of_our_tags(recwarn: pytest.WarningsRecorder) -> None:
    tags = {**drain_tags([ORDER, VISIT]), **transform_tags(REVENUE, code_version="c"), failed_tag(ORDER): "f"}
    assert normalize_tags(tags, allow_private_system_tags=False) == tags
    assert [str(warning.message) for warning in recwarn] == []


def test_a_heartbeat_that_is_due_starts_a_run(drains: Drains) -> None:
    drains.needs[VISIT] = Need(0, heartbeat=True)
    assert drains.tick() == [{ORDER, VISIT}]


@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_a_live_run_is_not_doubled(drains: Drains, status: DagsterRunStatus) -> None:
    drains.needs |= {ORDER: Need(3, heartbeat=False)}
    drains.run(ORDER, VISIT, status=status)
    assert drains.tick() == []


def test_a_stream_that_the_live_run_does_not_know_gets_a_run_with_all_of_them(drains: Drains) -> None:
    drains.needs[VISIT] = Need(1, heartbeat=False)
    drains.run(ORDER, status=DagsterRunStatus.STARTED)
    assert drains.tick() == [{ORDER, VISIT}]


def test_a_foreground_drain_is_left_alone(drains: Drains, settings: Settings) -> None:
    drains.needs |= {ORDER: Need(3, heartbeat=False), VISIT: Need(1, heartbeat=False)}
    with hold(settings.locks_path, drain_lock(ORDER), "by-hand"):
        assert drains.tick() == [{VISIT}]


def test_a_run_whose_process_died_is_told_so_and_blocks_nobody(drains: Drains, monkeypatch: pytest.MonkeyPatch) -> None:
    drains.needs[ORDER] = Need(3, heartbeat=False)
    dead = drains.run(ORDER, VISIT, status=DagsterRunStatus.STARTED)
    assert drains.tick() == []  # it may still be starting
    monkeypatch.setitem(liveness.SILENCE, DagsterRunStatus.STARTED, 0.0)
    drains.now = lambda: time.time() + FIRST_DELAY + 1
    assert drains.tick() == [{ORDER, VISIT}]
    run = drains.instance.get_run_by_id(dead)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE
    assert any(
        "The process of this run is gone" in (entry.dagster_event.message or "")
        for entry in drains.instance.all_logs(dead)
        if entry.dagster_event
    )


def test_a_run_that_holds_its_lock_is_alive_however_silent(drains: Drains, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(liveness.SILENCE, DagsterRunStatus.STARTED, 0.0)
    drains.needs[ORDER] = Need(3, heartbeat=False)
    alive = drains.run(ORDER, VISIT, status=DagsterRunStatus.STARTED)
    with hold(settings.locks_path, drain_lock(VISIT), alive):
        assert drains.tick() == []
    run = drains.instance.get_run_by_id(alive)
    assert run is not None
    assert run.status == DagsterRunStatus.STARTED


def test_a_stream_whose_batch_a_check_refused_rests_and_the_others_go_on(drains: Drains) -> None:
    from datetime import UTC, datetime

    drains.needs |= {ORDER: Need(3, heartbeat=False, blocked_until=datetime(2026, 1, 1, tzinfo=UTC)), VISIT: Need(1, heartbeat=False)}
    assert drains.tick() == [{VISIT}]
    assert "refused by a check" in drains.reasons[0]


def test_failing_streams_wait_twice_as_long_each_time_and_others_do_not(drains: Drains, parts: Parts) -> None:
    fingerprint = parts.registry.get(ORDER).fingerprint
    drains.needs |= {ORDER: Need(3, heartbeat=False), VISIT: Need(1, heartbeat=False)}
    delays = []
    for _ in range(3):
        drains.run(ORDER, VISIT, status=DagsterRunStatus.FAILURE, **{failed_tag(ORDER): fingerprint})
        past = history(drains.instance, drain_tag(ORDER), drain_failed(ORDER, fingerprint))
        delays.append(past.wait(past.last_end or 0.0))
        assert drains.tick() == [{VISIT}]
    assert delays == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    drains.now = lambda: time.time() + 5 * FIRST_DELAY
    assert drains.tick() == [{ORDER, VISIT}]


def test_a_mended_contract_goes_on_at_once(drains: Drains) -> None:
    drains.needs[ORDER] = Need(3, heartbeat=False)
    for _ in range(4):
        drains.run(ORDER, VISIT, status=DagsterRunStatus.FAILURE, **{failed_tag(ORDER): "the contract as it was"})
    assert drains.tick() == [{ORDER, VISIT}]


def test_the_delay_after_failures_has_an_end(drains: Drains, parts: Parts) -> None:
    fingerprint = parts.registry.get(ORDER).fingerprint
    for _ in range(12):
        drains.run(ORDER, status=DagsterRunStatus.FAILURE, **{failed_tag(ORDER): fingerprint})
    past = history(drains.instance, drain_tag(ORDER), drain_failed(ORDER, fingerprint))
    assert past.wait(past.last_end or 0.0) == LONGEST_DELAY


class Product:
    """A derived product whose inputs are ahead as the test says."""

    def __init__(self, parts: Parts, *, behind: bool = True) -> None:
        self.contract, self.inputs, self.code_version, self.behind = parts.registry.get(REVENUE), [ORDER], "code", behind

    def is_behind(self) -> bool:
        return self.behind


class Tables:
    """A lakehouse that only knows which tables exist."""

    def __init__(self, *identifiers: str) -> None:
        self.identifiers = set(identifiers)

    def table(self, identifier: str) -> object | None:
        return object() if identifier in self.identifiers else None


def propose(instance: dg.DagsterInstance, settings: Settings, product: Any, *tables: str, later: float = 0.0) -> tuple[int, str]:
    parts = Parts(settings, lakehouse=Tables(*tables))  # type: ignore[arg-type]
    requests, reasons = propose_transforms(instance, [product], parts, now=lambda: time.time() + later)
    return len(requests), " ".join(reasons)


def ended(instance: dg.DagsterInstance, status: DagsterRunStatus, code: str = "code") -> None:
    create_run_for_test(instance, job_name="__ASSET_JOB", status=status, tags=transform_tags(REVENUE, code_version=code))


def test_a_product_waits_for_an_input_that_was_never_materialised(instance: dg.DagsterInstance, settings: Settings, parts: Parts) -> None:
    count, reason = propose(instance, settings, Product(parts))
    assert count == 0
    assert reason == f"{REVENUE}: waits for the first rows of {ORDER}."


def test_a_product_does_not_wait_for_an_optional_input(instance: dg.DagsterInstance, settings: Settings, parts: Parts) -> None:
    product = Product(parts)
    product.inputs = [ORDER, "shop/refund"]
    assert propose(instance, settings, product, "shop.order")[0] == 0
    product.contract = replace(product.contract, optional_inputs=("shop/refund",))
    assert propose(instance, settings, product, "shop.order")[0] == 1


def test_a_product_that_is_behind_runs_once_per_frequency(instance: dg.DagsterInstance, settings: Settings, parts: Parts) -> None:
    product = Product(parts)
    assert propose(instance, settings, product, "shop.order")[0] == 1
    ended(instance, DagsterRunStatus.SUCCESS)
    count, reason = propose(instance, settings, product, "shop.order")
    assert (count, "frequency" in reason) == (0, True)
    assert propose(instance, settings, product, "shop.order", later=1.5)[0] == 1
    assert propose(instance, settings, Product(parts, behind=False), "shop.order", later=1.5) == (0, "")


def test_a_failing_product_is_not_hammered_and_runs_at_once_when_mended(
    instance: dg.DagsterInstance, settings: Settings, parts: Parts
) -> None:
    product = Product(parts)
    for _ in range(3):
        ended(instance, DagsterRunStatus.FAILURE)
    count, reason = propose(instance, settings, product, "shop.order", later=3 * FIRST_DELAY)
    assert (count, "the last 3 runs failed" in reason) == (0, True)
    assert propose(instance, settings, product, "shop.order", later=5 * FIRST_DELAY)[0] == 1
    product.code_version = "mended"
    assert propose(instance, settings, product, "shop.order", later=2)[0] == 1
    assert history(instance, transform_tag(REVENUE), transform_failed(CODE_TAG, "mended")).failures == 0


def test_a_mistake_that_is_reverted_is_settled_by_one_run_more(instance: dg.DagsterInstance, settings: Settings, parts: Parts) -> None:
    product = Product(parts, behind=False)
    ended(instance, DagsterRunStatus.SUCCESS)
    ended(instance, DagsterRunStatus.FAILURE, "mistaken")
    assert propose(instance, settings, product, "shop.order", later=1.5)[0] == 1
    ended(instance, DagsterRunStatus.FAILURE)  # it fails all the same: tried again ever more rarely
    count, reason = propose(instance, settings, product, "shop.order", later=1.5)
    assert (count, "the last run failed" in reason) == (0, True)
    ended(instance, DagsterRunStatus.SUCCESS)
    assert propose(instance, settings, product, "shop.order", later=FIRST_DELAY + 1) == (0, "")


def test_a_running_product_is_not_started_twice(instance: dg.DagsterInstance, settings: Settings, parts: Parts) -> None:
    with hold(settings.locks_path, run_lock(REVENUE), "by-hand"):
        assert propose(instance, settings, Product(parts), "shop.order") == (0, "")
    ended(instance, DagsterRunStatus.NOT_STARTED)
    assert propose(instance, settings, Product(parts), "shop.order") == (0, "")


def test_one_products_fault_does_not_stop_the_others(instance: dg.DagsterInstance, settings: Settings, parts: Parts) -> None:
    class Broken(Product):
        def is_behind(self) -> bool:
            raise OSError("the metadata file is gone")

    both = Parts(settings, lakehouse=Tables("shop.order"))  # type: ignore[arg-type]
    broken = Broken(parts)
    requests, reasons = propose_transforms(instance, [broken, Product(parts)], both)
    assert len(requests) == 1
    assert "the metadata file is gone" in reasons[0]


def test_work_of_other_locations_is_not_looked_at(instance: dg.DagsterInstance, settings: Settings) -> None:
    ended(instance, DagsterRunStatus.STARTED)
    assert active_work(instance, [ORDER], settings) == []
    assert [work.products for work in active_work(instance, [REVENUE], settings)] == [{REVENUE}]
