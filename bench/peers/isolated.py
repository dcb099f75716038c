"""The public package dagster-iceberg, in an environment of its own: it pins an older PyIceberg than ours.

The environment is made on demand under the cache folder; a worker in it (`dagster_iceberg_worker.py`) makes the same rows, and
materialises them each time it is told to. Its seconds are those it measures itself, from the start of the run to its end.
"""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

from bench.edits import Order
from platform_resources.config import Settings

PINS = ("dagster-iceberg==0.3.14", "dagster==1.13.27", "pyiceberg[sql-sqlite]<0.12", "pyarrow>=18", "numpy>=2")
WORKER = Path(__file__).with_name("dagster_iceberg_worker.py")
ROOT = WORKER.parents[2]


class DagsterIceberg:
    """A worker process that writes on demand."""

    def __init__(self, python: Path, folder: Path, rows: int, product: str, order: Order) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [str(python), str(WORKER), str(folder), str(rows), product, order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "worker.log").open("wb"),
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
            text=True,
        )
        self._answer()

    def reset(self) -> None:
        """Drop the worker's table and its files."""
        self._ask("reset")

    def run(self) -> float:
        """One materialisation; the worker's seconds."""
        return float(self._ask("run"))

    def close(self) -> None:
        """End the worker and delete its files."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, what: str) -> str:
        if self._process.stdin is None:
            raise RuntimeError("the worker has no input")
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"dagster-iceberg ended: {(self._folder / 'worker.log').read_text()[-2000:]}")
        return line.strip()


def start(folder: Path, rows: int, product: str, order: Order) -> DagsterIceberg | str:
    """A worker that is ready, or why there is none."""
    python = Settings().cache / "bench" / "dagster-iceberg" / "bin" / "python"
    try:
        if not python.exists():
            venv.create(python.parents[1], with_pip=True)
        installed = python.parents[1] / ".installed"
        if not installed.exists() or installed.read_text() != repr(PINS):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINS], check=True, capture_output=True, text=True, timeout=900)
            installed.write_text(repr(PINS))
        worker = DagsterIceberg(python, folder, rows, product, order)
        worker.run()  # it refuses, for one, a partitioned table of an asset that has no partitions in Dagster
    except subprocess.CalledProcessError as error:
        return f"its environment cannot be made: {str(error.stderr).strip().splitlines()[-1]}"
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return f"it cannot: {str(error).strip().splitlines()[-1]}"
    return worker
