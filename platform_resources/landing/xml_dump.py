"""A MediaWiki XML dump as a contract's rows: one for each revision.

A contract declares any of `FIELDS` by name, or renames one with `physicalName`, and none but those (`contracts.landing_laws`). The format
is `mediawiki_export`'s, types are judged by `text_columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
from pyiceberg.types import MapType, StructType

from platform_resources.contracts.model import Column, Contract
from platform_resources.landing.mediawiki_export import Content, Revision, revisions
from platform_resources.landing.source import Block, Delivery, RefusedRecord
from platform_resources.landing.text_columns import TextColumns

_BLOCK_CHARACTERS = 4 * 1024 * 1024
_BLOCK_ROWS = 10_000


@dataclass(frozen=True)
class Field:
    """One thing an export says of a revision: its type in words of ODCS, its meaning, and where it stands."""

    logical_type: str
    meaning: str
    of: Callable[[Revision], Any]


def _namespace_name(revision: Revision) -> str | None:
    number = revision.page.namespace_id
    return None if number is None else revision.site.namespaces.get(number)


def _content_is_visible(revision: Revision) -> bool:
    return all(content.is_visible for content in revision.contents)


def _slot(content: Content) -> dict[str, Any]:
    return {
        "content_body": content.body,
        "content_format": content.format,
        "content_model": content.model,
        "content_sha1": content.sha1,
        "content_size": content.size,
        "content_address": content.address,
        "origin_rev_id": content.origin,
        "is_visible": content.is_visible,
    }


def _main(name: str) -> Callable[[Revision], Any]:
    return lambda revision: getattr(revision.contents[0], name)


FIELDS: Mapping[str, Field] = {
    "wiki_id": Field("string", "The wiki's database name, e.g. `enwiki`.", attrgetter("site.dbname")),
    "page_id": Field("integer", "The page's id.", attrgetter("page.id")),
    "page_namespace_id": Field("integer", "Number of the page's namespace.", attrgetter("page.namespace_id")),
    "page_namespace_name": Field("string", "The namespace's name on this wiki; empty for the main one.", _namespace_name),
    "page_title": Field("string", "The page's title with its namespace's prefix and with spaces.", attrgetter("page.title")),
    "page_redirect_target": Field("string", "Title the page now redirects to; null for no redirect.", attrgetter("page.redirect_target")),
    "page_restrictions": Field("string", "The page's protection, in the old form of exports.", attrgetter("page.restrictions")),
    "revision_id": Field("integer", "The revision's id.", attrgetter("id")),
    "revision_parent_id": Field("integer", "Id of the revision before it; null for a page's first.", attrgetter("parent_id")),
    "revision_dt": Field("timestamp", "When the revision was saved.", attrgetter("dt")),
    "user_id": Field("integer", "Id of its author; null for anonymous and hidden ones.", attrgetter("user_id")),
    "user_text": Field("string", "Name or IP address of its author; null where hidden.", attrgetter("user_text")),
    "user_is_visible": Field("boolean", "False where the author is hidden.", attrgetter("user_is_visible")),
    "revision_comment": Field("string", "The edit summary; empty without one, null where hidden.", attrgetter("comment")),
    "revision_comment_is_visible": Field("boolean", "False where the edit summary is hidden.", attrgetter("comment_is_visible")),
    "revision_is_minor_edit": Field("boolean", "Whether the author marked the edit as minor.", attrgetter("is_minor_edit")),
    "revision_sha1": Field("string", "SHA-1 over all slots in base 36; null where hidden.", attrgetter("sha1")),
    "revision_size": Field("integer", "Bytes of all slots; null where hidden or not said.", attrgetter("size")),
    "revision_content_is_visible": Field("boolean", "False where a slot's content is hidden.", _content_is_visible),
    "revision_content_slots": Field(
        "map",
        "Every slot by role: content_body, content_format, content_model, content_sha1, content_size, content_address, origin_rev_id, "
        "is_visible, of which the contract declares what it wants.",
        lambda revision: {content.role: _slot(content) for content in revision.contents},
    ),
    "content_body": Field("string", "The main slot's text; null in stubs and where hidden, empty where it is.", _main("body")),
    "content_format": Field("string", "The main slot's format, e.g. `text/x-wiki`.", _main("format")),
    "content_model": Field("string", "The main slot's model, e.g. `wikitext`.", _main("model")),
    "content_sha1": Field("string", "SHA-1 of the main slot in base 36.", _main("sha1")),
    "content_size": Field("integer", "Bytes of the main slot.", _main("size")),
    "content_address": Field("string", "Where the wiki keeps the main slot's text (stubs): location, or text id.", _main("address")),
    "content_is_visible": Field("boolean", "False where the main slot's content is hidden.", _main("is_visible")),
    "origin_rev_id": Field("integer", "Revision the main slot was made for (schema 0.11).", _main("origin")),
    "site_name": Field("string", "The wiki's name.", attrgetter("site.name")),
    "site_base": Field("string", "Address of the wiki's main page.", attrgetter("site.base")),
    "site_generator": Field("string", "The software that wrote the export.", attrgetter("site.generator")),
    "site_case": Field("string", "Whether a title's first letter tells pages apart.", attrgetter("site.case")),
    "site_language": Field("string", "The wiki's language.", attrgetter("site.language")),
    "export_version": Field("string", "Version of the export schema.", attrgetter("site.version")),
}
"""Columns by name. Those of a content history are named as in wmf_content.mediawiki_content_history_v1."""

SHORT_NAMES: Mapping[str, str] = {
    "namespace_name": "page_namespace_name",
    "parent_id": "revision_parent_id",
    "comment": "revision_comment",
    "comment_is_visible": "revision_comment_is_visible",
    "is_minor_edit": "revision_is_minor_edit",
    "content_slots": "revision_content_slots",
}
"""What a column may be called as well."""


def read(stream: BinaryIO, delivery: Delivery, contract: Contract) -> Iterator[Block]:
    """The dump's revisions in blocks of bounded size; `lines` has their numbers in the file.

    Raises:
        DeliveryRefused: as `mediawiki_export.revisions`.
    """
    rows = _Rows(contract)
    pending: list[Revision] = []
    characters = 0
    for revision in revisions(stream, delivery.name):
        pending.append(revision)
        characters += sum(len(content.body) for content in revision.contents if content.body)
        if characters >= _BLOCK_CHARACTERS or len(pending) >= _BLOCK_ROWS:
            yield rows.block(pending)
            pending, characters = [], 0
    if pending:
        yield rows.block(pending)


class _Rows:
    """Makes blocks of revisions for one contract."""

    def __init__(self, contract: Contract) -> None:
        self._fields = [(column.name, _field(column)) for column in contract.columns]
        self._typing = TextColumns(contract)

    def block(self, found: Sequence[Revision]) -> Block:
        """The revisions that are rows, and the others refused; all in their order."""
        good = [revision for revision in found if not revision.faults]
        columns = {name: pa.array([of(revision) for revision in good]) for name, of in self._fields}
        lines = pa.array([revision.number for revision in good], pa.int64())
        block = self._typing.typed(columns, lines, lambda index: _raw(good[index]))
        if len(good) == len(found):
            return block
        refused = [*block.refused, *(_refused(revision) for revision in found if revision.faults)]
        return replace(block, refused=sorted(refused, key=lambda record: record.line or 0))


def _field(column: Column) -> Callable[[Revision], Any]:
    """What takes a column's value from a revision; the slots become JSON, cut to what the column declares."""
    name = SHORT_NAMES.get(column.source_name, column.source_name)
    of = FIELDS[name].of
    if name != "revision_content_slots":
        return of
    kind = column.type.value_type if isinstance(column.type, MapType) else None
    wanted = [field.name for field in kind.fields] if isinstance(kind, StructType) else list(_slot(_NO_CONTENT))

    def slots(revision: Revision) -> bytes:
        return orjson.dumps({role: {name: slot.get(name) for name in wanted} for role, slot in of(revision).items()})

    return slots


_NO_CONTENT = Content("main", None, None, None, None, None, None, None, True)


def _refused(revision: Revision) -> RefusedRecord:
    element, reason, detail = revision.faults[0]
    raw = None if reason == "too-large" else _raw(revision)
    return RefusedRecord(revision.number, raw, reason, element, detail)


def _raw(revision: Revision) -> bytes:
    """All that was read of a revision, as JSON: the bytes are gone with the parser."""
    return orjson.dumps({name: field.of(revision) for name, field in FIELDS.items() if not name.startswith("site_")})


__all__ = ["FIELDS", "SHORT_NAMES", "Field", "read"]
