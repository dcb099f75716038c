"""Run a transform on Spark: each input as a frame that holds what its DuckDB view holds, the query in Spark's words, Arrow back.

Spark reads the tables itself, at the pinned snapshots; only an input whose added files were compacted away meanwhile comes through
this process. How a query is put into Spark's words is `transpiling`'s.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField

from platform_resources.engines.duck import qualified_name
from platform_resources.engines.inputs import PinnedInput
from platform_resources.engines.spark import (
    RESERVED,
    Spark,
    empty_frame,
    from_arrow,
    require_readable,
    scan,
    scan_files,
    spark_type,
    to_reader,
)
from platform_resources.engines.transform import Transform
from platform_resources.engines.transpiling import spark_quoted, to_spark
from platform_resources.lakehouse.conforming import Conformer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

AFFECTED = "__affected"


@dataclass(frozen=True)
class Restriction:
    """In what way the view of an input holds less than the whole, so that Spark, which reads past the view, can do the same.

    `files` are the data files whose rows it holds. `values` are Spark expressions over its columns that, in order, equal the columns
    of a row of `__affected`; None where Spark cannot say them: it then gets the whole input, which is slower and never wrong, since
    the result is held to the affected rows as well.
    """

    files: tuple[str, ...] | None = None
    values: tuple[str, ...] | None = None


def input_frame(con: duckdb.DuckDBPyConnection, spark: Spark, pinned: PinnedInput, restriction: Restriction | None) -> DataFrame:
    """An input as a Spark frame with exactly the contract's columns.

    Raises:
        PlatformError: `spark-type` for a column that Spark cannot read; what starting a session raises.
    """
    schema, identifier = pinned.definition.schema, pinned.contract.identifier
    require_readable(schema, identifier)
    nothing = restriction is not None and restriction.files == ()
    if pinned.table is None or pinned.snapshot_id is None or nothing:
        return empty_frame(spark.session, schema)
    if restriction is not None and restriction.files is not None:
        frame = scan_files(spark.session, spark.settings, identifier, pinned.snapshot_id, restriction.files)
        if frame is None:
            rows = con.execute(f"SELECT * FROM {qualified_name(identifier)}").to_arrow_table()
            frame = from_arrow(spark.session, Conformer(identifier, schema, lenient=True).conform(rows))
        return _as_contract(frame, schema)
    frame = _as_contract(scan(spark.session, spark.settings, identifier, pinned.snapshot_id), schema)
    if restriction is not None and restriction.values is not None:
        return _held_to_affected(con, spark, frame, restriction.values)
    return frame


def _as_contract(frame: DataFrame, schema: Schema) -> DataFrame:
    """The contract's columns in its order but for those of RESERVED; one that the table does not have yet is null."""
    have = set(frame.columns)
    return frame.selectExpr(
        *(
            spark_quoted(one.name) if one.name in have else f"CAST(NULL AS {spark_type(one.field_type)}) AS {spark_quoted(one.name)}"
            for one in schema.fields
            if one.name not in RESERVED
        )
    )


def _held_to_affected(con: duckdb.DuckDBPyConnection, spark: Spark, frame: DataFrame, values: tuple[str, ...]) -> DataFrame:
    affected = from_arrow(spark.session, con.execute(f"SELECT * FROM {AFFECTED}").to_arrow_table())
    ours, theirs = f"__input_{uuid.uuid4().hex}", f"__affected_{uuid.uuid4().hex}"
    frame.createOrReplaceTempView(ours)
    affected.createOrReplaceTempView(theirs)
    same = " AND ".join(f"({value}) <=> a.__k{index}" for index, value in enumerate(values))
    held = spark.session.sql(f"SELECT {ours}.* FROM {ours} LEFT SEMI JOIN {theirs} AS a ON {same}")
    for name in (ours, theirs):  # the plan is made; names are only how it was said
        spark.session.catalog.dropTempView(name)
    return held


def run_sql_on_spark(
    con: duckdb.DuckDBPyConnection,
    spark: Spark,
    transform: Transform,
    inputs: Mapping[str, PinnedInput],
    schema: Schema,
    restricted: Mapping[str, Restriction],
) -> pa.RecordBatchReader:
    """The rows of a SQL transform, computed by Spark, in the order, by the names and with the types of `schema`.

    Raises:
        PlatformError: as `input_frame`; `sql-not-portable` for a query that Spark would answer otherwise than DuckDB.
    """
    names = {pinned.contract.identifier: f"__input_{uuid.uuid4().hex}" for pinned in inputs.values()}
    schemas = {pinned.contract.identifier: pinned.definition.schema for pinned in inputs.values()}
    text = to_spark(transform.text or "", names, schemas, file=transform.where)  # a refusal need not wait for a session to start
    columns = ", ".join(f"{_typed(one)} AS {spark_quoted(one.name)}" for one in schema.fields)
    catalog = spark.session.catalog
    try:
        for key, pinned in inputs.items():
            input_frame(con, spark, pinned, restricted.get(key)).createOrReplaceTempView(names[pinned.contract.identifier])
        return to_reader(spark.session.sql(f"SELECT {columns} FROM (\n{text}\n) AS result"))
    finally:
        for name in names.values():
            catalog.dropTempView(name)


def _typed(field: NestedField) -> str:
    """A column of the result in the contract's type; a nested one as it is, since Spark casts structs by position, the writer by name."""
    column = f"result.{spark_quoted(field.name)}"
    return f"CAST({column} AS {spark_type(field.field_type)})" if field.field_type.is_primitive else column
