"""Reads one dump to its end with mwxml or mwsql, and prints seconds, rows, and what was resident before and at most, MB.

Runs in the readers' own environment.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def revisions(path: str) -> int:
    """Every revision of every page, its text decoded."""
    import mwxml

    count = 0
    with open(path, encoding="utf-8") as stream:  # noqa: PTH123 - as mwxml's own pages show
        for page in mwxml.Dump.from_file(stream):
            for _ in page:
                count += 1
    return count


def rows(path: str) -> int:
    """Every row as mwsql gives it: a list of texts."""
    from mwsql import Dump

    return sum(1 for _ in Dump.from_file(path))


def resident_mb(field: str) -> float:
    """Of this process alone: what getrusage tells is also its parent's, from before exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1e3


def main() -> None:
    """`dump_worker.py xml|sql FILE`."""
    read = {"xml": revisions, "sql": rows}[sys.argv[1]]
    baseline, start = resident_mb("VmRSS"), time.perf_counter()
    count = read(sys.argv[2])
    taken = time.perf_counter() - start
    print(taken, count, baseline, resident_mb("VmHWM"))


if __name__ == "__main__":
    main()
