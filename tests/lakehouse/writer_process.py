"""A writer in a process of its own: `python -m tests.lakehouse.writer_process HOME MODE NAME COUNT`.

Modes: `append` adds COUNT rows, one commit each; `audited` does so with an audit; `fenced` moves the position by one per commit until it
reaches COUNT, taking the new position when another was first; `merge` sets COUNT keys to its name; `create` only creates the table.
Prints how many of its commits stood. `storm` and `spread` append to one table and to one of their own, `replace` replaces partition a or
b in turn: these print how many were refused too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyiceberg.transforms import IdentityTransform

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import (
    CommitConflict,
    Fence,
    Fenced,
    PartitionScope,
    publish,
    stage_append,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import Stamp, committed_snapshot, read_position
from tests.lakehouse.tables import orders, rows

ORDERS = orders(properties={"history.expire.min-snapshots-to-keep": "5"})  # snapshots expire while the others write
REPLACED = orders(identifier="shop.replaced", partition=[("shop", IdentityTransform(), "shop")], properties=ORDERS.properties)


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


def _storm(lakehouse: Lakehouse, mode: str, name: str, count: int) -> str:
    """Commits kept and refused; a refusal must be a sentence, anything else ends the process."""
    definition = {"storm": ORDERS, "spread": orders(identifier=f"shop.{name}", properties=ORDERS.properties), "replace": REPLACED}[mode]
    kept = refused = 0
    for number in range(count):
        stamp, shop = Stamp(f"{name}-{number}"), "ab"[number % 2]
        try:
            if mode == "replace":
                data = rows(definition, *((part, shop, 1000 * number + int(name[1:])) for part in range(3)))
                publish(stage_overwrite(lakehouse, definition, data, stamp, partitions=PartitionScope.named(f"shop={shop}")))
            else:
                publish(stage_append(lakehouse, definition, rows(definition, (number, name, 1)), stamp))
            kept += 1
        except CommitConflict:
            refused += 1
        except PlatformError as error:
            if error.code != "overwrite-conflict" or "Run p" not in error.message:
                raise
            refused += 1
    return f"{kept} {refused}"


def main(home: str, mode: str, name: str, count: int) -> int | str:
    lakehouse = Lakehouse(Settings(home=Path(home)))
    if mode == "create":
        lakehouse.create(ORDERS)
        return 1
    if mode in ("storm", "spread", "replace"):
        return _storm(lakehouse, mode, name, count)
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
