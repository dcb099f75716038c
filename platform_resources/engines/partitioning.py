"""Partition values in DuckDB's words: the same numbers that Iceberg stores, so that a query can keep or find whole partitions."""

from __future__ import annotations

from pyiceberg.partitioning import PartitionField
from pyiceberg.transforms import DayTransform, HourTransform, IdentityTransform, MonthTransform, TruncateTransform, YearTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.engines.types import duck_type


def partition_value_sql(expression: str, field: PartitionField, kind: IcebergType) -> str | None:
    """SQL of the partition value of `expression` (of the source type `kind`); None for a transform DuckDB cannot compute (bucket).

    Days, months, years and hours are counted from 1970, as the Iceberg table spec (appendix B, "Partition Transforms") says.
    """
    value, transform = f"CAST({expression} AS {duck_type(kind)})", field.transform
    timed = isinstance(kind, DateType | TimestampType | TimestamptzType)
    if isinstance(transform, YearTransform) and timed:
        return f"CAST(year({value}) - 1970 AS INTEGER)"
    if isinstance(transform, MonthTransform) and timed:
        return f"CAST((year({value}) - 1970) * 12 + month({value}) - 1 AS INTEGER)"
    if isinstance(transform, DayTransform) and timed:
        return f"CAST(CAST({value} AS DATE) - DATE '1970-01-01' AS INTEGER)"
    if isinstance(transform, HourTransform) and timed:
        return f"CAST(floor(epoch_us({value}) / 3600000000) AS INTEGER)"
    if isinstance(transform, TruncateTransform):
        return _truncated(value, transform.width, kind)
    return _identity(value, kind) if isinstance(transform, IdentityTransform) else None


def partition_value_spark(expression: str, field: PartitionField, kind: IcebergType) -> str | None:
    """The same number in Spark's words, its session in UTC; None where only a slower way is offered."""
    transform = field.transform
    timed = isinstance(kind, DateType | TimestampType | TimestamptzType)
    if isinstance(transform, YearTransform) and timed:
        return f"year({expression}) - 1970"
    if isinstance(transform, MonthTransform) and timed:
        return f"(year({expression}) - 1970) * 12 + month({expression}) - 1"
    if (isinstance(transform, DayTransform) and timed) or (isinstance(transform, IdentityTransform) and isinstance(kind, DateType)):
        return f"datediff(CAST({expression} AS DATE), DATE'1970-01-01')"
    if isinstance(transform, IdentityTransform) and isinstance(kind, StringType | IntegerType | LongType | BooleanType | DecimalType):
        return expression
    return None


def _truncated(value: str, width: int, kind: IcebergType) -> str | None:
    if isinstance(kind, StringType):
        return f"left({value}, {width})"
    if isinstance(kind, IntegerType | LongType):
        return f"CAST({value} - ((({value} % {width}) + {width}) % {width}) AS {duck_type(kind)})"
    return None


def _identity(value: str, kind: IcebergType) -> str | None:
    if isinstance(kind, DateType):
        return f"CAST({value} - DATE '1970-01-01' AS INTEGER)"
    if isinstance(kind, TimestampType | TimestamptzType):
        return f"epoch_us({value})"
    if isinstance(kind, StringType | IntegerType | LongType | BooleanType | DecimalType):
        return value
    return None


def partition_columns(definition: TableDefinition) -> list[tuple[str, PartitionField, IcebergType]]:
    """For each partition field: the dotted source column, the field, the column's type."""
    schema = definition.schema
    return [
        (schema.find_column_name(field.source_id) or "", field, schema.find_type(field.source_id))
        for field in definition.partition_spec.fields
    ]
