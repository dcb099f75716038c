"""What a dump is made of, asked of DuckDB: its wikis, its pages by size, and its revisions in order, one range of pages at a time.

Memory is bounded by the session's limit, whatever the dump's size: what has to be sorted is one range, and it is spilled.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from platform_resources.contracts.model import Contract
from platform_resources.contracts.publications import EXPORT_COLUMNS, Publication
from platform_resources.engines.duck import store_fault
from platform_resources.engines.inputs import PinnedInput
from platform_resources.engines.running import define_views
from platform_resources.engines.sql import one_statement, read_duckdb_error
from platform_resources.engines.transform import Transform
from platform_resources.engines.types import duck_type, quote
from platform_resources.errors import PlatformError
from platform_resources.serving.export_xml import Site

MARKUP = 800
"""About how many bytes a revision takes besides its text."""

_EXPORT = "__export"
_SIZE = f"greatest(coalesce(revision_size, 0), 0) + {MARKUP}"
_SHOWN = f"CASE WHEN revision_content_is_visible THEN {_SIZE} ELSE {MARKUP} END"  # a file's name must not tell how long a hidden text is
_LOT = 2 * 2**20  # bytes of text that memory holds at once, some four times over: as DuckDB's, Arrow's, Python's and packed
_MEMORY = "128MB"
_IDENTITY = ("wiki_id", "page_id", "page_namespace_id", "page_title", "revision_id", "revision_dt")
_OF_PAGE = ("page_namespace_id", "page_title", "page_redirect_target", "page_restrictions")
_OF_REVISION = (
    "revision_id", "revision_parent_id", "revision_dt", "user_id", "user_text", "user_is_visible", "revision_comment",
    "revision_comment_is_visible", "revision_is_minor_edit", "revision_sha1", "revision_content_is_visible",
)  # fmt: skip
_WIKI = re.compile(r"\w+")


@dataclass(frozen=True)
class PageRange:
    """Pages that go into one file: consecutive ids of one wiki, from the first to the last that is there."""

    wiki_id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Key:
    """A revision by what orders it, and what is known of its page."""

    page_id: int
    revision_id: int
    revision_dt: datetime
    facts: Mapping[str, Any]


@dataclass(slots=True)
class _Lot:
    """Revisions that are fetched together: `whole` pages, or some of one page. `size` in bytes counts whole pages with all they have."""

    keys: list[_Key] = field(default_factory=list)
    size: int = 0
    whole: bool = True


class DumpQuery:
    """The rows of one dump over pinned inputs.

    Args:
        con: a session of `duck.connect`, for this alone: its memory is limited from here.
        contract, transform: the product that publishes and its query.
        inputs: its inputs, by key.
        cutoff: the dump's date, UTC; what was saved then or later is left out.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, contract: Contract, transform: Transform, inputs: Mapping[str, PinnedInput], cutoff: datetime
    ) -> None:
        if contract.publication is None:
            raise ValueError(f"{contract.key} publishes nothing")
        self._con, self._contract, self._where = con, contract, transform.where
        self._publication: Publication = contract.publication
        con.execute(f"SET memory_limit = '{_MEMORY}'")
        con.execute("SET threads = 1")  # the other cores pack; each thread would hold row groups of its own
        con.execute("SET errors_as_json = true")
        define_views(con, inputs, {})
        with self._telling():
            query = one_statement(transform.text or "")
            given = {name.lower() for name in con.sql(query).columns}
            columns = ", ".join(
                f"CAST({f'given.{quote(name)}' if name in given else 'NULL'} AS {duck_type(column.type)}) AS {quote(name)}"
                for name, column in EXPORT_COLUMNS.items()
            )
            con.execute(f"CREATE OR REPLACE VIEW {_EXPORT}_whole AS SELECT {columns} FROM (\n{query}\n) AS given")
            con.execute(
                f"CREATE OR REPLACE VIEW {_EXPORT} AS SELECT * FROM {_EXPORT}_whole "
                f"WHERE revision_dt < TIMESTAMPTZ '{cutoff:%Y-%m-%d %H:%M:%S}+00'"
            )

    def refuse_unfit(self) -> None:
        """Hold the rows against what every revision must have.

        Raises:
            PlatformError: `export-row-invalid`.
        """
        counts = ", ".join(f"count(*) FILTER (WHERE {name} IS NULL)" for name in _IDENTITY)
        for name, count in zip(_IDENTITY, self._one(f"SELECT {counts} FROM {_EXPORT}_whole"), strict=True):
            if count:
                raise self._unfit(f"{count:,} rows have no {name}", "Leave them out in the query, or mend the input.")

    def wikis(self) -> list[str]:
        """The wikis that have a revision in the dump.

        Raises:
            PlatformError: `export-row-invalid` for one whose name cannot stand in a file's.
        """
        found = [str(row[0]) for row in self._all(f"SELECT DISTINCT wiki_id FROM {_EXPORT} ORDER BY ALL")]
        for wiki in found:
            if _WIKI.fullmatch(wiki) is None:
                raise self._unfit(f"the wiki_id {wiki!r} is no database name", "Give it in letters, digits and underscores.")
        return found

    def site(self, wiki_id: str) -> Site:
        """What the head of a wiki's dumps says.

        Raises:
            PlatformError: `export-site-unknown`.
        """
        text = (
            f"SELECT site_name, site_base, site_case, site_language, site_namespaces FROM {_EXPORT} "
            "WHERE wiki_id = ? AND len(site_namespaces) > 0 AND site_name IS NOT NULL LIMIT 1"
        )
        row = next(iter(self._all(text, [wiki_id])), None)
        if row is None:
            raise PlatformError(
                "export-site-unknown",
                f"{self._contract.key} has revisions of {wiki_id}, but its query knows no name and namespaces of that wiki.",
                "Add the wiki to the product that the query takes them from, or leave it out of the query.",
                file=self._where,
            )
        spaces = [(one["namespace_id"], one["namespace_name"] or "", one["namespace_case"]) for one in row[4]]
        return Site(wiki_id, row[0], row[1] or "", row[2], row[3], spaces)

    def ranges(self, wiki_id: str) -> Iterator[PageRange]:
        """The pages of a wiki, cut where a file would become larger than it should. A page is never split."""
        of_page = f"max_by({_SHOWN}, (revision_dt, revision_id))" if self._publication.revisions == "current" else f"sum({_SHOWN})"
        if not self._publication.text:
            of_page = str(MARKUP) if self._publication.revisions == "current" else f"count(*) * {MARKUP}"
        text = f"SELECT page_id, CAST({of_page} AS BIGINT) FROM {_EXPORT} WHERE wiki_id = ? GROUP BY page_id ORDER BY page_id"
        first = last = None
        filled = 0
        for page, bytes_ in self._stream(text, [wiki_id]):
            if first is not None and last is not None and filled + bytes_ > self._publication.file_bytes:
                yield PageRange(wiki_id, first, last)
                first, filled = None, 0
            first, last, filled = page if first is None else first, page, filled + bytes_
        if first is not None and last is not None:
            yield PageRange(wiki_id, first, last)

    def revisions(self, pages: PageRange) -> Iterator[dict[str, Any]]:
        """The revisions of a range, by page and then by time, as `export_xml` takes them.

        What the page is called and where it redirects to is in every row as the page's newest revision has it: a move may not have
        reached the older rows. The order is found without the texts, which come in lots of a bounded size: DuckDB takes 2,048 rows at a
        time whatever is in them, which of a page of many long revisions is more than memory should hold.
        """
        for lot in self._lots(pages):
            found = self._texts(pages.wiki_id, lot)
            for key in lot.keys:
                row = found[key.page_id, key.revision_id]
                yield {"page_id": key.page_id, **key.facts, **row, "others": [(slot["key"], slot["value"]) for slot in row["others"] or ()]}

    def _lots(self, pages: PageRange) -> Iterator[_Lot]:
        """The range in lots: some whole pages, or a part of one."""
        facts = ", ".join(f"{name} := {name}" for name in _OF_PAGE)
        newest = "(revision_dt, revision_id)"
        kept = "AND held.revision_id = page.newest_id" if self._publication.revisions == "current" else ""
        text = (
            f"WITH held AS (SELECT page_id, revision_id, revision_dt, {_SIZE} AS size, {', '.join(_OF_PAGE)} FROM {_EXPORT} "
            f"WHERE wiki_id = ? AND page_id BETWEEN {pages.first} AND {pages.last}), "
            f"page AS (SELECT page_id, CAST(sum(size) AS BIGINT) AS size, max_by(revision_id, {newest}) AS newest_id, "
            f"max_by(struct_pack({facts}), {newest}) AS facts FROM held GROUP BY page_id) "
            "SELECT held.page_id, held.revision_id, held.revision_dt, held.size, page.size, page.facts "
            f"FROM held JOIN page ON held.page_id = page.page_id {kept} ORDER BY held.page_id, held.revision_dt, held.revision_id"
        )
        lot = _Lot()
        for page_id, revision_id, revision_dt, size, page_size, page_facts in self._stream(text, [pages.wiki_id]):
            whole, new = page_size <= _LOT, not lot.keys or lot.keys[-1].page_id != page_id
            taken = (page_size if new else 0) if whole else size
            if lot.keys and (lot.size + taken > _LOT or (new and not (whole and lot.whole))):
                yield lot
                lot = _Lot()
                taken = page_size if whole else size
            lot.whole, lot.size = whole, lot.size + taken
            lot.keys.append(_Key(page_id, revision_id, revision_dt, page_facts))
        if lot.keys:
            yield lot

    def _texts(self, wiki_id: str, lot: _Lot) -> dict[tuple[int, int], dict[str, Any]]:
        """The rows of a lot. The bounds are pushed down to the files, which a list of ids is not."""
        columns = ", ".join(f"held.{name}" for name in _OF_REVISION)
        bounds = " AND ".join(f"{name} BETWEEN ? AND ?" for name in ("page_id", "revision_id", "revision_dt"))
        values = [wiki_id]
        for column in zip(*((key.page_id, key.revision_id, key.revision_dt) for key in lot.keys), strict=True):
            values += [min(column), max(column)]
        text = (
            f"SELECT held.page_id, {columns}, held.revision_content_slots['main'] AS main, "
            "list_sort(list_filter(map_entries(held.revision_content_slots), lambda slot: slot.key <> 'main')) AS others "
            f"FROM {_EXPORT} AS held WHERE wiki_id = ? AND {bounds} AND revision_id IN (SELECT unnest(?))"
        )
        with self._telling():
            rows = self._con.execute(text, [*values, [key.revision_id for key in lot.keys]]).to_arrow_table().to_pylist()
        return {(row.pop("page_id"), row["revision_id"]): row for row in rows}

    def _one(self, text: str) -> tuple[Any, ...]:
        return self._all(text)[0]

    def _all(self, text: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._telling():
            return self._con.execute(text, values or []).fetchall()

    def _stream(self, text: str, values: list[Any]) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, block by block; on a cursor of its own, since others are asked meanwhile."""
        con = self._con.cursor()
        with self._telling():
            con.execute(text, values)
        while True:
            with self._telling():
                rows = con.fetchmany(10_000)
            if not rows:
                return
            yield from rows

    def _unfit(self, what: str, remedy: str) -> PlatformError:
        return PlatformError("export-row-invalid", f"{self._contract.key} cannot be published: {what}.", remedy, file=self._where)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What DuckDB raises, as the query's failure."""
        try:
            yield
        except PlatformError:
            raise
        except Exception as error:
            if (fault := store_fault(error)) is not None:
                raise fault from error
            if not isinstance(error, duckdb.Error):
                raise
            said = read_duckdb_error(error, "")[0].rstrip(".")
            raise PlatformError(
                "transform-failed", f"The query failed: {said}.", "Correct the query, or the data it cannot deal with.", file=self._where
            ) from error
