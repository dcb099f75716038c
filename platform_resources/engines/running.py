"""Run a transform over views of its inputs: a query on its engine, a function with each input as its annotation asks.

Nothing is stored here.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import duckdb
import polars as pl
import pyarrow as pa
from pyiceberg.schema import Schema, index_by_id
from pyiceberg.types import ListType, MapType

from platform_resources.engines.duck import qualified_name, store_fault
from platform_resources.engines.inputs import PinnedInput
from platform_resources.engines.spark import Spark, to_reader
from platform_resources.engines.spark_running import Restriction, input_frame, run_sql_on_spark
from platform_resources.engines.sql import one_statement, read_duckdb_error
from platform_resources.engines.transform import Engine, Transform
from platform_resources.engines.types import duck_type, quote
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer
from platform_resources.lakehouse.reading import polars_scan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

OUTPUT = "__output"
BATCH_ROWS, NESTED_BATCH_ROWS = 16_384, 512
"""Rows of a result's Arrow batch. DuckDB's own million would be gigabytes of rows that hold texts, and more than the 2 GiB that one Arrow
column can: then the run fails. Arrays and maps may hold whole pages, of which MediaWiki accepts 2 MB: of those 512 fit twice."""
_STREAMED = re.compile(r"[A-Z][\w /-]* Error: (.*)")
"""An error of DuckDB as Arrow's stream interface passes it on: as text, under a type of Arrow's own."""


def define_views(con: duckdb.DuckDBPyConnection, inputs: Mapping[str, PinnedInput], texts: Mapping[str, str]) -> None:
    """A view `domain.product` for each input: the text given for it, else all its rows."""
    for key, pinned in inputs.items():
        identifier = pinned.contract.identifier
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(pinned.contract.domain)}")
        con.execute(f"CREATE OR REPLACE VIEW {qualified_name(identifier)} AS {texts.get(key) or pinned.rows_sql()}")


def run_transform(
    con: duckdb.DuckDBPyConnection,
    transform: Transform,
    inputs: Mapping[str, PinnedInput],
    schema: Schema,
    *,
    restricted: Mapping[str, Restriction] | None = None,
    only: str = "",
    engine: str = "duckdb",
    spark: Spark | None = None,
) -> pa.Table | pa.RecordBatchReader:
    """The rows a transform gives over the views of `define_views`, a SQL transform's cast to `schema`.

    Args:
        con: the session with the views.
        transform: what to run.
        inputs: its inputs, by key.
        schema: the output's columns.
        restricted: inputs whose view holds less than the whole; another engine must not read more past the view.
        only: text after FROM that keeps some rows of the result (named `result`), e.g. a SEMI JOIN.
        engine: `duckdb` or `spark`, for a query; a function's annotations say.
        spark: where Spark is, for what runs there.

    Raises:
        PlatformError: `transform-failed` with the reason, `store-unreachable` or `store-refused` where it was the store,
            `python-wrong-result`, `python-missing-column`; `sql-not-portable` for a query on Spark that it would answer otherwise,
            `spark-type`, `spark-start-failed`.
    """
    if transform.kind == "sql" and engine == "spark":
        with _telling(transform):
            found = run_sql_on_spark(con, _given(spark), transform, inputs, schema, restricted or {})
        return _held_to(con, _told(found, transform), transform, only, _batch_rows(schema))
    if transform.kind == "sql":
        columns = ", ".join(
            f"CAST(result.{quote(field.name)} AS {duck_type(field.field_type)}) AS {quote(field.name)}" for field in schema.fields
        )
        text = f"SELECT {columns} FROM (\n{one_statement(transform.text or '')}\n) AS result {only}"
        with _telling(transform):
            return _told(con.execute(text).to_arrow_reader(_batch_rows(schema)), transform)
    result = _call(con, transform, inputs, restricted or {}, spark)
    _require_columns(transform, result.schema.names, schema)
    if isinstance(result, pa.RecordBatchReader):
        result = _told(result, transform)
        if only and transform.returns != "spark":
            result = result.read_all()  # a reader over this very session would end as soon as the session does something else
    return _held_to(con, result, transform, only, _batch_rows(schema))


def _batch_rows(schema: Schema) -> int:
    nested = any(isinstance(field.field_type, MapType | ListType) for field in index_by_id(schema).values())
    return NESTED_BATCH_ROWS if nested else BATCH_ROWS


def _given(spark: Spark | None) -> Spark:
    if spark is None:
        raise ValueError("a transform on Spark, without Spark")
    return spark


def _held_to(
    con: duckdb.DuckDBPyConnection, result: pa.Table | pa.RecordBatchReader, transform: Transform, only: str, batch_rows: int
) -> pa.Table | pa.RecordBatchReader:
    """The rows of a result that `only` keeps."""
    if not only:
        return result
    con.register(OUTPUT, result)
    with _telling(transform):
        return _told(con.execute(f"SELECT result.* FROM {OUTPUT} AS result {only}").to_arrow_reader(batch_rows), transform)


def _require_columns(transform: Transform, given: Sequence[str], schema: Schema) -> None:
    """Refuse a result that lacks a declared column, optional ones too: nulls that nobody meant would pass for values, as they cannot in
    SQL.

    Raises:
        PlatformError: `python-missing-column`.
    """
    for name in (field.name for field in schema.fields):
        if name not in given:
            function = transform.function
            close = get_close_matches(name, given, n=1)
            raise PlatformError(
                "python-missing-column",
                f"The contract has the column {name}, {getattr(function, '__name__', 'the function')} does not return it.",
                f"It returns {close[0]}: rename one of them." if close else "Add it to the result, or take it from the contract.",
                file=transform.where,
                line=function.__code__.co_firstlineno if function else 0,
            )


def _told(reader: pa.RecordBatchReader, transform: Transform) -> pa.RecordBatchReader:
    """The same batches; what fails while they are made, long after the transform was called, is told as its failure too."""

    def batches() -> Iterator[pa.RecordBatch]:
        with _telling(transform):
            yield from reader

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@contextmanager
def _telling(transform: Transform) -> Iterator[None]:
    """Tell whatever a transform raises as its failure: a query, or the function a domain team wrote. An outage of the store is none.

    Raises:
        PlatformError: `transform-failed`; what `store_fault` tells.
    """
    try:
        yield
    except PlatformError:
        raise
    except Exception as error:
        if (fault := store_fault(error)) is not None:
            raise fault from error
        raise _failure(transform, error) from error
    except SystemExit as error:
        raise _failure(transform, error) from error


def _failure(transform: Transform, error: BaseException) -> PlatformError:
    if isinstance(error, duckdb.Error):
        return _failed(transform, read_duckdb_error(error, "")[0], _line_in(transform, error))
    said = _spark_said(error) or str(error).strip().split("\n", maxsplit=1)[0]
    streamed = _STREAMED.match(said) if isinstance(error, OSError | pa.ArrowException) else None
    said = streamed[1] if streamed else f"{type(error).__name__}: {said}" if said else type(error).__name__
    return _failed(transform, said, _line_in(transform, error))


def _spark_said(error: BaseException) -> str:
    """The sentence of an error of Spark, without the JVM's stack and the plan; empty for any other error."""
    if not type(error).__module__.startswith(("pyspark.", "py4j.")):
        return ""
    text = str(error)
    cause = next((line for line in text.splitlines() if line.startswith("Caused by: ")), "") if "Job aborted" in text else ""
    return re.sub(r"^Caused by: [\w.$]+: ", "", cause) or re.sub(r"^\[[A-Z_.0-9]+\] ", "", text)


