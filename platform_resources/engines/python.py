"""Python transforms: the decorator a domain team writes, and how its file is read and held against the contracts.

The annotation of each parameter says how the input is given, the return annotation what comes back. Reading a file executes that
file only; running the function lives in `derivation`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.sql import key_columns, shown_path, unknown_input
from platform_resources.engines.transform import ColumnSource, Engine, Transform
from platform_resources.errors import PlatformError

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__data_product_inputs__"
_ENGINES: dict[Any, Engine] = {
    duckdb.DuckDBPyRelation: "duckdb", pl.LazyFrame: "polars", pa.Table: "arrow", pa.RecordBatchReader: "arrow_reader",
}  # fmt: skip
_CHOICE = "Annotate it duckdb.DuckDBPyRelation, polars.LazyFrame, pyarrow.Table or pyarrow.RecordBatchReader."


def data_product(*, inputs: Mapping[str, str]) -> Callable[[F], F]:
    """Mark a function as the transform of the product that its file is named after.

    Args:
        inputs: parameter name -> product key, e.g. `{"page_change": "mediawiki/page_change"}`. The parameter's annotation says how
            it is given: `duckdb.DuckDBPyRelation`, `polars.LazyFrame`, `pyarrow.Table` or `pyarrow.RecordBatchReader`.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, dict(inputs))
        return function

    return mark


def read_python(path: Path, contract: Contract, registry: Registry) -> Transform:
    """The transform in a `.py` file. Lineage is what the contract's `transformSourceObjects` declare.

    Raises:
        PlatformError: `python-broken`, `python-no-transform`, `python-several-transforms`, `python-signature`,
            `python-annotation`, `python-unknown-product`, `python-input-broken`, `python-reads-itself`, `python-unknown-source`,
            with file and line.
    """
    where = shown_path(path, registry)
    function = _marked_function(_execute(path, contract, where), where)
    line = function.__code__.co_firstlineno
    inputs: dict[str, str] = getattr(function, _MARK)
    _check_inputs(inputs, contract, registry, where, line)
    parameters, returns = _read_signature(function, inputs, where, line)
    lineage = _declared_lineage(contract, tuple(dict.fromkeys(inputs.values())))
    keys, untraced = _declared_keys(contract, lineage, tuple(dict.fromkeys(inputs.values())))
    return Transform(
        kind="python",
        path=path,
        inputs=tuple(dict.fromkeys(key.replace(".", "/", 1) for key in inputs.values())),
        lineage=lineage,
        code_version=hashlib.sha256(ast.dump(ast.parse(path.read_text(encoding="utf-8"))).encode()).hexdigest()[:16],
        keys=keys,
        untraced=untraced,
        function=function,
        parameters=parameters,
        returns=returns,
    )


def _execute(path: Path, contract: Contract, where: str) -> Any:
    """The module of one file, under a name of its own, so that no domain's package is imported for it."""
    name = f"_transform_{contract.domain}_{contract.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PlatformError("python-broken", "The file cannot be loaded as a module.", "Give it the ending .py.", file=where)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and typing look their module up
    try:
        spec.loader.exec_module(module)
    except PlatformError:
        raise
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError):
            line, said = error.lineno or 0, error.msg
        else:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
            line, said = (frames[-1].lineno or 0 if frames else 0), f"{type(error).__name__}: {error}"
        raise PlatformError(
            "python-broken", f"The file cannot be executed: {said}.", "Correct it at that line.", file=where, line=line
        ) from error
    return module


def _marked_function(module: Any, where: str) -> Any:
    marked = [value for value in vars(module).values() if callable(value) and hasattr(value, _MARK) and value.__module__ == module.__name__]
    if not marked:
        raise PlatformError(
            "python-no-transform",
            "The file has no function marked @data_product(inputs={...}).",
            "Mark the one that makes the product.",
            file=where,
        )
    if len(marked) > 1:
        names = " and ".join(function.__name__ for function in marked)
        raise PlatformError(
            "python-several-transforms", f"The file marks {names} as transforms.", "Keep one; a product has one transform.",
            file=where, line=marked[1].__code__.co_firstlineno,
        )  # fmt: skip
    return marked[0]


