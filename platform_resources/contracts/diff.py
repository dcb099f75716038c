"""What changed between two versions of a contract, and whether readers of the product survive it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from platform_resources.contracts.model import Contract
from platform_resources.errors import Problem


@dataclass(frozen=True)
class Change:
    """One difference: its kind, the dotted path it concerns, one readable sentence."""

    kind: Literal["additive", "widening", "breaking", "documentation"]
    path: str
    message: str


def diff(old: Contract, new: Contract) -> list[Change]:
    """Every difference between two versions."""
    raise NotImplementedError


def check_against(project: Path, git_ref: str) -> list[Problem]:
    """Problems of the working tree's contracts held against those of a git ref."""
    raise NotImplementedError
