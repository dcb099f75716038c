"""JSON APIs as deliveries: all pages of a list as a snapshot, or the records that changed behind a cursor (`cursors`).

How pages follow one another is said here, how one is asked for and asked for again in `http_pages`. One page is in memory at a time. An
API has no point in time: where its list changes between two pages, page numbers and offsets may show a record twice or not at all; the
styles `cursor` and `link` do not have that fault if the API does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import TimestampType, TimestamptzType

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import CURSOR, HttpOptions, Paging
from platform_resources.errors import PlatformError
from platform_resources.landing.connections import address_of, connection_name
from platform_resources.landing.cursors import Increment, merges, position_of, takes_newest
from platform_resources.landing.http_pages import Answer, Client
from platform_resources.landing.json_records import JsonRows, list_at
from platform_resources.landing.snapshots import now, pending_snapshot, see_slice_is_now
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, Landed
from platform_resources.streams.temporal import format_micros

_ORIGIN_PARTS = 2  # scheme and host of an address


class HttpSource:
    """Records of a JSON API, as the contract's source and the profile's connection say.

    Args:
        contract: of a product that comes from an API.
        settings: what its connection resolves to.
        looking: only whether something is pending is asked, so nobody is kept waiting for the budget's end.

    Raises:
        PlatformError: `connection-unknown`, `connection-scheme`, `http-overlap`.
    """

    def __init__(self, contract: Contract, settings: Settings, *, looking: bool = False) -> None:
        if contract.source is None or not isinstance(contract.source.options, HttpOptions):
            raise TypeError(f"{contract.key} does not come from an API")  # the platform's fault: `opening` looks first
        self._contract, self._options = contract, contract.source.options
        self._client = Client(address_of(contract, settings), connection_name(contract), self._options.budget)
        self._retries = self._client.retries(looking=looking)
        self._path = contract.source.path or ""
        self._rows = JsonRows(contract)
        self._reached: dict[str, str] = {}
        if self._options.cursor and self._options.overlap and not merges(contract):
            raise PlatformError(
                "http-overlap",
                f"The contract {contract.key} appends records of an API and has an overlap, by which the same ones come again.",
                "Write writeMode: merge with a primaryKey, or remove overlap.",
                file=contract.path,
                line=contract.source.line,
            )

    def pending(self, landed: Landed) -> Sequence[Delivery]:
        """The present slice's snapshot unless it has landed, or what lies behind the cursor: asked for page by page until something does.

        Raises:
            PlatformError: `http-unreachable`, `http-login-refused`, `http-not-found`, `http-refused`, `http-redirected`,
                `cursor-changed`.
            DeliveryRefused: as of `read`.
        """
        cursor = self._options.cursor
        if cursor is None:
            return pending_snapshot(self._contract, landed)
        found = Increment(cursor, now().isoformat(), after=position_of(self._contract, cursor, landed))
        for block in self._blocks(found):
            newest = pc.max(block.rows.column(cursor)).as_py()
            if newest is not None and (found.after is None or newest > self._value(found.after).as_py()):
                return [found]
            if found.after is None and block.refused:
                return [found]
        return []

    def read(self, delivery: Delivery) -> Iterator[Block]:
        """The records in the API's order; lines are their numbers in the delivery.

        Raises:
            DeliveryRefused: `slice-past`, `http-malformed`, `http-too-large`, `http-paging-loop`, `http-paging-elsewhere`, `cursor-null`.
            PlatformError: as of `pending`; rows already given must not be published then.
        """
        if not isinstance(delivery, Increment):
            see_slice_is_now(self._contract, delivery)
            yield from self._blocks(delivery)
            return
        after = None if delivery.after is None else self._value(delivery.after)
        behind = _Behind(self._contract, delivery.name, after)
        for block in self._blocks(delivery):
            yield behind.taken(block)
        newest = behind.newest if behind.newest is not None else after
        if newest is not None:
            self._reached[delivery.version] = self._text(newest)

    def reached(self, delivery: Delivery) -> Landed:
        """The slice with the instant of its snapshot, or the greatest value of the cursor that was seen."""
        if not isinstance(delivery, Increment):
            return {delivery.name: delivery.version}
        newest = self._reached.get(delivery.version, delivery.after)
        return {} if newest is None else {delivery.name: newest}

    # --- pages

    def _blocks(self, delivery: Delivery) -> Iterator[Block]:
        """The records of each page as a block."""
        query, first = dict[str, str](), 1
        if isinstance(delivery, Increment) and delivery.after is not None and self._options.cursor_parameter:
            since = self._since(delivery.after)
            query[self._options.cursor_parameter] = (self._options.cursor_template or CURSOR).replace(CURSOR, since)
        for records in self._pages(query):
            lines = range(first, first + len(records))
            first += len(records)
            yield self._rows.typed(records, lines, lambda index, records=records: orjson.dumps(records[index]))  # type: ignore[misc]

    def _pages(self, query: Mapping[str, str]) -> Iterator[list[Any]]:
        """The lists of records, one request each, until the API says or shows that there are no more."""
        paging, seen = self._options.paging, set[bytes]()
        url, place = self._client.url(self._path), _first(paging)
        longest = previous = 0
        while True:
            ends = bool(previous) and previous < max(longest, paging.size or 0 if paging else 0)
            answer = self._client.get(url, {**query, **place}, self._retries, missing_ends=ends and paging is not None)
            if answer is None:
                return
            records = [] if _is_bare(answer.value, self._options.records) else self._records(answer)
            if paging is None:
                yield records
                return
            self._see_new(records, seen, "page")
            yield records
            longest, previous = max(longest, len(records)), len(records)
            following = self._following(paging, answer, url, place, len(records))
            if following is None:
                return
            url, place = following
            if paging.style == "link":
                query = {}
            if paging.style in ("cursor", "link"):
                self._see_new([url, place], seen, "place to go on at")

    def _records(self, answer: Answer) -> list[Any]:
        path, numbers = self._options.records, self._rows.numbers
        found = list_at(answer.value, path)
        if found is None:
            what = f"has no list at {path}" if path else "is no list"
            raise DeliveryRefused(
                "http-malformed",
                f"The answer of {answer.place} {what}.",
                "Say in the contract where the list is: the custom property records, e.g. data.items.",
                file=self._contract.path,
            )
        exact = list_at(numbers.parsed(answer.text), path)
        return found if exact is None else list(map(numbers.record, exact))

    def _following(
        self, paging: Paging, answer: Answer, url: str, place: Mapping[str, str], records: int
    ) -> tuple[str, dict[str, str]] | None:
        """Where the next page is: address and query; None behind the last one."""
        match paging.style:
            case "page" | "offset":
                if not records:
                    return None
                ((name, number),) = ((name, value) for name, value in place.items() if name != paging.size_parameter)
                return url, {**place, name: str(int(number) + (1 if paging.style == "page" else records))}
            case "cursor":
                token = _at(answer.value, paging.next)
                return None if token in (None, "", False) else (url, {**place, paging.parameter or "cursor": str(token)})
        target = _at(answer.value, paging.next) if paging.next else answer.following
        if not target:
            return None
        absolute = urljoin(answer.url, str(target))
        if urlsplit(absolute)[:_ORIGIN_PARTS] != urlsplit(url)[:_ORIGIN_PARTS]:
            raise DeliveryRefused(
                "http-paging-elsewhere",
                f"{answer.place} names another server for its next page, {urlsplit(absolute).hostname}, which gets no secret of this one.",
                "Let its operator mend the link, or page by number, offset or cursor.",
                file=self._contract.path,
            )
        return absolute, {}

    def _see_new(self, what: list[Any], seen: set[bytes], name: str) -> None:
        """Refuse a page, or a place to go on at, that was there before: it would go on for ever."""
        if not what:
            return
        digest = hashlib.blake2b(orjson.dumps(what), digest_size=16).digest()
        if digest in seen:
            raise DeliveryRefused(
                "http-paging-loop",
                f"The API of the connection {connection_name(self._contract)} gives the same {name} twice, so its list has no end.",
                "See that the contract's paging names the parameter that the API takes.",
                file=self._contract.path,
            )
        seen.add(digest)

    # --- the cursor

    def _value(self, text: str) -> pa.Scalar:
        return pa.array([text]).cast(arrow_type(self._contract.column(self._options.cursor or "").type))[0]

    def _text(self, value: pa.Scalar) -> str:
        kind = self._contract.column(self._options.cursor or "").type
        if isinstance(kind, TimestampType | TimestamptzType):
            return format_micros(value.cast(pa.int64()).as_py(), zoned=isinstance(kind, TimestamptzType))
        return str(value.as_py())

    def _since(self, after: str) -> str:
        """The position less the overlap, as text."""
        overlap, value = self._options.overlap, self._value(after)
        if not overlap:
            return after
        if isinstance(overlap, timedelta):
            micros = value.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).as_py() - overlap // timedelta(microseconds=1)
            return self._text(pa.scalar(micros, pa.int64()).cast(pa.timestamp("us", "UTC")).cast(value.type))
        return str(value.as_py() - overlap)


class _Behind:
    """The rows of one increment, by the law of `cursors`, as pages come; `newest` is the greatest value seen."""

    def __init__(self, contract: Contract, cursor: str, after: pa.Scalar | None) -> None:
        self._contract, self._cursor, self._after = contract, cursor, after
        self._all, self._inclusive = merges(contract), takes_newest(contract, cursor, overlap=False)
        self._held: list[tuple[pa.Table, pa.Array]] = []
        self.newest: pa.Scalar | None = None

    def taken(self, block: Block) -> Block:
        """What of a page is to land now: with it rows that waited for a newer value to come.

        Raises:
            DeliveryRefused: `cursor-null`.
        """
        rows, lines = block.rows, block.lines
        values = rows.column(self._cursor)
        if values.null_count:
            raise DeliveryRefused(
                "cursor-null",
                f"{values.null_count} records have no {self._cursor}, which is the cursor, so nobody knows what is new.",
                "Name a cursor that each record has, or take snapshots: cadence instead of cursor.",
                file=self._contract.path,
            )
        if self._all:
            self._note(values)
            return block
        if self._after is not None:
            new = (pc.greater if self._inclusive else pc.greater_equal)(values, self._after)
            rows, lines = rows.filter(new), lines.filter(_array(new))
        moved = self._note(rows.column(self._cursor))
        if self._inclusive or self.newest is None:
            return Block(rows, lines, block.refused)
        released, self._held = (self._held, []) if moved else ([], self._held)
        waits = pc.equal(rows.column(self._cursor), self.newest)
        self._held.append((rows.filter(waits), lines.filter(_array(waits))))
        goes = pc.invert(waits)
        parts = [*released, (rows.filter(goes), lines.filter(_array(goes)))]
        return Block(pa.concat_tables([part for part, _ in parts]), pa.concat_arrays([numbers for _, numbers in parts]), block.refused)

    def _note(self, values: pa.ChunkedArray) -> bool:
        """Whether a value is newer than all before."""
        top = pc.max(values)
        if not top.is_valid or (self.newest is not None and top.as_py() <= self.newest.as_py()):
            return False
        self.newest = top
        return True


def _array(mask: pa.ChunkedArray | pa.Array) -> pa.Array:
    return mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask


def _first(paging: Paging | None) -> dict[str, str]:
    """The query of the first page."""
    if paging is None:
        return {}
    place = {paging.size_parameter: str(paging.size)} if paging.size_parameter and paging.size is not None else {}
    if paging.style == "page":
        place[paging.parameter or "page"] = str(1 if paging.first is None else paging.first)
    elif paging.style == "offset":
        place[paging.parameter or "offset"] = str(paging.first or 0)
    return place


def _inside(value: Any, path: str | None) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _is_bare(value: Any, path: str | None) -> bool:
    """Whether the API left its list out since nothing is in it, as some do behind the last page: what should hold it is empty."""
    holder, _, _ = (path or "").rpartition(".")
    return bool(holder) and _inside(value, holder) in ({}, [])


def _at(value: Any, path: str | None) -> Any:
    """The scalar at a dotted path; None where there is none."""
    found = _inside(value, path)
    return found if isinstance(found, str | int | float) else None
