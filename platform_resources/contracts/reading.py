"""Read one contract file: YAML, the ODCS 3.2 schema, then our own laws, each fault with file, line, sentence and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from platform_resources.contracts.model import Contract
from platform_resources.errors import Problem

if TYPE_CHECKING:
    from platform_resources.contracts.registry import Domain


def read_contract(path: Path, *, domain: Domain, project: Path) -> tuple[Contract | None, list[Problem]]:
    """The contract in a file, or None with the errors that keep it from being one."""
    raise NotImplementedError
