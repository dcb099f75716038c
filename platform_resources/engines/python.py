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
from collections.abc import Callable, Hashable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import duckdb
import polars as pl
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, StructType

from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.sql import key_columns, key_problems, require_input, shown_path, unknown_input
from platform_resources.engines.transform import ColumnSource, Engine, Transform
from platform_resources.errors import PlatformError, Problem

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__data_product_inputs__"
_ENGINES: dict[Any, Engine] = {
    duckdb.DuckDBPyRelation: "duckdb", pl.LazyFrame: "polars", pa.Table: "arrow", pa.RecordBatchReader: "arrow_reader",
}  # fmt: skip
_CHOICE = "Annotate it duckdb.DuckDBPyRelation, polars.LazyFrame, pyarrow.Table, pyarrow.RecordBatchReader or pyspark.sql.DataFrame."


def data_product(*, inputs: Mapping[str, str]) -> Callable[[F], F]:
    """Mark a function as the transform of the product that its file is named after.

    Args:
        inputs: parameter name -> product key, e.g. `{"page_change": "mediawiki/page_change"}`. The parameter's annotation says how
            it is given: `duckdb.DuckDBPyRelation`, `polars.LazyFrame`, `pyarrow.Table`, `pyarrow.RecordBatchReader` or
            `pyspark.sql.DataFrame`.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, inputs)
        return function

    return mark


def read_python(path: Path, contract: Contract, registry: Registry) -> Transform:
    """The transform in a `.py` file. Lineage is what the contract's `transformSourceObjects` declare.

    Raises:
        PlatformError: `python-broken`, `python-no-transform`, `python-several-transforms`, `python-signature`,
            `python-annotation`, `python-unknown-product`, `python-input-broken`, `python-reads-itself`, with file and line.
    """
    where = shown_path(path, registry)
    function = _marked_function(_execute(path, contract, where), where)
    line = function.__code__.co_firstlineno
    given = _read_inputs(getattr(function, _MARK), contract, registry, where, line)
    parameters, returns = _read_signature(function, given, where, line)
    inputs = tuple(dict.fromkeys(given.values()))
    schemas = {key: table_definition(registry.get(key)).schema for key in inputs}
    lineage = _declared_lineage(contract, schemas)
    keys, untraced = _declared_keys(contract, lineage, schemas)
    return Transform(
        kind="python",
        path=path,
        inputs=inputs,
        lineage=lineage,
        code_version=_code_version(path, registry.project),
        keys=keys,
        untraced=untraced,
        function=function,
        parameters=parameters,
        returns=returns,
    )


def validate_python(transform: Transform, contract: Contract, registry: Registry) -> list[Problem]:
    """What the output contract's declarations hold against a Python transform; [] for a sound one.

    Codes: `python-unknown-source`, `python-key-untraceable`.
    """
    where = shown_path(contract.path, registry)
    schemas = {key: table_definition(registry.get(key)).schema for key in transform.inputs}
    problems = []
    for path, column in contract.walk():
        for text in column.sources:
            fault = _source_fault(text, schemas)
            if fault:
                said, remedy = fault
                message = f"transformSourceObjects of {path} name {text}, {said}."
                problems.append(Problem(where, column.line, "python-unknown-source", message, remedy))
    if problems:
        return problems  # a key is untraceable by a wrong name, which is then told already
    line = next((contract.column(name).line for name in key_columns(contract) if contract.has_column(name)), 0)
    remedy = "Name in transformSourceObjects the one input column that each of them is, unchanged, or declare incremental: full."
    return key_problems(transform, contract, where, line, remedy)


def _source_fault(text: str, inputs: Mapping[str, Schema]) -> tuple[str, str] | None:
    """What is wrong with an entry of `transformSourceObjects`, and the remedy; None for a column of an input."""
    key, path = _product_and_column(text)
    if key not in inputs:
        return "which is no column of an input", f"Write domain.product.column; the inputs are {', '.join(inputs)}."
    if not path:
        return "which names no column", f"Add the column: {text}.column."
    if _type_at(inputs[key], path) is not None:
        return None
    names = list(inputs[key]._name_to_id)  # noqa: SLF001 - the one list of dotted paths
    close = get_close_matches(path, names, n=2) or [name for name in names if name.rpartition(".")[2] == path.rpartition(".")[2]][:2]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"`sdp show {key}` shows its columns."
    return f"a column that {key} does not have", hint


def _product_and_column(text: str) -> tuple[str, str]:
    domain, _, rest = text.partition(".")
    product, _, path = rest.partition(".")
    return f"{domain}/{product}", path


def _type_at(schema: Schema, path: str) -> IcebergType | None:
    try:
        return schema.find_type(path)
    except ValueError:
        return None


def _code_version(path: Path, project: Path) -> str:
    """A hash of the transform and of the project's own modules that it imports, at whatever remove; comments and layout do not count.

    Own are the modules of the project's `data_products`. The platform's and installed packages are left out, as DuckDB's version is
    from a query's hash: else each of their releases would recompute every Python product. Imports are read from the text, so one
    made by `importlib` is not seen.
    """
    found: dict[Path, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            try:
                tree = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue  # imported where it never runs, or executing the transform would have told of it
            found[file] = ast.dump(tree)
            waiting += _own_imports(tree, file, project)
    digest = hashlib.sha256(found.pop(path, "").encode())
    for file in sorted(found):
        digest.update(f"\0{file.relative_to(project).as_posix()}\0{found[file]}".encode())
    return digest.hexdigest()[:16]


def _own_imports(tree: ast.Module, file: Path, project: Path) -> Iterator[Path]:
    """Files below the project's `data_products` that a module's imports execute, their packages' `__init__.py` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = list(file.parent.relative_to(project).parts) if node.level else []
            base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            named = [[*filter(None, base), alias.name] for alias in node.names]
        else:
            continue
        for parts in named:
            if parts[0] == "data_products":
                for length in range(2, len(parts) + 1):
                    place = project.joinpath(*parts[:length])
                    yield from (one for one in (place / "__init__.py", place.with_suffix(".py")) if one.is_file())


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
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError) and error.filename and Path(error.filename) == path:
            line, said = error.lineno or 1, error.msg
        else:  # a syntax error may be that of a module which this one imports
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
            line, said = (frames[-1].lineno or 1 if frames else 1), f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
            if isinstance(error, SystemExit):
                said = "it ends the process that reads it (sys.exit)"
        raise PlatformError(
            "python-broken", f"The file cannot be executed: {said.rstrip('.')}.", "Correct it at that line.", file=where, line=line
        ) from error
    return module


