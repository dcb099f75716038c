"""Python transforms: the decorator a domain team writes, and how its file is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.transform import Transform

F = TypeVar("F", bound=Callable[..., Any])


def data_product(*, inputs: Mapping[str, str]) -> Callable[[F], F]:
    """Mark a function as the transform of the product its file is named after."""
    raise NotImplementedError


def read_python(path: Path, contract: Contract, registry: Registry) -> Transform:
    """The transform in a `.py` file."""
    raise NotImplementedError
