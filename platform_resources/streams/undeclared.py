"""Fields of an event that the contract does not declare: taken out for the column `_extra`, put back when the event is rebuilt.

The extra object mirrors the event: nested objects and maps by key, arrays as objects by index (`{"slots": {"2": {"size": 7}}}`).
"""

from __future__ import annotations

from typing import Any

from platform_resources.contracts.model import Column, Contract
from platform_resources.streams.canonical import plain


class Undeclared:
    """The undeclared part of one contract's events."""

    def __init__(self, contract: Contract) -> None:
        self._root = _Struct(contract.columns)

    def of(self, event: dict[str, Any]) -> dict[str, Any]:
        """What the contract does not declare, in canonical form; {} when it declares all. Null is absent."""
        return self._root.beyond(event)

    def merge(self, event: dict[str, Any], extra: dict[str, Any]) -> None:
        """Put the extra fields back where `of` found them; the event is changed in place."""
        self._root.merge(event, extra)


class _Struct:
    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.fields = {column.event_name: _node(column) for column in columns}

    def beyond(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if type(value) is not dict:
            return found
        for name, item in value.items():
            if item is None:
                continue
            if name not in self.fields:
                found[name] = plain(item)
                continue
            node = self.fields[name]
            if node is not None and (inner := node.beyond(item)):
                found[name] = inner
        return found

    def merge(self, value: Any, extra: dict[str, Any]) -> None:
        for name, item in extra.items():
            node = self.fields.get(name)
            if node is not None and name in value:
                node.merge(value[name], item)
            else:
                value[name] = item


class _Several:
    """A list or a map of things that have undeclared fields of their own."""

    def __init__(self, inner: _Node) -> None:
        self.inner = inner

    def beyond(self, value: Any) -> dict[str, Any]:
        items = enumerate(value) if type(value) is list else value.items() if type(value) is dict else ()
        return {str(place): inner for place, item in items if (inner := self.inner.beyond(item))}

    def merge(self, value: Any, extra: dict[str, Any]) -> None:
        for place, item in extra.items():
            self.inner.merge(value[int(place)] if isinstance(value, list) else value[place], item)


_Node = _Struct | _Several


def _node(column: Column) -> _Node | None:
    """What can have undeclared fields inside: structs, and lists and maps of them."""
    if column.is_json:
        return None
    if column.fields:
        return _Struct(column.fields)
    inside = column.element or column.value
    inner = _node(inside) if inside is not None else None
    return _Several(inner) if inner is not None else None