def _marked_function(module: Any, where: str) -> Any:
    held = {id(value): value for value in vars(module).values()}.values()  # a function may have two names
    marked = [value for value in held if callable(value) and hasattr(value, _MARK) and value.__module__ == module.__name__]
    if not marked:
        raise PlatformError(
            "python-no-transform",
            "The file has no function marked @data_product(inputs={...}).",
            "Mark the one that makes the product.",
            file=where,
            line=1,
        )
    for value in marked:
        if not inspect.isfunction(value):
            raise PlatformError(
                "python-no-transform", f"@data_product marks {value.__name__}, which is no function.",
                "Mark a function from inputs to a table.", file=where, line=1,
            )  # fmt: skip
    if len(marked) > 1:
        names = " and ".join(function.__name__ for function in marked)
        raise PlatformError(
            "python-several-transforms", f"The file marks {names} as transforms.", "Keep one; a product has one transform.",
            file=where, line=marked[1].__code__.co_firstlineno,
        )  # fmt: skip
    return marked[0]


def _read_inputs(given: object, contract: Contract, registry: Registry, where: str, line: int) -> dict[str, str]:
    """Parameter name -> product key `domain/product`, as the decorator was given them."""
    remedy = 'Give inputs={"name": "domain/product"}.'
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and isinstance(key, str) for name, key in given.items()):
        said = f"The inputs of @data_product are {given!r}, not parameter names with product keys."
        raise PlatformError("python-signature", said, remedy, file=where, line=line)
    if not given:
        raise PlatformError("python-signature", "@data_product names no input.", remedy, file=where, line=line)
    inputs = {name: key.replace(".", "/", 1) for name, key in given.items()}
    for key in inputs.values():
        if key == contract.key:
            raise PlatformError(
                "python-reads-itself", f"The transform reads its own product {key}.", "Read its inputs only.", file=where, line=line
            )
        if key not in registry.contracts:
            raise unknown_input(key, registry, file=where, line=line, kind="python")
        require_input(key, contract, registry, file=where, line=line)
    return inputs


