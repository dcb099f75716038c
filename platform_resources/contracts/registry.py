"""Every domain and contract of a project, found by folder, and the problems found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platform_resources.contracts.model import Contract, Support
from platform_resources.errors import Problem


@dataclass(frozen=True)
class Domain:
    """A team: who it is, who answers, what its products take as default."""

    name: str
    path: Path
    title: str = ""
    description: str = ""
    owners: tuple[str, ...] = ()
    on_call: tuple[str, ...] = ()
    support: tuple[Support, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""


class Registry:
    """What `data_products/` declares."""

    def __init__(self, project: Path, domains: Mapping[str, Domain], contracts: Mapping[str, Contract], problems: tuple[Problem, ...]) -> None:
        self.project, self.domains, self.contracts, self.problems = project, domains, contracts, problems

    @classmethod
    def load(cls, project: Path) -> Registry:
        """Read every contract of a project; never raises for a user's fault."""
        raise NotImplementedError

    def problems_of(self, key_or_domain: str) -> tuple[Problem, ...]:
        """Problems of one product or of one domain."""
        raise NotImplementedError

    def get(self, key: str) -> Contract:
        """The contract of `d/p` or `d.p`."""
        raise NotImplementedError

    def by_stream(self, stream: str) -> Contract:
        """The contract that ingests a stream."""
        raise NotImplementedError

    def transform_path(self, key: str) -> Path | None:
        """The sibling .sql or .py of a contract."""
        raise NotImplementedError
