"""SQL transforms: which products a query reads, where its columns come from, and whether DuckDB accepts it against the contracts."""

from __future__ import annotations

from pathlib import Path

from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.transform import ColumnSource as ColumnSource
from platform_resources.engines.transform import Transform as Transform
from platform_resources.errors import Problem


def read_sql(path: Path, contract: Contract, registry: Registry) -> Transform:
    """The transform in a `.sql` file."""
    raise NotImplementedError


def validate(transform: Transform, contract: Contract, registry: Registry) -> list[Problem]:
    """What DuckDB and the output contract hold against a transform."""
    raise NotImplementedError
