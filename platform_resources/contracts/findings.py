"""Collecting what is wrong with one file: problems with their line and a close match for what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from platform_resources.contracts.yaml_source import DocumentPath
from platform_resources.errors import Problem


class Findings:
    """Problems of one file. Paths are those of the document, so each problem carries the line of its key."""

    def __init__(self, file: str, lines: Mapping[DocumentPath, int]) -> None:
        self.file, self.lines = file, lines
        self.problems: list[Problem] = []

    def line(self, path: DocumentPath) -> int:
        """The line of a path, or of its nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def error(self, code: str, path: DocumentPath, message: str, remedy: str) -> None:
        """A fault that keeps the file from being used."""
        self._add(code, path, message, remedy, "error")

    def warning(self, code: str, path: DocumentPath, message: str, remedy: str) -> None:
        """Something to mend that stops nothing."""
        self._add(code, path, message, remedy, "warning")

    @property
    def failed(self) -> bool:
        """Whether any error was found."""
        return any(problem.severity == "error" for problem in self.problems)

    def _add(self, code: str, path: DocumentPath, message: str, remedy: str, severity: Literal["error", "warning"]) -> None:
        problem = Problem(self.file, self.line(path), code, message, remedy, severity)
        if problem not in self.problems:
            self.problems.append(problem)


def close_match(word: object, words: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    known = {candidate.lower(): candidate for candidate in words}
    matches = difflib.get_close_matches(str(word).lower(), known, n=1, cutoff=0.7)
    return known[matches[0]] if matches else None


def did_you_mean(word: object, words: Iterable[str], *, otherwise: str | None = None) -> str:
    """A remedy: the close match, or else the list of what is known."""
    known = list(words)
    match = close_match(word, known)
    if match is not None:
        return f"Did you mean {match}?"
    return otherwise or f"Use one of {', '.join(known)}."


def show(value: Any, *, limit: int = 60) -> str:
    """A value as it stands in a sentence: short, on one line."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def a(noun: str) -> str:
    """A noun with its article: `a string`, `an integer`."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
