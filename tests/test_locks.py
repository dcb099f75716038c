"""Locks that name who is at work: exclusive, freed by death, not disturbed by those who look."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from platform_resources.errors import PlatformError
from platform_resources.locks import hold, holder


def test_the_holder_is_named_and_the_second_refused(tmp_path: Path) -> None:
    with hold(tmp_path, "drain:a/b", "run-1"):
        assert holder(tmp_path, "drain:a/b") == "run-1"
        with pytest.raises(PlatformError, match=r"^a/b is already at work in run run-1\."), hold(tmp_path, "drain:a/b", "run-2"):
            pass
    assert holder(tmp_path, "drain:a/b") is None


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    code = "import os, signal, sys; from pathlib import Path; from platform_resources.locks import hold\nwith hold(Path(sys.argv[1]), 'x', 'dead'): os.kill(os.getpid(), signal.SIGKILL)"  # noqa: E501
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert holder(tmp_path, "x") is None
    with hold(tmp_path, "x", "next"):
        assert holder(tmp_path, "x") == "next"


def test_looking_never_keeps_anybody_from_it(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            holder(tmp_path, "x")

    with hold(tmp_path, "x", "first"):
        pass
    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for number in range(100):
            with hold(tmp_path, "x", str(number)):
                pass
    finally:
        done.set()
        for looker in lookers:
            looker.join()
