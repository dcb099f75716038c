"""Where in a JSON document its records are: the list of objects, wherever it lies among the objects around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from platform_resources.errors import PlatformError


def list_in(value: Any, what: str) -> tuple[str | None, list[Mapping[str, Any]]]:
    """The dotted path (None: the document is it) and the records of the longest list of objects that lies in no other list.

    Args:
        value: the parsed document.
        what: how to call it in a sentence.

    Raises:
        PlatformError: `sample-malformed`.
    """
    found = max(_lists(value, ()), key=lambda one: len(one[1]), default=None)
    if found is None:
        raise PlatformError(
            "sample-malformed", f"{what} has no list of objects.", "Give a list, or an object with one, or one object per line (.ndjson)."
        )
    path, records = found
    return ".".join(path) or None, records


def _lists(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    if isinstance(value, list):
        if all(isinstance(record, dict) for record in value):
            yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if "." not in name:  # a dotted path could not name it
                yield from _lists(inner, (*path, name))
