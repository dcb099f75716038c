"""A server that consists of several processes, run as one: this program starts them, ends all when one ends, and passes the stop on.

It is run by its path with the commands as JSON (`grouped`), and needs nothing but Python itself.
"""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PATIENCE = 10.0  # seconds that the processes have between the polite signal and the last one


def grouped(commands: Sequence[Sequence[str]]) -> list[str]:
    """The command that runs all these commands as one."""
    return [sys.executable, __file__, json.dumps([list(each) for each in commands])]


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: none outlives this program, however it ends


def run(commands: Sequence[Sequence[str]]) -> int:
    """Run the commands until a stop signal (0) or until one of them ends (1); then none of them is left."""
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    processes = [subprocess.Popen(each, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent) for each in commands]  # noqa: PLW1509
    while not stopping and all(process.poll() is None for process in processes):
        time.sleep(0.1)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return 0 if stopping else 1


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
