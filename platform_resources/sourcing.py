"""`source("domain/product")`: the one way to load a product, and `query`, SQL over all of them. Reading only."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from platform_resources.config import Settings
from platform_resources.contracts.registry import Registry

if TYPE_CHECKING:
    import polars as pl


class Source:
    """One product at one snapshot (default: its newest)."""

    def at(self, when: int | datetime | str) -> Source:
        """The product as it was: a snapshot id, a time, or ISO-8601 text of one."""
        raise NotImplementedError

    def duckdb(self, con: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation."""
        raise NotImplementedError

    def polars(self) -> pl.LazyFrame:
        """A Polars LazyFrame."""
        raise NotImplementedError

    def arrow(self) -> pa.Table:
        """An Arrow table in memory."""
        raise NotImplementedError


def source(key: str, *, settings: Settings | None = None, registry: Registry | None = None) -> Source:
    """A product by its key `domain/product`."""
    raise NotImplementedError


def query(sql: str, settings: Settings, registry: Registry, *, include_quarantine: bool = False) -> pa.Table:
    """Run one read-only query in which every product is a view `domain.product`."""
    raise NotImplementedError
