"""Iceberg's column metrics of a written Parquet file, taken from its footer. Which are kept is said by the table's metrics modes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    MetricModeTypes,
    MetricsMode,
    compute_statistics_plan,
    match_metrics_mode,
    parquet_path_to_id_mapping,
)
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import BinaryType, DecimalType, DoubleType, FixedType, FloatType, PrimitiveType, StringType, UUIDType
from pyiceberg.utils.truncate import truncate_upper_bound_binary_string, truncate_upper_bound_text_string

from platform_resources.lakehouse.partitions import column_at, path_of

_INT_WIDTH = {"int": "<i", "date": "<i", "long": "<q", "time": "<q", "timestamp": "<q", "timestamptz": "<q"}


class FileStatistics:
    """Iceberg's column metrics of a written file, read from its footer, as the table's metrics modes allow.

    Bounds are given for top-level columns; in structs only where the mode is set for the column itself or it is a partition source,
    since a wide event would otherwise fill the manifests. Bounds of a float column with NaN are left out: engines disagree on its order.
    """

    def __init__(self, schema: Schema, metadata: TableMetadata) -> None:
        properties = metadata.properties
        self._ids = parquet_path_to_id_mapping(schema)
        self._types: dict[int, PrimitiveType] = {}
        self._modes: dict[int, MetricsMode] = {}
        sources = {part.source_id for part in metadata.spec().fields}
        for field_id, plan in compute_statistics_plan(schema, dict(properties)).items():
            self._types[field_id] = plan.iceberg_type
            mode = plan.mode
            explicit = properties.get(f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.{plan.column_name}")
            if mode.type == MetricModeTypes.COUNTS and (explicit or field_id in sources) and _in_structs(schema, field_id):
                mode = _mode(explicit or "truncate(16)", plan.iceberg_type)
            self._modes[field_id] = mode
        floats = (FloatType, DoubleType)
        self._floats = {
            field_id: path_of(schema, field_id)
            for field_id, kind in self._types.items()
            if isinstance(kind, floats) and self._bounded(field_id) and _in_structs(schema, field_id)
        }

    def _bounded(self, field_id: int) -> bool:
        return self._modes[field_id].type in {MetricModeTypes.FULL, MetricModeTypes.TRUNCATE}

    def count_nans(self, rows: pa.Table, counts: dict[int, int]) -> None:
        """Add the NaNs of some rows to `counts`, which is by field id."""
        for field_id, path in self._floats.items():
            counts[field_id] = counts.get(field_id, 0) + (pc.sum(pc.is_nan(column_at(rows, path))).as_py() or 0)

    def of(self, footer: pq.FileMetaData, nan_counts: dict[int, int]) -> dict[str, Any]:
        """The arguments of `DataFile` that describe the content."""
        sizes, values, nulls = dict[int, int](), dict[int, int](), dict[int, int]()
        bounds: dict[int, tuple[Any, ...] | None] = {}
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        for group in groups:
            for index in range(footer.num_columns):
                column = group.column(index)
                field_id = self._ids[column.path_in_schema]
                sizes[field_id] = sizes.get(field_id, 0) + column.total_compressed_size
                if self._modes[field_id].type == MetricModeTypes.NONE:
                    continue
                values[field_id] = values.get(field_id, 0) + column.num_values
                statistics = column.statistics if column.is_stats_set else None
                if statistics is not None and statistics.has_null_count:
                    nulls[field_id] = nulls.get(field_id, 0) + statistics.null_count
                if self._bounded(field_id) and not nan_counts.get(field_id):
                    bounds[field_id] = _widened(bounds.get(field_id, ()), statistics, column.num_values, self._types[field_id])
        lower, upper = dict[int, bytes](), dict[int, bytes]()
        for field_id, pair in bounds.items():
            if pair:
                low, high = _serialised(pair, self._types[field_id], self._modes[field_id].length)
                lower[field_id] = low
                if high is not None:
                    upper[field_id] = high
        return {
            "record_count": footer.num_rows,
            "column_sizes": sizes,
            "value_counts": values,
            "null_value_counts": nulls,
            "nan_value_counts": dict(nan_counts),
            "lower_bounds": lower,
            "upper_bounds": upper,
            "split_offsets": sorted(_offset(group) for group in groups) or None,
        }


def _mode(text: str, kind: PrimitiveType) -> MetricsMode:
    mode = match_metrics_mode(text)
    cut = mode.type == MetricModeTypes.TRUNCATE and not isinstance(kind, StringType | BinaryType)
    return MetricsMode(MetricModeTypes.FULL) if cut else mode


def _in_structs(schema: Schema, field_id: int) -> bool:
    try:
        return bool(path_of(schema, field_id))
    except ValueError:
        return False


def _offset(group: pq.RowGroupMetaData) -> int:
    first = group.column(0)
    return int(min(first.data_page_offset, first.dictionary_page_offset) if first.has_dictionary_page else first.data_page_offset)


def _widened(known: tuple[Any, ...] | None, statistics: Any, values: int, kind: PrimitiveType) -> tuple[Any, ...] | None:
    """Bounds so far, widened by one row group's; () is none yet, None is unknown for good."""
    if known is None or statistics is None:
        return None
    if not statistics.has_min_max:
        only_nulls = statistics.has_null_count and statistics.null_count == values
        return known if only_nulls else None
    low, high = _comparable(statistics.min_raw, kind), _comparable(statistics.max_raw, kind)
    return (min(known[0], low), max(known[1], high)) if known else (low, high)


def _comparable(raw: Any, kind: PrimitiveType) -> Any:
    if isinstance(kind, DecimalType) and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    return raw.encode() if isinstance(raw, str) else raw


def _serialised(pair: Sequence[Any], kind: PrimitiveType, length: int | None) -> tuple[bytes, bytes | None]:
    """Lower and upper bound as Iceberg's single-value binary (spec, appendix D); the upper is None where no shorter one exists."""
    low, high = pair
    if isinstance(kind, DecimalType):
        return _minimal(low), _minimal(high)
    if isinstance(kind, StringType):
        if length is None:
            return low, high
        cut = truncate_upper_bound_text_string(high.decode(), length)
        return low.decode()[:length].encode(), None if cut is None else cut.encode()
    if isinstance(kind, BinaryType):
        return (low, high) if length is None else (low[:length], truncate_upper_bound_binary_string(high, length))
    if isinstance(kind, FixedType | UUIDType):
        return low, high
    form = _INT_WIDTH.get(str(kind)) or {"boolean": "?", "float": "<f", "double": "<d"}[str(kind)]
    return struct.pack(form, low), struct.pack(form, high)


def _minimal(unscaled: int) -> bytes:
    return unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True)
