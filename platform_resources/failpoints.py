"""Named crash points, so that tests can kill a process exactly where it hurts.

`failpoint(NAME)` does nothing unless the environment variable `SDP_FAILPOINTS` names it as `name[:action][@n]`, comma-separated;
`n` is the passage that triggers (default 1). Actions: `kill` (SIGKILL to oneself, the default), `raise` (RuntimeError),
`sleep=SECONDS` (a zombie that wakes up later), `until=PATH` (one that wakes when that file is there). A name is declared by its use;
tests list them with `grep`.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

_passages: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Crash, raise or sleep here when `SDP_FAILPOINTS` asks for it; else return at once."""
    wanted = os.environ.get("SDP_FAILPOINTS")
    if not wanted:
        return
    for item in wanted.split(","):
        head, _, nth = item.strip().partition("@")
        point, _, action = head.partition(":")
        if point != name:
            continue
        _passages[name] += 1
        if _passages[name] == int(nth or 1):
            _act(name, action or "kill")


def _act(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise RuntimeError(f"failpoint {name}")
    if action.startswith("sleep="):
        time.sleep(float(action.removeprefix("sleep=")))
    if action.startswith("until="):
        while not Path(action.removeprefix("until=")).exists():
            time.sleep(0.02)
