"""Several processes over one catalog, and processes that die: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from pyiceberg.table import Table

from platform_resources.config import SOURCE_ROOT
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import read_position
from tests.lakehouse.stores import environment
from tests.lakehouse.tables import files_on_disk, reachable, read, table_of
from tests.lakehouse.writer_process import ORDERS, REPLACED


def start(lakehouse: Lakehouse, mode: str, name: str, count: int, failpoints: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lakehouse.writer_process", str(lakehouse.settings.home), mode, name, str(count)],
        cwd=SOURCE_ROOT,
        env={**os.environ, **environment(lakehouse.settings), "SDP_FAILPOINTS": failpoints},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> int:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return int(out)


def test_processes_that_start_at_once_make_one_table(lakehouse: Lakehouse) -> None:
    for process in [start(lakehouse, "create", f"p{n}", 0) for n in range(4)]:
        assert finish(process) == 1
    assert len(table_of(lakehouse, ORDERS).metadata.snapshots) == 1
    if lakehouse.settings.catalog_type == "sql":  # a REST catalog's server writes those files, and tidies up or not
        assert sum(path.suffix == ".json" for path in files_on_disk(lakehouse)) == 1  # the losers' metadata files are gone


def test_racing_writers_lose_and_double_nothing(lakehouse: Lakehouse) -> None:
    writers = [start(lakehouse, "append", f"p{n}", 8) for n in range(3)] + [start(lakehouse, "audited", "slow", 4)]
    racing = [start(lakehouse, "fenced", f"f{n}", 12) for n in range(2)]
    assert [finish(process) for process in writers] == [8, 8, 8, 4]
    assert sum(finish(process) for process in racing) == 12
    found = read(table_of(lakehouse, ORDERS))
    assert Counter(row[1] for row in found if not row[1].startswith("f")) == {"p0": 8, "p1": 8, "p2": 8, "slow": 4}
    assert sorted(row[0] for row in found if row[1].startswith("f")) == list(range(12))
    assert read_position(table_of(lakehouse, ORDERS)) == {"t": {"0": 12}}
    data = [path for path in files_on_disk(lakehouse) if path.suffix == ".parquet"]
    assert len(data) == len(found)  # what was fenced left no file
    assert_tidy(lakehouse, table_of(lakehouse, ORDERS))


def test_racing_merges_leave_one_row_per_key(lakehouse: Lakehouse) -> None:
    for process in [start(lakehouse, "merge", f"m{n}", 4) for n in range(3)]:
        assert finish(process) == 4
    found = read(table_of(lakehouse, ORDERS))
    assert [row[0] for row in found] == list(range(4))
    assert len(table_of(lakehouse, ORDERS).metadata.snapshots) == 13


@pytest.mark.parametrize("point", ["after-data-files", "before-commit", "after-commit"])
def test_a_writer_killed_at_any_point_and_started_again_writes_once(lakehouse: Lakehouse, point: str) -> None:
    killed = start(lakehouse, "append", "p", 3, failpoints=f"{point}:kill@2")
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    committed = len(read(table_of(lakehouse, ORDERS)))
    assert committed == (2 if point == "after-commit" else 1)
    assert finish(start(lakehouse, "append", "p", 3)) == 3 - committed
    assert read(table_of(lakehouse, ORDERS)) == [(0, "p", 1), (1, "p", 1), (2, "p", 1)]


def test_a_zombie_that_wakes_after_its_successor_is_fenced(lakehouse: Lakehouse, tmp_path: Path) -> None:
    alarm = tmp_path / "alarm"
    zombie = start(lakehouse, "fenced", "zombie", 5, failpoints=f"before-commit:until={alarm}@2")
    while not (table := lakehouse.table("shop.orders")) or not read(table):
        time.sleep(0.05)
    assert finish(start(lakehouse, "fenced", "successor", 5)) == 4
    alarm.touch()
    assert finish(zombie) == 1
    assert [(row[0], row[1]) for row in read(table_of(lakehouse, ORDERS))] == [(0, "zombie"), *((n, "successor") for n in range(1, 5))]


@pytest.mark.storm
@pytest.mark.folder_only("eight writers are after the commits, not after the store")
def test_eight_writers_of_one_table_are_kept_or_refused(lakehouse: Lakehouse) -> None:
    outcomes = [counted(process) for process in [start(lakehouse, "storm", f"p{n}", 63) for n in range(8)]]
    assert all(kept + refused == 63 for kept, refused in outcomes) and sum(kept for kept, _ in outcomes) >= 500
    table = table_of(lakehouse, ORDERS)
    assert Counter(row[1] for row in read(table)) == {f"p{n}": kept for n, (kept, _) in enumerate(outcomes)}
    assert_tidy(lakehouse, table)


@pytest.mark.storm
@pytest.mark.folder_only("eight writers are after the commits, not after the store")
def test_eight_writers_of_eight_tables_are_all_kept(lakehouse: Lakehouse) -> None:
    outcomes = [counted(process) for process in [start(lakehouse, "spread", f"t{n}", 500) for n in range(8)]]
    assert outcomes == [(500, 0)] * 8
    for number in range(8):
        table = lakehouse.table(f"shop.t{number}")
        assert len(read(table)) == 500
        assert_tidy(lakehouse, table)


@pytest.mark.storm
@pytest.mark.folder_only("eight writers are after the commits, not after the store")
def test_writers_of_the_same_partition_are_told_who_beat_them(lakehouse: Lakehouse) -> None:
    """Eight processes replace two partitions over and over: each round stands whole or names the run that was first."""
    outcomes = [counted(process) for process in [start(lakehouse, "replace", f"p{n}", 20) for n in range(8)]]
    assert all(kept + refused == 20 for kept, refused in outcomes)
    assert sum(kept for kept, _ in outcomes) >= 20 and sum(refused for _, refused in outcomes) > 0
    found = read(table_of(lakehouse, REPLACED))
    assert sorted(Counter(row[1] for row in found).items()) == [("a", 3), ("b", 3)]
    assert len({row[2] for row in found if row[1] == "a"}) == len({row[2] for row in found if row[1] == "b"}) == 1  # one run's rows, whole


def counted(process: subprocess.Popen[str]) -> tuple[int, int]:
    """How many commits of a process stood and how many were refused."""
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err
    kept, refused = out.split()
    return int(kept), int(refused)


def assert_tidy(lakehouse: Lakehouse, table: Table | None) -> None:
    """Few snapshots, and on disk nothing that they do not reach; but a REST catalog's server leaves the metadata files of losers."""
    assert table is not None
    assert len(table.metadata.snapshots) < 60
    left = {path.name for path in files_on_disk(lakehouse, ".".join(table.name()))} ^ reachable(table)
    assert not {name for name in left if lakehouse.settings.catalog_type == "sql" or not name.endswith(".metadata.json")}
