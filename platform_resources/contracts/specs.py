"""A contract as Dagster sees it: asset spec, check specs, column schema. The one module here that imports Dagster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry


def asset_spec(
    contract: Contract, *, registry: Registry, deps: Iterable[Any] = (), kinds: Iterable[str] = (), code_version: str | None = None
) -> dg.AssetSpec:
    """The asset of a contract."""
    raise NotImplementedError


def asset_check_specs(contract: Contract) -> Sequence[dg.AssetCheckSpec]:
    """One asset check per quality rule."""
    raise NotImplementedError


def column_schema(contract: Contract) -> dg.TableSchema:
    """Columns with types, descriptions and constraints."""
    raise NotImplementedError


def render(spec: dg.AssetSpec) -> dict[str, Any]:
    """Plain data of a spec, stable between runs, for review snapshots."""
    raise NotImplementedError
