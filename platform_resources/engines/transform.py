"""A transform as a value: what it reads, where each output column comes from, which code it is. How it runs lives elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from platform_resources.errors import Problem

Engine = Literal["duckdb", "polars", "arrow", "arrow_reader", "spark"]


@dataclass(frozen=True)
class ColumnSource:
    """A column of an input: the product's key `domain/product` and the dotted path of the column."""

    product: str
    column: str


@dataclass(frozen=True)
class Transform:
    """A query or a function from inputs to one table.

    `inputs` are product keys in order of appearance; `lineage` maps an output column to the input columns its value is made of.
    `keys` maps an input to tuples of DuckDB expressions over its columns that equal the output's key columns (the incremental key,
    or the source columns of the partition fields), one tuple for each place that reads it; `untraced` says why an input has none.
    `code_version` is a hash of what the transform does. `obstacle` names the first construct (and its line) that
    keeps the transform from being row-wise. `parameters` maps a Python function's parameter to the product
    key and the engine its annotation picks.
    """

    kind: Literal["sql", "python"]
    path: Path
    inputs: tuple[str, ...]
    lineage: Mapping[str, tuple[ColumnSource, ...]]
    code_version: str
    keys: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    untraced: Mapping[str, str] = field(default_factory=dict)
    obstacle: tuple[str, int] | None = None
    text: str | None = None
    function: Callable[..., Any] | None = None
    parameters: Mapping[str, tuple[str, Engine]] = field(default_factory=dict)
    returns: Engine | None = None
    warnings: tuple[Problem, ...] = ()

    @property
    def needs_spark(self) -> bool:
        """Whether a function asks for Spark, in an input or in what it returns."""
        return "spark" in {self.returns, *(engine for _, engine in self.parameters.values())}

    @property
    def where(self) -> str:
        """The file as problems show it, relative to the project: a transform lies in data_products/<domain>/."""
        return "/".join(self.path.parts[-3:])

    def with_keys(self, keys: Mapping[str, tuple[tuple[str, ...], ...]], untraced: Mapping[str, str]) -> Transform:
        """The same transform with its tracing."""
        return replace(self, keys=keys, untraced=untraced)
