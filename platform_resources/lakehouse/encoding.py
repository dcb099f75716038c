"""How a table's properties say that its Parquet files are encoded: codec, level, row groups, pages, dictionaries, bloom filters.

The names are Iceberg's (configuration page, "Write properties"), so that Spark and we write alike. One thing no property says: a column
whose values hardly repeat gets no dictionary, which would be built only to be thrown away; that is a fifth of the time and of the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import parquet_path_to_id_mapping
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.partitions import column_at, path_of

GROUP_BYTES = 32 << 20  # of Arrow data: two groups in the making and one being filled fit in any process
_SMALL_PAGE_BYTES = 64 << 10
_PREFIX = "write.parquet."
_BLOOM = _PREFIX + "bloom-filter-"
_LEVELLED = frozenset({"zstd", "gzip", "brotli"})
_CODECS = frozenset({*_LEVELLED, "snappy", "lz4", "uncompressed"})
_SAMPLE_ROWS, _LEAST_ROWS = 16_384, 512
_MOSTLY_DISTINCT = 0.6


class ParquetEncoding:
    """The encoding of a table's files. Sizes are bytes.

    Attributes:
        target_bytes: of a whole file, after which the next is begun.
        group_rows, group_bytes: most rows, and most bytes of Arrow data, of a row group.

    Raises:
        PlatformError: `table-property-invalid` when a property has a value that nobody could write with.
    """

    def __init__(self, schema: Schema, properties: Mapping[str, str], identifier: str) -> None:
        self._schema, self._properties, self._identifier = schema, properties, identifier
        self.target_bytes = self._number("write.target-file-size-bytes", TableProperties.WRITE_TARGET_FILE_SIZE_BYTES_DEFAULT)
        self.group_rows = self._number(_PREFIX + "row-group-limit", TableProperties.PARQUET_ROW_GROUP_LIMIT_DEFAULT)
        self.group_bytes = min(self._number(_PREFIX + "row-group-size-bytes", GROUP_BYTES), GROUP_BYTES, max(self.target_bytes, 1 << 16))
        self._paths = {field_id: path for path, field_id in parquet_path_to_id_mapping(schema).items()}
        self._fixed = {**self._compression(), **self._pages(), **self._blooms()}
        self._plain: frozenset[int] | None = None  # columns without a dictionary, decided at the first rows

    def arguments(self, rows: pa.Table, *, small_pages: bool = False) -> dict[str, Any]:
        """What `pyarrow.parquet.ParquetWriter` is given for a file that begins with these rows.

        Small pages cost some bytes and spare memory: a writer keeps the page buffers of its last column until the next row group.
        """
        if self._plain is None or not rows.num_rows:
            self._plain = self._mostly_distinct(rows)
        kept: bool | list[str] = [path for field_id, path in self._paths.items() if field_id not in self._plain]
        pages = {"data_page_size": _SMALL_PAGE_BYTES} if small_pages else {}
        return {**pages, **self._fixed, "use_dictionary": True if not self._plain else kept or False}

    def _mostly_distinct(self, rows: pa.Table) -> frozenset[int]:
        """Columns, in structs at most, of which a sample hardly repeats itself."""
        sample = rows.slice(0, _SAMPLE_ROWS)
        if sample.num_rows < _LEAST_ROWS:
            return frozenset()
        found = set()
        for field_id in self._paths:
            try:
                values = column_at(sample, path_of(self._schema, field_id))
            except ValueError:  # in a list or map
                continue
            if isinstance(values.type, pa.BaseExtensionType):
                values = pa.chunked_array([chunk.storage for chunk in values.chunks], type=values.type.storage_type)
            if not pa.types.is_boolean(values.type) and pc.count_distinct(values).as_py() > _MOSTLY_DISTINCT * sample.num_rows:
                found.add(field_id)
        return frozenset(found)

    def _compression(self) -> dict[str, Any]:
        codec = self._properties.get(_PREFIX + "compression-codec", TableProperties.PARQUET_COMPRESSION_DEFAULT).lower()
        if codec not in _CODECS:
            raise self._invalid(_PREFIX + "compression-codec", f"one of {', '.join(sorted(_CODECS))}")
        level = self._number(_PREFIX + "compression-level", 0)
        return {
            "compression": "none" if codec == "uncompressed" else codec,
            "compression_level": level if level and codec in _LEVELLED else None,  # a level of another codec may have been left behind
        }

    def _pages(self) -> dict[str, Any]:
        known = {"page-size-bytes": "data_page_size", "page-row-limit": "max_rows_per_page", "dict-size-bytes": "dictionary_pagesize_limit"}
        return {word: self._number(_PREFIX + name, 0) for name, word in known.items() if _PREFIX + name in self._properties}

    def _blooms(self) -> dict[str, Any]:
        """Bloom filters as large as their false positives ask for, within `bloom-filter-max-bytes`."""
        most = self._number(_BLOOM + "max-bytes", 1 << 20)
        options = {}
        for field_id, path in self._paths.items():
            name = self._schema.find_column_name(field_id)
            if self._properties.get(f"{_BLOOM}enabled.column.{name}", "").lower() != "true":
                continue
            if str(self._schema.find_type(field_id)) == "boolean":
                raise self._invalid(f"{_BLOOM}enabled.column.{name}", "left out, since a boolean has no bloom filter")
            share = self._share(f"{_BLOOM}fpp.column.{name}", 0.01)
            fits = int(-most * math.log(1 - share ** (1 / 8)))  # Parquet's split block filter: 8 bits of each block per value
            wanted = self._number(f"{_BLOOM}ndv.column.{name}", self.group_rows)
            options[path] = {"ndv": max(1, min(wanted, fits)), "fpp": share}
        return {"bloom_filter_options": options} if options else {}

    def _number(self, name: str, default: int) -> int:
        try:
            value = int(self._properties.get(name, default))
        except ValueError:
            value = -1
        if value < 0 or (value == 0 and default):
            raise self._invalid(name, "a whole number above 0")
        return value

    def _share(self, name: str, default: float) -> float:
        try:
            value = float(self._properties.get(name, default))
        except ValueError:
            value = 0.0
        if not 0 < value < 1:
            raise self._invalid(name, "between 0 and 1")
        return value

    def _invalid(self, name: str, wanted: str) -> PlatformError:
        given = self._properties.get(name)
        return PlatformError(
            "table-property-invalid",
            f"The table {self._identifier} has the property {name} = {given}, which no file can be written with.",
            f"It must be {wanted}.",
        )
