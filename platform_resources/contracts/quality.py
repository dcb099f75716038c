"""Quality rules as SQL text: DuckDB expressions that measure, and the verdict on what was measured."""

from __future__ import annotations

from platform_resources.contracts.model import Check


def predicate_sql(check: Check) -> str:
    """SQL boolean of a row-wise check; true means the row is bad."""
    raise NotImplementedError


def aggregate_sql(check: Check) -> str:
    """One SELECT-list expression giving the measured number."""
    raise NotImplementedError


def passes(check: Check, measured: float, rows: int) -> bool:
    """Whether a measured number keeps the rule."""
    raise NotImplementedError
