"""Reading tables with the engines' native readers: SQL text for DuckDB, a LazyFrame for Polars, Arrow. Never PyIceberg's scan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.table import Table

if TYPE_CHECKING:
    import polars as pl


def duckdb_scan_sql(table: Table, snapshot_id: int | None = None) -> str:
    """Text usable in FROM: the table at a snapshot (default: the head of main)."""
    raise NotImplementedError


def files_scan_sql(table: Table, paths: Sequence[str]) -> str:
    """Text usable in FROM: the rows of just these data files, in the table's current schema."""
    raise NotImplementedError


def polars_scan(table: Table, snapshot_id: int | None = None) -> pl.LazyFrame:
    """The table as a LazyFrame, by Polars' native reader."""
    raise NotImplementedError


def arrow_table(table: Table, snapshot_id: int | None = None) -> pa.Table:
    """The table in memory."""
    raise NotImplementedError


def snapshot_at(table: Table, when: datetime | int) -> int:
    """The snapshot that was current at a time, or the id itself when it exists."""
    raise NotImplementedError
