"""Incremental derivation: from what changed in the inputs to one staged write of the product."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.transform import Transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import StagedWrite

Plan = Literal["full", "append", "key", "partition", "nothing"]


@dataclass(frozen=True)
class Derived:
    """A derivation, staged: what was done and why. `staged` is None when nothing at all changed (not even an input's head)."""

    staged: StagedWrite | None
    plan: Plan
    reason: str
    position: dict[str, int | None]
    watermark: datetime | None


class Derivation:
    """One derived product over its inputs."""

    def __init__(self, contract: Contract, transform: Transform, *, lakehouse: Lakehouse, registry: Registry, settings: Settings) -> None:
        self.contract, self.transform = contract, transform
        self.lakehouse, self.registry, self.settings = lakehouse, registry, settings

    def is_behind(self) -> bool:
        """Whether an input's head, the code or the contract differs from what the product's own stamp says."""
        raise NotImplementedError

    def stage(self, *, run_id: str, partition: str | None = None, recompute: bool = False) -> Derived:
        """Compute and stage what is missing."""
        raise NotImplementedError
