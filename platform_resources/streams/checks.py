"""A stream's quality rules at work: which rows of a batch are bad by themselves, and whether the batch as a whole may be published.

The rules' SQL comes from `contracts.quality`, the audit of a staged write from `engines.audit`. What becomes of a bad row or batch is
the drain's decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from platform_resources.config import Settings
from platform_resources.contracts.model import Check, Contract
from platform_resources.contracts.quality import predicate_sql
from platform_resources.engines.audit import CheckOutcome, audit
from platform_resources.engines.duck import connect
from platform_resources.lakehouse.staging import StagedWrite


@dataclass(frozen=True)
class RowVerdicts:
    """`failed[i]` is the index into `checks` of the first error rule that row i breaks, -1 for none."""

    failed: npt.NDArray[np.int64]
    checks: tuple[Check, ...]
    outcomes: list[CheckOutcome]


class StreamChecks:
    """The rules of one stream that hold for each commit; rules of scope `table` run by cadence elsewhere and cannot block."""

    def __init__(self, contract: Contract, settings: Settings, *, skip: Collection[str] = ()) -> None:
        self._contract, self._settings, self._skip = contract, settings, frozenset(skip)
        mine = [check for check in contract.checks if check.scope != "table" and check.name not in self._skip]
        self._row_wise = tuple(check for check in mine if check.row_wise)
        self._whole = tuple(check for check in mine if not check.row_wise)
        self._rows_session: duckdb.DuckDBPyConnection | None = None
        self._audit_session: duckdb.DuckDBPyConnection | None = None

    @property
    def audits(self) -> bool:
        """Whether a batch needs an audit as a whole."""
        return bool(self._whole)

    def rows(self, table: pa.Table) -> RowVerdicts:
        """Evaluate the row-wise rules on decoded rows, all in one scan."""
        failed = np.full(len(table), -1, dtype=np.int64)
        if not self._row_wise or not len(table):
            return RowVerdicts(failed, self._row_wise, [])
        if self._rows_session is None:  # a session of its own: rows must come back in their order, which `connect` gives up for speed
            self._rows_session = duckdb.connect(config={"threads": 1})
            self._rows_session.execute("SET TimeZone = 'UTC'")
        measures = ", ".join(f"coalesce({predicate_sql(check)}, false) AS c{i}" for i, check in enumerate(self._row_wise))
        bad = self._rows_session.from_arrow(table).project(measures).fetchnumpy()
        for i in reversed(range(len(self._row_wise))):
            if self._row_wise[i].blocking:
                failed[bad[f"c{i}"]] = i
        counts = [int(bad[f"c{i}"].sum()) for i in range(len(self._row_wise))]
        outcomes = [CheckOutcome(check, n == 0, float(n), len(table)) for check, n in zip(self._row_wise, counts, strict=True)]
        return RowVerdicts(failed, self._row_wise, outcomes)

    def whole(self, staged: StagedWrite) -> list[CheckOutcome]:
        """Evaluate the other rules on a staged batch."""
        if self._audit_session is None:
            self._audit_session = connect(self._settings)
        return audit(self._audit_session, staged, replace(self._contract, checks=self._whole))

    def close(self) -> None:
        """Let the sessions go."""
        for session in (self._rows_session, self._audit_session):
            if session is not None:
                session.close()
        self._rows_session = self._audit_session = None


def combined(outcomes: Iterable[CheckOutcome]) -> list[CheckOutcome]:
    """One outcome for each rule out of those of many batches: row-wise counts add up, a failed batch outweighs a passed one."""
    out: dict[str, CheckOutcome] = {}
    for outcome in outcomes:
        before = out.get(outcome.check.name)
        if before is None:
            out[outcome.check.name] = outcome
        elif outcome.check.row_wise:
            both = before.measured + outcome.measured
            out[outcome.check.name] = replace(outcome, passed=both == 0, measured=both, rows=before.rows + outcome.rows)
        elif before.passed:
            out[outcome.check.name] = outcome
    return list(out.values())
