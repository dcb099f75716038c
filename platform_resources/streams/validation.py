"""Events held against their contract's JSON Schema, and what is wrong with one told in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import orjson

from platform_resources.contracts.json_schema import event_schema
from platform_resources.contracts.model import Contract

_LONGEST = 300


class EventSchema:
    """The compiled JSON Schema of one contract's events, formats included."""

    def __init__(self, contract: Contract) -> None:
        self._validator = jsonschema_rs.validator_for(event_schema(contract), validate_formats=True)
        self.is_valid = self._validator.is_valid

    def fault(self, event: Any) -> tuple[str, str] | None:
        """Path and reason of the first breach, None when there is none."""
        first = next(iter(self._validator.iter_errors(event)), None)
        if first is None:
            return None
        return dotted(first.instance_path), shortened(first.message)


class UnreadableError(ValueError):
    """Bytes that are no event: `reason` is `too-large`, `invalid-utf8`, `invalid-json`, `too-deep` or `not-an-object`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def parse_event(raw: bytes, limit: int) -> dict[str, Any]:
    """The JSON object in these bytes; of a repeated key the last value counts.

    Raises:
        UnreadableError: they hold none, or are more than `limit`.
    """
    if len(raw) > limit:
        raise UnreadableError("too-large", f"{len(raw)} bytes are more than {limit}")
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            raw.decode()
        except UnicodeDecodeError as undecodable:
            raise UnreadableError("invalid-utf8", f"byte {undecodable.start} is not UTF-8") from None
        reason = "too-deep" if "depth limit" in error.msg else "invalid-json"
        raise UnreadableError(reason, shortened(error.msg)) from None
    if type(event) is not dict:
        raise UnreadableError("not-an-object", "the event is not a JSON object")
    return event


def dotted(path: Sequence[str | int]) -> str:
    """A place in an event as people write it: `meta.dt`, `tags[2]`; empty for the event itself."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def shortened(message: str) -> str:
    """A message that quotes the event, cut to a readable length, in the middle, since both ends tell."""
    return message if len(message) <= _LONGEST else f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