def _line_in(transform: Transform, error: BaseException) -> int:
    """The last line of the transform's own file that an error came through; of a function else its first."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == transform.path]
    if frames:
        return frames[-1].lineno or 0
    return transform.function.__code__.co_firstlineno if transform.function is not None else 0


def _failed(transform: Transform, said: str, line: int) -> PlatformError:
    remedy = "Correct the transform, or the data it cannot deal with."
    return PlatformError("transform-failed", f"The transform failed: {said.rstrip('.')}.", remedy, file=transform.where, line=line)


def _call(
    con: duckdb.DuckDBPyConnection,
    transform: Transform,
    inputs: Mapping[str, PinnedInput],
    restricted: Mapping[str, Restriction],
    spark: Spark | None,
) -> Any:
    if transform.function is None:
        raise ValueError("a Python transform without its function")
    given = {
        name: input_frame(con, _given(spark), inputs[key], restricted.get(key))
        if engine == "spark"
        else give(con, inputs[key], engine, whole=key not in restricted)
        for name, (key, engine) in transform.parameters.items()
    }
    with _telling(transform):
        return _taken(transform.function(**given), transform)


def give(con: duckdb.DuckDBPyConnection, pinned: PinnedInput, engine: Engine, *, whole: bool) -> Any:
    """An input in the form of an engine, from its view; Polars reads a whole table by its own reader."""
    view = f"SELECT * FROM {qualified_name(pinned.contract.identifier)}"
    if engine == "duckdb":
        return con.sql(view)
    names = [field.name for field in pinned.definition.schema.fields]
    if engine == "polars" and whole and pinned.table is not None and pinned.snapshot_id is not None and pinned.has_contract_columns:
        return polars_scan(pinned.table, pinned.snapshot_id).select(names)
    table = Conformer(pinned.contract.identifier, pinned.definition.schema, lenient=True).conform(con.execute(view).to_arrow_table())
    if engine == "polars":
        return pl.LazyFrame(pl.from_arrow(_without_extensions(table)))
    return table if engine == "arrow" else table.to_reader()


def _without_extensions(table: pa.Table) -> pa.Table:
    """A uuid as its 16 bytes, as Polars' own Iceberg reader gives it."""
    for position, column in enumerate(table.columns):
        if isinstance(column.type, pa.BaseExtensionType):
            storage = pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)
            table = table.set_column(position, table.field(position).name, storage)
    return table


