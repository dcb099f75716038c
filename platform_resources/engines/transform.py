"""A transform as a value: what it reads, where each output column comes from, which code it is. How it runs lives elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from platform_resources.errors import Problem

Engine = Literal["duckdb", "polars", "arrow", "arrow_reader"]


@dataclass(frozen=True)
class ColumnSource:
    """A column of an input: the product's key `domain/product` and the dotted path of the column."""

    product: str
    column: str


@dataclass(frozen=True)
class Transform:
    """A query or a function from inputs to one table.

    `inputs` are product keys in order of appearance; `lineage` maps an output column to the input columns its value is made of;
    `direct` holds of those the output columns that are one input column unchanged, per input (what key and partition tracing
    may rely on). `code_version` is a hash of what the transform does, without its comments where that is told cheaply.
    `parameters` maps a Python function's parameter name to the product key and the engine its annotation picks.
    """

    kind: Literal["sql", "python"]
    path: Path
    inputs: tuple[str, ...]
    lineage: Mapping[str, tuple[ColumnSource, ...]]
    code_version: str
    direct: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    text: str | None = None
    function: Callable[..., Any] | None = None
    parameters: Mapping[str, tuple[str, Engine]] = field(default_factory=dict)
    returns: Engine | None = None
    warnings: tuple[Problem, ...] = ()
