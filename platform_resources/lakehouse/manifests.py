"""Rewriting the manifests of a table: few, and each holding neighbouring partitions, so that planning a query opens only those it needs.

The commit path merges manifests as they come, in the order of commits; here they are put in the order of partitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table, TableProperties

from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.replacing import regroup_manifests

EXCESS = 20  # manifests more than are needed that are worth a commit; the commit path itself merges at 20

LEFT = 100  # files that left, in the manifests of the head, that are worth a commit


def manifests_of(table: Table) -> list[ManifestFile]:
    """The manifests of the head of main that list files."""
    head = table.current_snapshot()
    return [one for one in (head.manifests(table.io) if head else ()) if one.has_added_files() or one.has_existing_files()]


def needed_manifests(table: Table, manifests: Sequence[ManifestFile]) -> int:
    """How many manifests of the target size hold what these hold, by kind and spec."""
    default = TableProperties.MANIFEST_TARGET_SIZE_BYTES_DEFAULT
    target = int(table.metadata.properties.get(TableProperties.MANIFEST_TARGET_SIZE_BYTES, default))
    sizes: dict[tuple[int, int], int] = {}
    for one in manifests:
        key = (int(one.content), one.partition_spec_id)
        sizes[key] = sizes.get(key, 0) + one.manifest_length
    return sum(math.ceil(size / target) for size in sizes.values())


def rewrite_manifests(lakehouse: Lakehouse, identifier: str, *, run_id: str) -> tuple[int, int] | None:
    """Manifests before and after, those that only list files that left included; None when others kept committing."""
    table = lakehouse.table(identifier)
    head = table.current_snapshot() if table is not None else None
    before = len(head.manifests(table.io)) if table is not None and head is not None else 0
    if regroup_manifests(lakehouse, identifier, run_id=run_id) is None:
        return None
    fresh = lakehouse.table(identifier)
    return before, len(manifests_of(fresh)) if fresh is not None else 0
