"""MediaWiki's XML export, read as a stream of revisions: pages-articles, stubs and full histories of schema 0.10 and 0.11.

Only the format lives here; how revisions become a contract's rows is `xml_dump`'s. The parser is Expat: nothing of a document is
kept but the open elements, so memory does not grow with the file, nor with a page's history.
https://www.mediawiki.org/wiki/Help:Export, https://www.mediawiki.org/xml/export-0.11.xsd
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO
from xml.parsers import expat

from platform_resources.landing.source import DeliveryRefused

VERSIONS = ("0.10", "0.11")
MAX_RECORD = 32 * 1024 * 1024
"""Characters that one revision may have in all, and bytes of one tag: 16 times what a wiki accepts by default, and the memory's bound."""

_CHUNK = 1 << 18
_TEXT_BUFFER = 1 << 16
_MAX_DEPTH = 32
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_NAMESPACE = "http://www.mediawiki.org/xml/export-{}/"
# Byte order marks, and `<` as the first character without one.
_WIDE_STARTS = (
    (b"\xff\xfe\x00\x00", "UTF-32-LE"),
    (b"\x00\x00\xfe\xff", "UTF-32-BE"),
    (b"<\x00\x00\x00", "UTF-32-LE"),
    (b"\x00\x00\x00<", "UTF-32-BE"),
    (b"\xff\xfe", "UTF-16-LE"),
    (b"\xfe\xff", "UTF-16-BE"),
    (b"<\x00", "UTF-16-LE"),
    (b"\x00<", "UTF-16-BE"),
)


@dataclass(slots=True)
class Site:
    """What an export says of its wiki: `dbname` is the wiki's id, `namespaces` maps a namespace's number to its local name."""

    version: str
    language: str | None = None
    name: str | None = None
    dbname: str | None = None
    base: str | None = None
    generator: str | None = None
    case: str | None = None
    namespaces: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Page:
    """A page. `title` has the namespace's prefix and spaces, as exported; `redirect_target` is None where it is no redirect."""

    id: int | None
    namespace_id: int | None
    title: str | None
    redirect_target: str | None = None
    restrictions: str | None = None


@dataclass(slots=True)
class Content:
    """One slot of a revision.

    `body` is None where the export does not have it (stubs, hidden or lost texts), and empty where the text is; `size` is in bytes,
    `sha1` in base 36, `address` where the wiki's storage keeps it (a stub's `location`, or its text `id`); `origin` is the revision the
    content was made for.
    """

    role: str
    model: str | None
    format: str | None
    body: str | None
    size: int | None
    sha1: str | None
    address: str | None
    origin: int | None
    is_visible: bool


@dataclass(slots=True)
class Revision:
    """One revision, its main slot first in `contents`.

    `number` counts the revisions of a file from 1. `user_id` is None for an anonymous author, 0 for an imported one; `user_text` is a
    name or an IP address. What is hidden is None, and its `_is_visible` False. `faults` has (element, reason, sentence) of what
    could not be read; the value is None then.
    """

    number: int
    site: Site
    page: Page
    id: int | None
    parent_id: int | None
    dt: datetime | None
    user_id: int | None
    user_text: str | None
    user_is_visible: bool
    comment: str | None
    comment_is_visible: bool
    is_minor_edit: bool
    sha1: str | None
    contents: list[Content]
    faults: list[tuple[str, str, str]]

    @property
    def size(self) -> int | None:
        """Bytes of all slots; None where one is not known."""
        sizes = [content.size for content in self.contents]
        return None if None in sizes or not sizes else sum(size for size in sizes if size is not None)


def revisions(stream: BinaryIO, name: str) -> Iterator[Revision]:
    """The revisions of an export, in its order. `stream` gives decompressed bytes, `name` is what the sentences call it.

    Raises:
        DeliveryRefused: it is no export, of another version or encoding, has a document type, or ends too soon. What was given
            before that is not to be trusted.
    """
    chunk = stream.read(_CHUNK)
    _refuse_wide(chunk, name)
    reading = _Reading(name)
    parser = reading.parser()
    fed = 0
    while True:
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            raise _refusal(error, name, ended=not chunk, known=bool(reading.site.version)) from None
        yield from reading.take()
        fed += len(chunk)
        if not chunk:
            break
        if fed - parser.CurrentByteIndex > MAX_RECORD:
            raise _refused(name, "not-an-export", "has a tag without an end", "Make the dump again.")
        chunk = stream.read(_CHUNK)
    if reading.log_items:
        raise _refused(name, "not-an-export", "holds log items, not pages", "Give a dump of pages: pages-articles, stub or history.")


