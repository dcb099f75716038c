"""What it means for two events to be equal, as 16 bytes."""

from __future__ import annotations

from typing import Any

from platform_resources.contracts.model import Contract


def event_hash(event: dict[str, Any], contract: Contract) -> bytes:
    """16 bytes that are the same for two events exactly when they are equal under the contract."""
    raise NotImplementedError
