"""The one family of errors a user may meet, and the problems a check reports.

Every fault that a user can mend is a `PlatformError`: a stable code and one sentence saying what is wrong, where, and how to
mend it. Faults of the platform itself stay ordinary exceptions. No wording of a particular fault lives here.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a file of a domain team, as `sdp check` prints it.

    `file` is relative to the project where it lies inside it; `line` counts from 1, 0 where no line applies; `code` is stable
    kebab-case; `remedy` says what to do next.
    """

    file: str
    line: int
    code: str
    message: str
    remedy: str
    severity: Literal["error", "warning"] = "error"

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of the stable interface."""
        return asdict(self)

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""  # of a text that is in no file, such as a query on the command line
        where = f"{self.file}:{self.line}" if self.file and self.line else self.file or place
        return f"{where}: {self.message} {self.remedy}".strip() if where else f"{self.message} {self.remedy}".strip()


class PlatformError(Exception):
    """Something the user gave, or the world refused, told in one sentence with its remedy.

    Args:
        code: stable kebab-case identifier, e.g. `contract-unknown-column`.
        message: what is wrong, one sentence ending in a full stop.
        remedy: how to mend it, one sentence.
        file, line: where, when a file of the user is at fault.
    """

    def __init__(self, code: str, message: str, remedy: str = "", *, file: str | os.PathLike[str] | None = None, line: int = 0) -> None:
        self.code, self.message, self.remedy = code, message, remedy
        self.file, self.line = str(Path(file)) if file else "", line
        super().__init__(str(self.problem()))

    def problem(self) -> Problem:
        """This error as a row of `sdp check`."""
        return Problem(self.file, self.line, self.code, self.message, self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.message, self.remedy, self.file, self.line)


def _rebuild(kind: type[PlatformError], code: str, message: str, remedy: str, file: str, line: int) -> PlatformError:
    """Pickle support: keyword-only arguments survive a process boundary."""
    error = kind.__new__(kind)
    PlatformError.__init__(error, code, message, remedy, file=file or None, line=line)
    return error