def _check_inputs(inputs: Mapping[str, str], contract: Contract, registry: Registry, where: str, line: int) -> None:
    if not inputs:
        raise PlatformError(
            "python-signature", "@data_product names no input.", 'Give inputs={"name": "domain/product"}.', file=where, line=line
        )
    for raw in inputs.values():
        key = raw.replace(".", "/", 1)
        if key == contract.key:
            raise PlatformError(
                "python-reads-itself", f"The transform reads its own product {key}.", "Read its inputs only.", file=where, line=line
            )
        if key not in registry.contracts:
            raise unknown_input(key, registry, file=where, line=line, kind="python")


def _read_signature(function: Any, inputs: Mapping[str, str], where: str, line: int) -> tuple[dict[str, tuple[str, Engine]], Engine]:
    names = list(inspect.signature(function).parameters)
    if sorted(names) != sorted(inputs):
        raise PlatformError(
            "python-signature", f"{function.__name__} takes ({', '.join(names)}), its inputs are ({', '.join(inputs)}).",
            "Give each input one parameter of the same name.", file=where, line=line,
        )  # fmt: skip
    try:
        hints = typing.get_type_hints(function)
    except Exception as error:
        raise PlatformError(
            "python-annotation", f"An annotation of {function.__name__} cannot be read: {error}.", _CHOICE, file=where, line=line
        ) from error
    parameters = {
        name: (inputs[name].replace(".", "/", 1), _engine(hints.get(name), f"The parameter {name}", where, line)) for name in names
    }
    return parameters, _engine(hints.get("return"), "The return value", where, line)


def _engine(hint: Any, what: str, where: str, line: int) -> Engine:
    if hint in _ENGINES:
        return _ENGINES[hint]
    if hint is None or hint is type(None):
        raise PlatformError("python-annotation", f"{what} has no annotation, so no engine is picked.", _CHOICE, file=where, line=line)
    name = f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', hint)}".removeprefix("builtins.")
    if name.startswith("pyspark"):
        raise PlatformError(
            "python-annotation", f"{what} is annotated {name}; transforms on Spark are not offered yet.", _CHOICE, file=where, line=line
        )
    raise PlatformError("python-annotation", f"{what} is annotated {name}, which no engine gives.", _CHOICE, file=where, line=line)


def _declared_lineage(contract: Contract, inputs: tuple[str, ...]) -> dict[str, tuple[ColumnSource, ...]]:
    lineage: dict[str, tuple[ColumnSource, ...]] = {}
    for column in contract.columns:
        sources = []
        for text in column.sources:
            domain, _, rest = text.partition(".")
            product, _, path = rest.partition(".")
            key = f"{domain}/{product}"
            if path and key in {name.replace(".", "/", 1) for name in inputs}:
                sources.append(ColumnSource(key, path))
        lineage[column.name] = tuple(sources)
    return lineage


def _declared_keys(
    contract: Contract, lineage: Mapping[str, tuple[ColumnSource, ...]], inputs: tuple[str, ...]
) -> tuple[dict[str, tuple[tuple[str, ...], ...]], dict[str, str]]:
    """Key tracing by declaration: a key column with exactly one source in an input is that input's column unchanged."""
    columns = key_columns(contract)
    keys: dict[str, tuple[tuple[str, ...], ...]] = {}
    untraced: dict[str, str] = {}
    for raw in inputs if columns else ():
        key = raw.replace(".", "/", 1)
        places = []
        for column in columns:
            ours = [source.column for source in lineage.get(column, ()) if source.product == key]
            if len(ours) != 1:
                untraced[key] = f"transformSourceObjects of {column} do not name one column of {key}"
                break
            places.append(".".join(f'"{step}"' for step in ours[0].split(".")))
        else:
            keys[key] = (tuple(places),)
    return keys, untraced
