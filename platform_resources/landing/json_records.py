"""NDJSON, and JSON files that hold a list, as a contract's rows. What a value may be is `streams.arrays`'s, as for events.

A name in the file is a column's `physicalName`, nested ones too. Fields that the contract does not declare refuse their record, unless
it is open (`additionalProperties`): then they stand in `_extra`, as those of events do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.landing.exact_numbers import ExactNumbers
from platform_resources.landing.json_columns import JsonColumns
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, RefusedRecord
from platform_resources.streams.arrays import Findings, struct_builder
from platform_resources.streams.canonical import canonical_json
from platform_resources.streams.undeclared import Undeclared

BLOCK_BYTES = 4 << 20
LINE_BYTES = 64 << 20
"""The longest line of NDJSON."""
WHOLE_BYTES = 32 << 20
"""A JSON file up to this size is read at once, a bigger one as a stream of its records, which takes longer."""
_BLOCK_RECORDS = 10_000


class JsonRows:
    """Turns parsed records into the columns of one contract, and what an open one does not declare into `_extra`.

    Attributes:
        numbers: what reads the records' text so that decimals keep their digits.
    """

    def __init__(self, contract: Contract) -> None:
        kind = pa.struct([pa.field(column.name, arrow_type(column.type)) for column in contract.columns])
        columns = tuple(map(_as_in_source, contract.columns))
        self._build = struct_builder(columns, kind, open_=not contract.closed)
        self._undeclared = Undeclared(replace(contract, columns=columns)) if contract.keeps_extra else None
        self.numbers = ExactNumbers(columns)

    def typed(self, records: Sequence[Any], lines: Sequence[int], raw: Callable[[int], bytes | None]) -> Block:
        """The records that are rows, and the others refused.

        Args:
            records: parsed JSON values.
            lines: where each stood, from 1.
            raw: what stood there, by index; asked only for records that are refused.
        """
        findings = Findings()
        for index, record in enumerate(records):
            if type(record) is not dict:
                findings.fault((index, ""), "not-an-object", "the record is no JSON object")
        array = self._build(list(records), lambda index: (index, ""), findings)
        table, numbers = pa.Table.from_struct_array(array), pa.array(lines, pa.int64())
        if self._undeclared is not None:
            table = table.append_column("_extra", self._extra(self._undeclared, records, findings))
        if not findings.faults:
            return Block(table, numbers)
        refused = [
            RefusedRecord(lines[index], raw(index), reason, path, detail)
            for index, (reason, path, detail) in sorted(findings.faults.items())
        ]
        good = pc.invert(pc.is_in(pa.array(range(len(records)), pa.int64()), value_set=pa.array(list(findings.faults), pa.int64())))
        return Block(table.filter(good), numbers.filter(good), refused)

    @staticmethod
    def _extra(undeclared: Undeclared, records: Sequence[Any], findings: Findings) -> pa.Array:
        texts: list[bytes | None] = [None] * len(records)
        for row in findings.undeclared - findings.faults.keys():
            extra = undeclared.of(records[row])
            texts[row] = canonical_json(extra) if extra else None
        return pa.array(texts, pa.string())


def _as_in_source(column: Column) -> Column:
    """The column under the name it has in the source; its type keeps the names of the table."""
    return replace(
        column,
        name="_schema" if column.source_name == "$schema" else column.source_name,
        fields=tuple(map(_as_in_source, column.fields)),
        element=column.element and _as_in_source(column.element),
        value=column.value and _as_in_source(column.value),
    )


def read_lines(stream: BinaryIO, delivery: Delivery, contract: Contract) -> Iterator[Block]:
    """NDJSON: a record on each line that is not blank.

    Raises:
        DeliveryRefused: `file-malformed` when a line has no end in sight.
    """
    rows, columns, line = JsonRows(contract), JsonColumns(contract), 1
    for chunk in _chunks(stream, delivery):
        whole = columns.read(chunk)
        if whole is not None:
            yield Block(whole, pa.array(np.arange(line, line + whole.num_rows)))
            line += whole.num_rows
            continue
        texts = chunk.split(b"\n")
        if not texts[-1]:
            texts.pop()
        records, lines, raws, refused = list[Any](), list[int](), list[bytes](), list[RefusedRecord]()
        for number, text in enumerate(texts, start=line):
            try:
                records.append(rows.numbers.loads(text))
            except orjson.JSONDecodeError as error:
                if text.strip():
                    refused.append(RefusedRecord(number, text.rstrip(b"\r"), "not-json", "", f"is not JSON: {error}"))
                continue
            lines.append(number)
            raws.append(text)
        line += len(texts)
        block = rows.typed(records, lines, lambda index, raws=raws: raws[index].rstrip(b"\r"))  # type: ignore[misc]
        yield Block(block.rows, block.lines, [*refused, *block.refused])


def _chunks(stream: BinaryIO, delivery: Delivery) -> Iterator[bytes]:
    """The text in chunks that end with a line."""
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut]
            rest = data[cut:]
        else:
            rest += data
        if len(rest) > LINE_BYTES:
            raise DeliveryRefused(
                "file-malformed",
                f"The file {delivery.name} has a line of more than {LINE_BYTES >> 20} MiB, so it is no NDJSON.",
                "Say `format: json` in the contract if it is one JSON value, or put another file there.",
            )
    if rest:
        yield rest


def read_list(stream: BinaryIO, delivery: Delivery, contract: Contract, records: str | None = None) -> Iterator[Block]:
    """JSON: a list, or an object with one at the dotted path `records`; lines are numbers of records from 1.

    Raises:
        DeliveryRefused: `file-malformed`: it is no JSON, or there is no list.
    """
    rows, number, head = JsonRows(contract), 1, stream.read(WHOLE_BYTES + 1)
    if len(head) <= WHOLE_BYTES:
        found = _whole(head, delivery, records, rows.numbers)
    else:
        found = _streamed(head, stream, delivery, records, rows.numbers)
    while block := list(islice(found, _BLOCK_RECORDS)):
        numbers = range(number, number + len(block))
        yield rows.typed(block, numbers, lambda index, block=block: orjson.dumps(block[index], default=str))  # type: ignore[misc]
        number += len(block)


def list_at(value: Any, path: str | None) -> list[Any] | None:
    """The list at a dotted path of a JSON value, at its root without one; None where there is none."""
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, list) else None


def _whole(text: bytes, delivery: Delivery, path: str | None, numbers: ExactNumbers) -> Iterator[Any]:
    try:
        found = list_at(orjson.loads(text), path)
    except orjson.JSONDecodeError as error:
        raise _malformed(delivery, str(error)) from None
    if found is None:
        raise _malformed(delivery, f"there is no list at {path}" if path else "it is no list")
    exact = list_at(numbers.parsed(text), path)
    return iter(found) if exact is None else map(numbers.record, exact)


def _streamed(head: bytes, stream: BinaryIO, delivery: Delivery, path: str | None, numbers: ExactNumbers) -> Iterator[Any]:
    import ijson

    found = False
    try:
        for record in ijson.items(_Again(head, stream), f"{path}.item" if path else "item", use_float=not numbers.any):
            found = True
            yield numbers.record(record) if numbers.any else record
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise _malformed(delivery, str(error).splitlines()[0]) from None
    if not found:
        raise _malformed(delivery, f"there is no list at {path}" if path else "it is no list")


def _malformed(delivery: Delivery, reason: str) -> DeliveryRefused:
    return DeliveryRefused(
        "file-malformed",
        f"The file {delivery.name} cannot be read as a list of JSON records: {reason.strip()}.",
        "Correct the file, or `format` and `records` in the contract.",
    )


class _Again:
    """A stream with what was read of it already put back."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._stream.read(size)
        size = len(self._head) if size < 0 else size
        data, self._head = self._head[:size], self._head[size:]
        return data