class _Reading:
    """Expat's handlers and what they have open: the elements from the root down, and the revisions that are complete.

    An element is a leaf until a child begins in it. Leaves leave text in their parent's `fields`, and attributes under `@name`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.site = Site("")  # without a version until the root was seen
        self.log_items = 0
        self._page: Page | None = None
        self._open: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []
        self._leaf: str | None = None
        self._attributes: Mapping[str, str] = {}
        self._text: list[str] = []
        self._length = 0
        self._too_large = False
        self._number = 0
        self._done: list[Revision] = []

    def parser(self) -> expat.XMLParserType:
        """A parser that calls these handlers."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.buffer_size = _TEXT_BUFFER
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._document_type
        return parser

    def take(self) -> list[Revision]:
        """The revisions completed since the last call."""
        done, self._done = self._done, []
        return done

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise _encoded(self.name, encoding)

    def _document_type(self, *_: object) -> None:
        raise _refused(
            self.name,
            "not-an-export",
            "declares a document type, which no MediaWiki export does, and entities are never expanded",
            "Take the file from a source you trust.",
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._leaf is not None:
            self._open.append((self._leaf, self._attributes, {}))
            if len(self._open) > _MAX_DEPTH:
                raise _refused(self.name, "not-an-export", f"nests elements more than {_MAX_DEPTH} deep", "Make the dump again.")
        elif not self._open:
            self.site = _site(tag, attributes, self.name)
        self._leaf = tag
        self._attributes = attributes
        self._text = []

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length <= MAX_RECORD:
            self._text.append(text)
        else:
            self._too_large = True

    def _end(self, tag: str) -> None:
        if self._leaf is None:
            self._close(*self._open.pop())
            return
        self._leaf = None
        if not self._open:
            return  # a root without children
        text = self._text
        value = text[0] if len(text) == 1 else "".join(text)
        fields = self._open[-1][2]
        fields[tag] = value
        if self._attributes:
            fields["@" + tag] = self._attributes
            if tag == "namespace":
                self._namespace(self._attributes.get("key", ""), value)
        elif tag == "revision":
            self._close(tag, {}, {})

    def _namespace(self, key: str, name: str) -> None:
        try:
            self.site.namespaces[int(key)] = name
        except ValueError:
            raise _refused(self.name, "export-malformed", f"has a namespace numbered {key[:80]!r}", "Make the dump again.") from None

    def _close(self, tag: str, attributes: Mapping[str, str], fields: dict[str, Any]) -> None:
        """An element that had children is complete."""
        if tag == "revision":
            self._number += 1
            self._done.append(self._revision(fields))
            self._length, self._too_large = 0, False
        elif tag == "contributor":
            fields["@"] = attributes
            self._open[-1][2][tag] = fields
        elif tag == "content":
            self._open[-1][2].setdefault("contents", []).append(fields)
        elif tag == "siteinfo":
            site = self.site
            site.name, site.dbname, site.base = fields.get("sitename"), fields.get("dbname"), fields.get("base")
            site.generator, site.case = fields.get("generator"), fields.get("case")
        elif tag == "page":
            self._page, self._length = None, 0
        elif tag == "logitem":
            self.log_items += 1

    def _revision(self, fields: dict[str, Any]) -> Revision:
        faults: list[tuple[str, str, str]] = []
        if self._too_large:
            faults.append(("text", "too-large", f"the revision has more than {MAX_RECORD:,} characters"))
        if self._page is None:
            self._page = _page(self._open[-1][2] if self._open else {}, faults)
        contents = [_content(fields, faults), *(_content(slot, faults) for slot in fields.get("contents", ()))]
        sha1 = fields.get("sha1") or None
        if len(contents) == 1 and contents[0].sha1 is None:
            contents[0].sha1 = sha1  # a revision of one slot has its hash; 0.10 says it only there
        user_id, user_text, user_is_visible = _user(fields, faults)
        hidden = _hidden(fields.get("@comment"))
        return Revision(
            self._number,
            self.site,
            self._page,
            _whole(fields, "id", faults),
            _whole(fields, "parentid", faults),
            _instant(fields.get("timestamp"), faults),
            user_id,
            user_text,
            user_is_visible,
            None if hidden else fields.get("comment", ""),
            not hidden,
            "minor" in fields,
            sha1,
            contents,
            faults,
        )


def _site(tag: str, attributes: Mapping[str, str], name: str) -> Site:
    """The root's facts; refuses a root that is none of an export."""
    version = attributes.get("version", "")
    if tag != "mediawiki":
        raise _no_export(name)
    if version not in VERSIONS or attributes.get("xmlns", _NAMESPACE.format(version)) != _NAMESPACE.format(version):
        said = (
            f"is of the export schema {version}" if version and version not in VERSIONS else "does not say its version of the export schema"
        )
        raise _refused(
            name, "export-version", f"{said}; {' and '.join(VERSIONS)} are read", "Export it again from MediaWiki 1.23 or newer."
        )
    return Site(version, attributes.get("xml:lang"))


def _page(fields: Mapping[str, Any], faults: list[tuple[str, str, str]]) -> Page:
    redirect = fields.get("@redirect", {}).get("title") if "redirect" in fields else None
    restrictions = fields.get("restrictions") or None
    return Page(_whole(fields, "id", faults, "page id"), _whole(fields, "ns", faults), fields.get("title"), redirect, restrictions)


def _content(fields: Mapping[str, Any], faults: list[tuple[str, str, str]]) -> Content:
    attributes = fields.get("@text", {})
    size = _size(attributes.get("bytes"), faults)
    address = attributes.get("location") or attributes.get("id")
    visible = not _hidden(attributes)
    body = fields.get("text")
    if not body and (not visible or address is not None or size):
        body = None  # not in this file; an empty text has no address and no bytes
    if size is None and body is not None:
        size = len(body.encode())
    return Content(
        fields.get("role", "main"),
        fields.get("model"),
        fields.get("format"),
        body,
        size,
        attributes.get("sha1") or None,
        address,
        _whole(fields, "origin", faults),
        visible,
    )


def _user(fields: Mapping[str, Any], faults: list[tuple[str, str, str]]) -> tuple[int | None, str | None, bool]:
    """Id, name or address, and whether they may be seen. A contributor without children is a leaf."""
    contributor = fields.get("contributor")
    if not isinstance(contributor, dict):
        return None, None, not _hidden(fields.get("@contributor"))
    if _hidden(contributor["@"]):
        return None, None, False
    text = contributor["username"] if "username" in contributor else contributor.get("ip")
    return _whole(contributor, "id", faults, "contributor id"), text, True


def _hidden(attributes: Mapping[str, str] | None) -> bool:
    return attributes is not None and attributes.get("deleted") == "deleted"


def _whole(fields: Mapping[str, Any], tag: str, faults: list[tuple[str, str, str]], called: str = "") -> int | None:
    text = fields.get(tag)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or "_" in text:  # which Python reads as a grouping
        faults.append((called or tag, "type-mismatch", f"{text[:80]!r} is not a whole number"))
        return None
    if not _SMALLEST <= number <= _LARGEST:
        faults.append((called or tag, "out-of-range", f"{text[:80]!r} does not fit into a 64-bit integer"))
        return None
    return number


def _size(text: str | None, faults: list[tuple[str, str, str]]) -> int | None:
    """Bytes; hidden texts say -1."""
    size = _whole({"bytes": text}, "bytes", faults) if text else None
    return None if size is not None and size < 0 else size


def _instant(text: str | None, faults: list[tuple[str, str, str]]) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        faults.append(("timestamp", "unreadable-timestamp", f"{text[:80]!r} is not a time in UTC"))
        return None
    return moment


# --- refusals


def _refused(name: str, code: str, said: str, remedy: str) -> DeliveryRefused:
    return DeliveryRefused(code, f"{name} {said}.", remedy)


def _no_export(name: str) -> DeliveryRefused:
    return _refused(
        name, "not-an-export", "is no MediaWiki XML export", "Give a dump that begins with <mediawiki>, or change the contract's `source`."
    )


def _encoded(name: str, encoding: str) -> DeliveryRefused:
    remedy = "Write it again in UTF-8, e.g. with iconv."
    return _refused(name, "export-encoding", f"is encoded in {encoding}; exports are read in UTF-8 only", remedy)


def _refuse_wide(start: bytes, name: str) -> None:
    for mark, encoding in _WIDE_STARTS:
        if start.startswith(mark):
            raise _encoded(name, encoding)


def _refusal(error: expat.ExpatError, name: str, *, ended: bool, known: bool) -> DeliveryRefused:
    """What the parser met, in the reader's words: the wrong file, a short one, or broken XML."""
    if ended and known:
        return _refused(
            name, "delivery-truncated", f"ends in line {error.lineno:,} before </mediawiki>", "Copy it again; it is incomplete."
        )
    if not known:
        return _no_export(name)
    said = expat.ErrorString(error.code)
    return _refused(name, "export-malformed", f"is not well-formed XML in line {error.lineno:,}: {said}", "Make the dump again.")


__all__ = ["MAX_RECORD", "VERSIONS", "Content", "Page", "Revision", "Site", "revisions"]
