"""A writer in a process of its own: `python -m tests.lakehouse.writer_process HOME MODE NAME COUNT`.

Modes: `append` adds COUNT rows, one commit each; `fenced` moves the position by one per commit until it reaches COUNT, taking the new
position when another was first; `merge` sets COUNT keys to its name; `create` only creates the table; `audited` appends with an audit.
Prints how many of its commits stood.
"""

from __future__ import annotations

import sys
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import Fence, Fenced, publish, stage_append, stage_merge
from platform_resources.lakehouse.stamp import Stamp, committed_snapshot, read_position
from tests.lakehouse.tables import orders, rows

ORDERS = orders()


def _fenced(lakehouse: Lakehouse, name: str, count: int) -> int:
    done = 0
    while True:
        position = read_position(lakehouse.create(ORDERS))
        at = position["t"]["0"] if position else 0
        if at >= count:
            return done
        try:
            stamp = Stamp(name, position={"t": {"0": at + 1}})
            publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (at, name, 1)), stamp, fence=Fence(position)))
            done += 1
        except Fenced:
            continue


def main(home: str, mode: str, name: str, count: int) -> int:
    lakehouse = Lakehouse(Settings(home=Path(home)))
    if mode == "create":
        lakehouse.create(ORDERS)
        return 1
    if mode == "fenced":
        return _fenced(lakehouse, name, count)
    if mode == "merge":
        for key in range(count):
            publish(stage_merge(lakehouse, ORDERS, rows(ORDERS, (key, name, key)), Stamp(f"{name}-{key}"), keys=("id",)))
        return count
    done = 0
    for number in range(count):
        run = f"{name}-{number}"
        if committed_snapshot(lakehouse.create(ORDERS), run) is not None:
            continue
        staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (number, name, 1)), Stamp(run))
        publish(staged, (lambda now: None) if mode == "audited" else None, attempts=100)
        done += 1
    return done


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
