"""Nothing depends on Spark's local mode: the same work on a cluster of real processes, over each store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.stack.spark import WORKERS, SparkCluster
from tests.lakehouse.stores import STORES, environment, settings_over

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("store", STORES)
def test_products_are_computed_on_a_cluster(store: str, tmp_path: Path, stack: Callable[..., Settings]) -> None:
    state = SparkCluster().state(stack("spark"))
    assert state is not None
    settings = settings_over(store, tmp_path / "home", stack)
    cluster = {"SDP_SPARK_MASTER": state.address, "SDP_SPARK_EXECUTOR_MEMORY": "512m", "SDP_SPARK_SHUFFLE_PARTITIONS": "4"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.spark.cluster_work", str(tmp_path / "project")],
        cwd=SOURCE_ROOT, env={**os.environ, **environment(settings), **cluster}, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["application"].startswith("app-")
    assert found["executors"] == WORKERS
    assert found["read"] == [501, 500]
    assert found["plans"] == ["full", "key", "full", "append"]
    assert found["totals"] == {**{f"shop {number}": 72 if number < 3 else 71 for number in range(7)}, "é": 2, "None": 1}
    assert found["sold"] == list(range(504))


def test_the_cluster_starts_once_and_stops(tmp_path: Path, requires: Callable[[str], None]) -> None:
    requires("spark")
    settings, cluster = Settings(home=tmp_path), SparkCluster()
    try:
        state = cluster.up(settings, die_with_parent=True)
        assert cluster.up(settings) == state
        assert cluster.to_use(settings, state.address) == [f"export SDP_SPARK_MASTER={state.address}"]
        assert cluster.down(settings)
        assert not cluster.status(settings).running
        assert not cluster.down(settings)
    finally:
        cluster.kill(settings)
