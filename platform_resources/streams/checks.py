"""Quality rules at work on what comes in, by stream or landed: which rows of a batch are bad by themselves, and whether the batch as a
whole may be published.

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
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.staging import StagedWrite


@dataclass(frozen=True)
class RowVerdicts:
    """`failed[i]` is the index into `checks` of the first error rule that row i breaks, -1 for none."""

    failed: npt.NDArray[np.int64]
    checks: tuple[Check, ...]
    outcomes: list[CheckOutcome]


class StreamChecks:
    """The rules that hold for each commit. On a stream, rules of scope `table` run by cadence elsewhere and cannot block."""

    def __init__(self, contract: Contract, settings: Settings, *, skip: Collection[str] = ()) -> None:
        self._contract, self._settings, self._skip = contract, settings, frozenset(skip)
        every = not contract.is_stream
        mine = [check for check in contract.checks if (every or check.scope != "table") and check.name not in self._skip]
        self._row_wise = tuple(check for check in mine if check.row_wise)
        self._whole = tuple(check for check in mine if not check.row_wise)
        self._rows_session: duckdb.DuckDBPyConnection | None = None
        self._audit_session: duckdb.DuckDBPyConnection | None = None

    @property
    def audits(self) -> bool:
        """Whether a batch needs an audit as a whole."""
        return bool(self._whole)

    def rows(self, table: pa.Table) -> RowVerdicts:
        """Evaluate the row-wise rules on decoded rows, all in one scan.

        Raises:
            PlatformError: `check-unfit`, naming the rule that cannot be run on these rows.
        """
        failed = np.full(len(table), -1, dtype=np.int64)
        if not self._row_wise or not len(table):
            return RowVerdicts(failed, self._row_wise, [])
        if self._rows_session is None:  # a session of its own: rows must come back in their order, which `connect` gives up for speed
            self._rows_session = duckdb.connect(config={"threads": 1})
            self._rows_session.execute("SET TimeZone = 'UTC'")
        try:
            bad = _bad_rows(self._rows_session, table, self._row_wise)
        except duckdb.Error:
            raise self._unfit(self._rows_session, table) from None
        for i in reversed(range(len(self._row_wise))):
            if self._row_wise[i].blocking:
                failed[bad[f"c{i}"]] = i
        counts = [int(bad[f"c{i}"].sum()) for i in range(len(self._row_wise))]
        outcomes = [CheckOutcome(check, n == 0, float(n), len(table)) for check, n in zip(self._row_wise, counts, strict=True)]
        return RowVerdicts(failed, self._row_wise, outcomes)

    def _unfit(self, session: duckdb.DuckDBPyConnection, table: pa.Table) -> PlatformError:
        """Which rule spoils the common scan, and why; told by running each by itself."""
        said, check = "they cannot be run together", self._row_wise[0]
        for one in self._row_wise:
            try:
                _bad_rows(session, table, (one,))
            except duckdb.Error as error:
                said, check = str(error).split("\n", maxsplit=1)[0].strip().rstrip("."), one
                break
        return PlatformError(
            "check-unfit",
            f"The check {check.name} of {self._contract.key} cannot run: {said}.",
            f"Mend it in the contract, or go on without it: sdp ingest {self._contract.key} --skip-check {check.name}.",
            file=self._contract.path,
            line=check.line,
        )

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


def _bad_rows(session: duckdb.DuckDBPyConnection, table: pa.Table, checks: tuple[Check, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """One array `c<i>` for each check, true where the row is bad."""
    measures = ", ".join(f"coalesce({predicate_sql(check)}, false) AS c{i}" for i, check in enumerate(checks))
    bad: dict[str, npt.NDArray[np.bool_]] = session.from_arrow(table).project(measures).fetchnumpy()
    return bad


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
