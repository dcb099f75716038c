"""The audit of a staged write: every check of one scope in one scan, before anything is published."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from platform_resources.contracts.model import Check, Contract
from platform_resources.lakehouse.staging import StagedWrite


@dataclass(frozen=True)
class CheckOutcome:
    """What one check said: the measured number out of `rows` rows in scope, up to five offending rows, or why it could not run."""

    check: Check
    passed: bool
    measured: float
    rows: int
    sample: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None


def audit(con: duckdb.DuckDBPyConnection, staged: StagedWrite, contract: Contract, *, skip: Collection[str] = ()) -> list[CheckOutcome]:
    """Evaluate every check of a contract but those named in `skip` on a staged write."""
    raise NotImplementedError
