"""What changed in a table between two snapshots, as files added and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyiceberg.table import Table


@dataclass(frozen=True)
class Changes:
    """The difference between two snapshots: file paths added and removed, and how a reader may follow them."""

    kind: Literal["none", "append", "rewrite", "recompute"]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    head: int | None
    reason: str


def changes_between(table: Table, since: int | None, until: int | None = None) -> Changes:
    """Files added and removed after `since` up to `until` (default: the head of main)."""
    raise NotImplementedError
