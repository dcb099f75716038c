"""Keys of rows: which columns they are, and sets of keys that files and blocks of rows are held against.

What is done with the rows that are found is `merge`'s and `deletes`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import DecimalType, IntegerType, LongType, PrimitiveType, UUIDType

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer
from platform_resources.lakehouse.files import Positions
from platform_resources.lakehouse.partitions import column_at, path_of, physical

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KeyColumns:
    """The key columns of a table: dotted names, their paths, ids and types."""

    identifier: str
    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    field_ids: tuple[int, ...]
    schema: Schema

    @classmethod
    def of(cls, identifier: str, schema: Schema, names: Sequence[str]) -> KeyColumns:
        """The columns named.

        Raises:
            PlatformError: `key-unknown` when a name is no column outside lists and maps.
        """
        ids = []
        for name in names:
            try:
                ids.append(schema.find_field(name).field_id)
                path_of(schema, ids[-1])
            except ValueError:
                raise PlatformError(
                    "key-unknown", f"{identifier} has no column {name} that could be a key.", "Name a column outside lists and maps."
                ) from None
        if not names:
            raise PlatformError("key-missing", f"{identifier} is merged by key but has none.", "Give its contract a primary key.")
        return cls(identifier, tuple(names), tuple(path_of(schema, one) for one in ids), tuple(ids), schema)

    @property
    def narrow(self) -> Schema:
        """The schema of just the top-level columns that hold these."""
        roots = {path[0] for path in self.paths}
        return Schema(*(one for one in self.schema.fields if one.name in roots), schema_id=self.schema.schema_id)

    def of_rows(self, rows: pa.Table) -> pa.Table:
        """The keys of rows, one column per key column named by its dotted name, in physical types."""
        return pa.table([_plain(column_at(rows, path)) for path in self.paths], names=list(self.names))

    def of_given(self, keys: pa.Table) -> pa.Table:
        """Keys that a caller gives as a table with the dotted names (or nested structs), brought to the table's types."""
        if set(keys.column_names) != set(self.names):
            raise PlatformError(
                "key-unknown",
                f"The affected keys of {self.identifier} have the columns {', '.join(keys.column_names)}, not {', '.join(self.names)}.",
                "Give one column per key column.",
            )
        fields = [self.schema.find_field(one) for one in self.field_ids]
        renamed = [one.model_copy(update={"name": name, "required": False}) for one, name in zip(fields, self.names, strict=True)]
        conformed = Conformer(self.identifier, Schema(*renamed)).conform(keys)
        return pa.table([_plain(conformed.column(name)) for name in self.names], names=list(self.names))


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], type=values.type.storage_type)
    return physical(values)


class KeySet:
    """A set of keys, numbered from 0, that can be asked for many rows at once. Two nulls are the same key.

    Composite keys are numbered column by column: the pair (number so far, number of this column's value) gets a number of its own,
    so that membership is one lookup in integers and no hash of a struct is needed. Before that, whole numbers pass a bit table of
    hashes: of ten million rows of which one in a hundred is asked for, 2 % are left to be looked up.
    """

    def __init__(self, keys: pa.Table) -> None:
        self.keys = keys.group_by(keys.column_names, use_threads=False).aggregate([]).combine_chunks() if keys.num_rows else keys
        self._values: list[pa.Array] = []
        self._pairs: list[pa.Array] = []
        numbers: pa.Array | None = None
        for column in self.keys.columns:
            values = pc.unique(column)
            self._values.append(values)
            number = pc.index_in(column, value_set=values)
            if numbers is None:
                numbers = number
            else:
                pairs = _paired(numbers, number, len(values))
                self._pairs.append(pc.unique(pairs))
                numbers = pc.index_in(pairs, value_set=self._pairs[-1])
        self._filter = _HashFilter.of(self.keys)

    def __len__(self) -> int:
        return int(self.keys.num_rows)

    def numbers(self, keys: pa.Table) -> Numbers:
        """Per row the number of its key in the set, -1 where it is not in it."""
        numbers: pa.Array | None = None
        for position, column in enumerate(keys.columns):
            number = pc.index_in(column, value_set=self._values[position])
            if numbers is None:
                numbers = number
            else:
                pairs = _paired(numbers, number, len(self._values[position]))
                numbers = pc.index_in(pairs, value_set=self._pairs[position - 1], skip_nulls=True)
        return np.asarray(pc.fill_null(pc.cast(numbers, pa.int64()), -1))

    def find(self, keys: pa.Table) -> tuple[Positions, Numbers]:
        """The rows whose key is in the set, as positions in `keys`, and the numbers of their keys."""
        asked = self._filter.candidates(keys) if self._filter is not None else None
        if asked is not None:
            keys = keys.take(pa.array(asked))
        numbers = self.numbers(keys)
        found = np.flatnonzero(numbers >= 0)
        return (found if asked is None else asked[found]), numbers[found]

    def may_touch(self, low_high: Mapping[str, tuple[Any, Any, bool]]) -> bool:
        """Whether bounds (lower, upper, whether there may be nulls) by key column leave room for any key of the set."""
        possible: Any = None
        for name, (low, high, nulls) in low_high.items():
            keys = self.keys.column(name)
            inside = pc.and_(pc.greater_equal(keys, pa.scalar(low, keys.type)), pc.less_equal(keys, pa.scalar(high, keys.type)))
            inside = pc.fill_null(inside, nulls)
            possible = inside if possible is None else pc.and_(possible, inside)
        return len(self) > 0 and (possible is None or bool(pc.any(possible).as_py()))


