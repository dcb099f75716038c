"""Event JSON Schema both ways: ODCS properties from a JSON Schema, the gate's schema from a contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from platform_resources.contracts.model import Contract


def event_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema that the gate checks events of this contract against."""
    raise NotImplementedError


def columns_from_json_schema(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """ODCS properties of an event JSON Schema."""
    raise NotImplementedError