def _read_signature(function: Any, inputs: Mapping[str, str], where: str, line: int) -> tuple[dict[str, tuple[str, Engine]], Engine]:
    names = list(inspect.signature(function).parameters)
    if sorted(names) != sorted(inputs):
        raise PlatformError(
            "python-signature", f"{function.__name__} takes ({', '.join(names)}), its inputs are ({', '.join(inputs)}).",
            "Give each input one parameter of the same name.", file=where, line=line,
        )  # fmt: skip
    try:
        hints = typing.get_type_hints(function, localns=_spark_names(function))
    except Exception as error:
        raise PlatformError(
            "python-annotation", f"An annotation of {function.__name__} cannot be read: {error}.", _CHOICE, file=where, line=line
        ) from error
    parameters = {name: (inputs[name], _engine(hints.get(name), f"The parameter {name}", where, line)) for name in names}
    return parameters, _engine(hints.get("return"), "The return value", where, line)


class _SparkFrame:
    """Stands for `pyspark.sql.DataFrame` in an annotation: reading a file does not import Spark."""


def _spark_names(function: Any) -> dict[str, Any]:
    """The names under which the function's file imports Spark's DataFrame, where it does so for type checkers only."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(Path(function.__code__.co_filename).read_text(encoding="utf-8-sig"))):
        if isinstance(node, ast.ImportFrom) and node.module in ("pyspark.sql", "pyspark.sql.dataframe"):
            found |= {alias.asname or alias.name: _SparkFrame for alias in node.names if alias.name == "DataFrame"}
        elif isinstance(node, ast.ImportFrom) and node.module == "pyspark":
            names = [alias.asname or alias.name for alias in node.names if alias.name == "sql"]
            found |= dict.fromkeys(names, SimpleNamespace(DataFrame=_SparkFrame))
        elif isinstance(node, ast.Import):
            whole = SimpleNamespace(sql=SimpleNamespace(DataFrame=_SparkFrame))
            imported = [alias for alias in node.names if alias.name in ("pyspark", "pyspark.sql")]
            found |= {alias.asname or "pyspark": whole.sql if alias.asname and "." in alias.name else whole for alias in imported}
    return found


def _engine(hint: Any, what: str, where: str, line: int) -> Engine:
    if isinstance(hint, Hashable) and hint in _ENGINES:
        return _ENGINES[hint]
    if hint is _SparkFrame or (getattr(hint, "__name__", "") == "DataFrame" and getattr(hint, "__module__", "").startswith("pyspark.sql")):
        return "spark"
    if hint is None or hint is type(None):
        raise PlatformError("python-annotation", f"{what} has no annotation, so no engine is picked.", _CHOICE, file=where, line=line)
    name = f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', hint)}".removeprefix("builtins").lstrip(".")
    raise PlatformError("python-annotation", f"{what} is annotated {name}, which no engine gives.", _CHOICE, file=where, line=line)


def _declared_lineage(contract: Contract, inputs: Mapping[str, Schema]) -> dict[str, tuple[ColumnSource, ...]]:
    """The sources that each column declares, those left out that `validate_python` refuses."""
    return {
        column.name: tuple(ColumnSource(*_product_and_column(text)) for text in column.sources if _source_fault(text, inputs) is None)
        for column in contract.columns
    }


def _declared_keys(
    contract: Contract, lineage: Mapping[str, tuple[ColumnSource, ...]], inputs: Mapping[str, Schema]
) -> tuple[dict[str, tuple[tuple[str, ...], ...]], dict[str, str]]:
    """Key tracing by declaration: a key column with exactly one source in an input is that input's column unchanged."""
    columns = key_columns(contract)
    own = table_definition(contract).schema
    keys: dict[str, tuple[tuple[str, ...], ...]] = {}
    untraced: dict[str, str] = {}
    for key, schema in inputs.items() if columns else ():
        places = []
        for column in columns:
            ours = [source.column for source in lineage.get(column, ()) if source.product == key]
            fault = _key_fault(own.find_type(column), schema, ours[0]) if len(ours) == 1 else f"do not name one column of {key}"
            if fault:
                untraced[key] = f"transformSourceObjects of {column} {fault}"
                break
            places.append(".".join(f'"{step}"' for step in ours[0].split(".")))
        else:
            keys[key] = (tuple(places),)
    return keys, untraced


def _key_fault(wanted: IcebergType, schema: Schema, path: str) -> str | None:
    """Why an input's column cannot be a key column unchanged. Of another type it cannot: keys would be compared that never are equal."""
    kind: IcebergType | None = schema.as_struct()
    for step in path.split("."):
        field = kind.field_by_name(step) if isinstance(kind, StructType) else None
        if field is None:
            return f"name {path}, which is inside a list or map"
        kind = field.field_type
    return None if kind == wanted else f"name {path}, which is {kind} and not {wanted}"
