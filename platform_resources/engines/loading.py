"""From a product's key to its transform, whichever form it is written in."""

from __future__ import annotations

from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.transform import Transform
from platform_resources.errors import Problem


def read_transform(contract: Contract, registry: Registry) -> Transform | None:
    """The transform beside a contract, None for a product that has none (a stream, a file drop). PlatformError when it is wrong."""
    raise NotImplementedError


def check_transform(contract: Contract, registry: Registry) -> list[Problem]:
    """Every problem of the transform beside a contract, for `sdp check` and for loading a location."""
    raise NotImplementedError
