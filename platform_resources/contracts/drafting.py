"""Draft a contract from what a producer has: an event JSON Schema or a sample of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def draft_from_event_schema(schema: Mapping[str, Any], *, domain: str, product: str, stream: str | None = None) -> str:
    """A draft contract, YAML text, for the stream of a JSON Schema."""
    raise NotImplementedError


def draft_from_sample(lines: Iterable[bytes], *, domain: str, product: str, stream: str | None = None) -> str:
    """A draft contract, YAML text, inferred from newline-delimited JSON events."""
    raise NotImplementedError
