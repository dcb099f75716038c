"""The demo's verdict is no decoration: it agrees when the platform is right and says what is wrong when it is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.__main__ import PRODUCTS, is_fresh
from demo.generator import STREAM, Generated, generate, recent_changes
from demo.verdict import judge
from platform_resources.config import SOURCE_ROOT
from platform_resources.parts import Parts
from platform_resources.streams.gate import GateReport
from tests.products.conftest import World

Played = tuple[World, Generated, GateReport, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def played(world_of: Callable[[Path], World]) -> Played:
    """The demo's events through the platform, without Dagster."""
    world, made = world_of(SOURCE_ROOT), generate(2_000, seed=11)
    report = world.produce(STREAM, made.gated)
    world.produce(STREAM, made.raw, unchecked=True)
    world.produce("mediawiki.recentchange", recent_changes(made, 100))
    world.ingest("mediawiki/page_change")
    world.ingest("mediawiki/recentchange")
    for product in PRODUCTS[2:]:
        world.derive(product)
    status = [{"product": key, "rows": world.table(key).num_rows, "checks": []} for key in PRODUCTS]
    return world, made, report, status


def wrong(played: Played, made: Generated, status: list[dict[str, Any]]) -> set[str]:
    world, _, report, _ = played
    parts = Parts(world.settings, registry=world.registry, lakehouse=world.lakehouse, log=world.log)
    return {finding.what for finding in judge(parts, made, report, 100, status) if not finding.right}


def test_verdict_agrees_with_a_platform_that_is_right(played: Played) -> None:
    assert wrong(played, played[1], played[3]) == set()


def test_verdict_names_what_is_wrong(played: Played) -> None:
    _, made, _, status = played
    facts = dict(made.truth.facts)
    key = next(iter(facts))
    facts[key] = replace(facts[key], reverted=facts[key].reverted + 1)
    assert wrong(played, replace(made, truth=replace(made.truth, facts=facts)), status) == {"reverted", "pages and days that differ"}
    assert wrong(played, replace(made, truth=replace(made.truth, duplicates=19)), status) >= {"deduplicated", "accepted at the gate"}
    failed = [{**product, "checks": [{"name": "one_page_per_rank", "passed": False}]} for product in status]
    assert wrong(played, made, failed) == {"failed checks"}


def test_fresh_means_caught_up_and_young() -> None:
    product = {"last_run": {"status": "success"}, "snapshot_id": 1, "lag_events": 0, "lag_seconds": 60.0}
    minutes = timedelta(minutes=5)
    assert is_fresh(product, minutes)
    for stale in ({"lag_events": 1}, {"lag_seconds": 301.0}, {"lag_seconds": None}, {"snapshot_id": None}, {"last_run": None}):
        assert not is_fresh(product | stale, minutes), stale


def test_a_home_that_is_not_the_demos_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    code = "import sys; from demo.__main__ import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", code, "--exit", "--home", str(tmp_path)],
        cwd=SOURCE_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1
    assert "was not made by a demo" in run.stdout
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


@pytest.mark.storm
def test_make_demo_ends_with_everything_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "--exit", "--events", "2000", "--home", str(tmp_path / "demo"), "--port", "0"]
    run = subprocess.run(command, cwd=SOURCE_ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "findings are what was generated" in run.stdout
