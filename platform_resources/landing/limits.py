"""Rows held against what their columns may hold (`contracts.constraints`); what becomes of those that do not is `intake`'s."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from platform_resources.contracts.constraints import Constraint, constraints
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError


class Limits:
    """The constraints of one contract. Close it."""

    def __init__(self, contract: Contract) -> None:
        self._contract, self._constraints = contract, constraints(contract)
        self._session: duckdb.DuckDBPyConnection | None = None

    def of(self, index: int) -> Constraint:
        """The constraint that `broken` means by a number."""
        return self._constraints[index]

    def broken(self, rows: pa.Table) -> npt.NDArray[np.int64]:
        """Per row the number of the first constraint that it breaks, -1 for none; all in one scan.

        Raises:
            PlatformError: `constraint-unfit`, naming one that cannot be held against rows, as a pattern with a look-ahead.
        """
        first = np.full(rows.num_rows, -1, np.int64)
        if not self._constraints or not rows.num_rows:
            return first
        if self._session is None:
            self._session = duckdb.connect(config={"threads": 1})  # one thread: rows come back in their order
            self._session.execute("SET TimeZone = 'UTC'")
        try:
            found = self._scan(rows, self._constraints)
        except duckdb.Error:
            raise self._unfit(rows) from None
        for index in reversed(range(len(self._constraints))):
            first[found[f"c{index}"]] = index
        return first

    def close(self) -> None:
        """Let the session go."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _scan(self, rows: pa.Table, some: tuple[Constraint, ...]) -> dict[str, npt.NDArray[np.bool_]]:
        assert self._session is not None  # noqa: S101 - `broken` opened it
        found: dict[str, Any] = self._session.from_arrow(rows).project(
            ", ".join(f"{one.breach} AS c{index}" for index, one in enumerate(some))
        ).fetchnumpy()  # fmt: skip
        return found

    def _unfit(self, rows: pa.Table) -> PlatformError:
        """Which constraint spoils the scan, and why; told by running each by itself."""
        said, path = "they cannot be held together", self._constraints[0].path
        for one in self._constraints:
            try:
                self._scan(rows, (one,))
            except duckdb.Error as error:
                said, path = str(error).split("\n", maxsplit=1)[0].strip().rstrip("."), one.path
                break
        column = self._contract.column(path)
        return PlatformError(
            "constraint-unfit",
            f"What the contract {self._contract.key} says of the values of {path} cannot be held against rows: {said}.",
            "Mend its logicalTypeOptions or enum in the contract; patterns are those of RE2, without look-around.",
            file=self._contract.path,
            line=column.line,
        )