def _type_name(value: Any) -> str:
    """`polars.DataFrame`, not the module deep inside where the class is defined."""
    return f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"


def _taken(result: Any, transform: Transform) -> pa.Table | pa.RecordBatchReader:
    """What a function returned, as Arrow.

    Raises:
        PlatformError: `python-wrong-result` when it is not what its annotation says.
    """
    kinds: dict[str, tuple[type, str]] = {
        "duckdb": (duckdb.DuckDBPyRelation, "duckdb.DuckDBPyRelation"), "polars": (pl.LazyFrame, "polars.LazyFrame"),
        "arrow": (pa.Table, "pyarrow.Table"), "arrow_reader": (pa.RecordBatchReader, "pyarrow.RecordBatchReader"),
    }  # fmt: skip
    if transform.returns == "spark":
        from pyspark.sql import DataFrame

        kinds["spark"] = (DataFrame, "pyspark.sql.DataFrame")
    wanted, name = kinds[transform.returns or "arrow"]
    function = transform.function
    if not isinstance(result, wanted):
        raise PlatformError(
            "python-wrong-result", f"{getattr(function, '__name__', '')} returned {_type_name(result)}, its annotation says {name}.",
            "Return what the annotation says.", file=transform.where, line=function.__code__.co_firstlineno if function else 0,
        )  # fmt: skip
    if transform.returns == "spark":
        return to_reader(cast("DataFrame", result))
    if isinstance(result, duckdb.DuckDBPyRelation):
        return result.to_arrow_reader(BATCH_ROWS)
    return result.collect(engine="streaming").to_arrow() if isinstance(result, pl.LazyFrame) else result