_HASH_BITS = 22
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class _HashFilter:
    """A bit per hash of the values of one whole-number key column: what is not in it is surely no key."""

    position: int
    bits: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, keys: pa.Table) -> _HashFilter | None:
        for position, column in enumerate(keys.columns):
            if pa.types.is_integer(column.type) and not column.null_count and 0 < len(column) < 1 << (_HASH_BITS - 3):
                bits = np.zeros(1 << _HASH_BITS, bool)
                bits[_hashes(column)] = True
                return cls(position, bits)
        return None

    def candidates(self, keys: pa.Table) -> Positions:
        column = keys.column(self.position)
        found = self.bits[_hashes(pc.fill_null(column, 0) if column.null_count else column)]
        return np.flatnonzero(found)


def _hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    values: npt.NDArray[np.uint64] = column.to_numpy().astype(np.int64, copy=False).view(np.uint64)
    hashed: npt.NDArray[np.uint64] = np.right_shift(values * _HASH_FACTOR, np.uint64(64 - _HASH_BITS))
    return hashed


def _paired(numbers: pa.Array, number: pa.Array, size: int) -> pa.Array:
    return pc.add(pc.multiply(pc.cast(numbers, pa.int64()), max(size, 1)), pc.cast(number, pa.int64()))


def file_bounds(file: DataFile, columns: KeyColumns) -> dict[str, tuple[Any, Any, bool]]:
    """Bounds of a data file for `KeySet.may_touch`, of the key columns that have any."""
    found = {}
    for name, field_id in zip(columns.names, columns.field_ids, strict=True):
        kind = columns.schema.find_type(field_id)
        low, high = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
        if low is None or high is None or not isinstance(kind, PrimitiveType) or isinstance(kind, UUIDType | DecimalType):
            continue
        nulls = (file.null_value_counts or {}).get(field_id)
        found[name] = (from_bytes(kind, low), from_bytes(kind, high), nulls is None or nulls > 0)
    return found


def group_bounds(group: pq.RowGroupMetaData, leaves: Mapping[str, int], columns: KeyColumns) -> dict[str, tuple[Any, Any, bool]]:
    """Bounds of a row group, by column index of each leaf: of whole-number columns, whose statistics are exact in every writer's files."""
    found = {}
    for name, field_id in zip(columns.names, columns.field_ids, strict=True):
        whole = isinstance(columns.schema.find_type(field_id), IntegerType | LongType)
        statistics = group.column(leaves[name]).statistics if whole and name in leaves else None
        if statistics is not None and statistics.has_min_max:
            found[name] = (statistics.min, statistics.max, not statistics.has_null_count or statistics.null_count > 0)
    return found
