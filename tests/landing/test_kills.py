"""Landings in processes of their own that are killed at every named point: what comes next loses nothing and doubles nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from tests.landing.drops import BAD, SLICED, Shop

PRELOAD = ["platform_resources.landing.landing", "tests.landing.drops"]
# before-commit, after-commit and after-data-files lie in the lakehouse's write path. A landing first takes over, with a commit to the main
# table and one to the quarantine. Of its writes the first is staged for the main table, the second puts bad records aside, which is the
# third commit; then the main table's comes. So it goes on with the next.
POINTS = [
    "before-commit",
    "drain-after-epoch",
    "drain-after-quarantine-takeover",
    "after-data-files",
    "landing-after-stage",
    "landing-before-quarantine-commit",
    "after-data-files@2",
    "before-commit@3",
    "after-commit@3",
    "landing-after-quarantine-commit",
    "landing-before-main-commit",
    "before-commit@4",
    "after-commit@4",
    "landing-after-main-commit",
    "landing-before-main-commit@2",
    "after-commit@6",
]
MODES: dict[str, dict[str, str]] = {
    "append": {},
    "overwrite": SLICED,
    "merge": {**SLICED, "custom": "{property: writeMode, value: merge}"},
    "validity": {**SLICED, "custom": "{property: validity, value: true}"},
}


def _land(home: Path, mode: str, files: dict[str, list[Any]], failpoints: str) -> None:
    os.environ["SDP_FAILPOINTS"] = failpoints
    shop = _shop(home, mode)
    shop.files.update(files)
    shop.land(run_id=f"run-{os.getpid()}")


def _shop(home: Path, mode: str) -> Shop:
    settings = Settings(project=home, home=home / "home", duckdb_threads=1)
    return Shop(settings, Lakehouse(settings)).define(**MODES[mode])


def _in_process(home: Path, mode: str, files: dict[str, list[Any]], failpoints: str) -> int | None:
    """The exit code of a landing in a process that shares nothing with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_land, args=(home, mode, files, failpoints))
    process.start()
    process.join(60)
    return process.exitcode


def _files(mode: str, first: str, last: str) -> dict[str, list[Any]]:
    """Two deliveries with a bad record each."""
    names = ("2026-01-01/a.csv", "2026-01-02/a.csv") if "slice" in MODES[mode].get("path", "") else ("a.csv", "b.csv")
    return {names[0]: [(1, first), (2, "new"), BAD], names[1]: [(1, last), (3, "new"), BAD]}


def _cases() -> list[Any]:
    """Every point of an append, and of the other modes those where they differ: staging and the two commits."""
    some = ("after-data-files", "landing-after-quarantine-commit", "before-commit@4", "after-commit@4")
    return [("append", point) for point in POINTS] + [(mode, point) for mode in MODES if mode != "append" for point in some]


@pytest.mark.parametrize(("mode", "point"), _cases())
def test_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path, mode: str, point: str) -> None:
    files = _files(mode, "new", "paid")
    assert _in_process(tmp_path, mode, files, point) == -signal.SIGKILL
    shop = _shop(tmp_path, mode)
    shop.files.update(files)
    shop.land()
    rows = {
        "append": [(1, "new"), (1, "paid"), (2, "new"), (3, "new")],
        "overwrite": [(1, "new"), (1, "paid"), (2, "new"), (3, "new")],
        "merge": [(1, "paid"), (2, "new"), (3, "new")],
        "validity": [(1, "new"), (1, "paid"), (2, "new"), (3, "new")],
    }
    assert shop.rows() == rows[mode]
    assert shop.aside() == [(name, 3, "type-mismatch") for name in files]
    assert shop.land().commits == 0


@pytest.mark.parametrize("point", ["landing-after-quarantine-commit", "after-deletes", "before-commit@4", "after-commit@4"])
def test_killed_while_a_corrected_file_lands(tmp_path: Path, point: str) -> None:
    before, after = _files("append", "new", "paid"), _files("append", "sent", "paid")
    shop = _shop(tmp_path, "append")
    shop.files.update(before)
    shop.land()
    assert _in_process(tmp_path, "append", after, point) == -signal.SIGKILL
    shop.files.update(after)
    shop.land()
    assert shop.rows() == [(1, "paid"), (1, "sent"), (2, "new"), (3, "new")]
    assert shop.aside() == [("a.csv", 3, "type-mismatch"), ("b.csv", 3, "type-mismatch")]


def test_bad_records_of_a_killed_landing_are_no_longer_aside_when_the_file_was_mended(tmp_path: Path) -> None:
    files = _files("append", "new", "paid")
    assert _in_process(tmp_path, "append", files, "landing-after-quarantine-commit") == -signal.SIGKILL
    shop = _shop(tmp_path, "append")
    shop.files.update({name: [record for record in records if record != BAD] for name, records in files.items()})
    shop.land()
    assert shop.aside() == []
