"""What a product publishes beside its table, as values: the files of a dump in a public place, a set for each slice of time.

Only what the contract says of it (the custom properties of an outbound server), the columns a dump is made of, and those its index may
have. Where the public place is, is the profile's (`Settings.connections`); how files come to be is `serving`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.types import (
    BooleanType,
    IcebergType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

from platform_resources.contracts.slices import Slices, placeholders

PUBLISHED_KINDS = ("xml_dump",)
REVISIONS = ("all", "current")
PROPERTIES = ("publishes", "connection", "path", "cadence", "start", "revisions", "text", "fileSize")
SUFFIXES = ("xml", "xml.bz2", "xml.gz", "xml.zst")
DEFAULT_FILE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class ExportColumn:
    """A column that the query of a dump gives: its type, whether it must, and what it means."""

    type: IcebergType
    meaning: str
    required: bool = False


_TEXT, _NUMBER, _YES_OR_NO = StringType(), LongType(), BooleanType()


def _struct(*fields: tuple[str, IcebergType]) -> StructType:
    return StructType(*(NestedField(index, name, kind, required=False) for index, (name, kind) in enumerate(fields, start=1)))


_SLOT = _struct(
    ("content_body", _TEXT),
    ("content_format", _TEXT),
    ("content_model", _TEXT),
    ("content_sha1", _TEXT),
    ("content_size", _NUMBER),
    ("origin_rev_id", _NUMBER),
)
_NAMESPACE = _struct(("namespace_id", _NUMBER), ("namespace_name", _TEXT), ("namespace_case", _TEXT))

EXPORT_COLUMNS: Mapping[str, ExportColumn] = {
    "wiki_id": ExportColumn(_TEXT, "The wiki's database name, e.g. `enwiki`.", required=True),
    "page_id": ExportColumn(_NUMBER, "The page's id.", required=True),
    "page_namespace_id": ExportColumn(_NUMBER, "Number of the page's namespace.", required=True),
    "page_title": ExportColumn(_TEXT, "Title with the namespace's prefix; underscores become spaces.", required=True),
    "page_redirect_target": ExportColumn(_TEXT, "Title the page redirects to; null or empty for none."),
    "page_restrictions": ExportColumn(_TEXT, "The page's protection, in the old form of exports."),
    "revision_id": ExportColumn(_NUMBER, "The revision's id.", required=True),
    "revision_parent_id": ExportColumn(_NUMBER, "Id of the revision before it; null, 0 or less for none."),
    "revision_dt": ExportColumn(TimestamptzType(), "When the revision was saved; a dump holds what is before its date.", required=True),
    "user_id": ExportColumn(_NUMBER, "Id of its author; null for one known by an IP address only.", required=True),
    "user_text": ExportColumn(_TEXT, "Name or IP address of its author; null where hidden.", required=True),
    "user_is_visible": ExportColumn(_YES_OR_NO, "False (or null) where the author is hidden.", required=True),
    "revision_comment": ExportColumn(_TEXT, "The edit summary.", required=True),
    "revision_comment_is_visible": ExportColumn(_YES_OR_NO, "False (or null) where the edit summary is hidden.", required=True),
    "revision_is_minor_edit": ExportColumn(_YES_OR_NO, "Whether the author marked the edit as minor.", required=True),
    "revision_sha1": ExportColumn(_TEXT, "SHA-1 over all slots in base 36.", required=True),
    "revision_size": ExportColumn(_NUMBER, "Bytes of all slots, by which pages are put into files; not written.", required=True),
    "revision_content_is_visible": ExportColumn(_YES_OR_NO, "False (or null) where the content is hidden.", required=True),
    "revision_content_slots": ExportColumn(MapType(1, _TEXT, 2, _SLOT), "The slots by role, `main` among them.", required=True),
    "site_name": ExportColumn(_TEXT, "The wiki's name; this and what follows is the same in all rows of a wiki.", required=True),
    "site_base": ExportColumn(_TEXT, "Address of its main page.", required=True),
    "site_case": ExportColumn(_TEXT, "`first-letter` or `case-sensitive`.", required=True),
    "site_language": ExportColumn(_TEXT, "Its language, e.g. `en`.", required=True),
    "site_namespaces": ExportColumn(ListType(1, _NAMESPACE), "Its namespaces: number, local name, case.", required=True),
}
"""What the query beside the contract of a dump gives. Those of a revision are named as in wmf_content.mediawiki_content_history_v1."""

INDEX_COLUMNS: Mapping[str, ExportColumn] = {
    "wiki_id": ExportColumn(_TEXT, "The wiki's database name."),
    "first_page_id": ExportColumn(_NUMBER, "Least id of a page in the file."),
    "last_page_id": ExportColumn(_NUMBER, "Greatest id of a page in the file."),
    "file": ExportColumn(_TEXT, "The file's name below the root of the public place.", required=True),
    "bytes": ExportColumn(_NUMBER, "The file's size."),
    "xml_bytes": ExportColumn(_NUMBER, "Its size unpacked."),
    "sha1": ExportColumn(_TEXT, "SHA-1 of the file, hexadecimal."),
    "md5": ExportColumn(_TEXT, "MD5 of the file, hexadecimal."),
    "pages": ExportColumn(_NUMBER, "Pages in the file."),
    "revisions": ExportColumn(_NUMBER, "Revisions in the file."),
}
"""What the table of a published dump may say of each file; `_slice` is added."""


@dataclass(frozen=True)
class Publication:
    """What is published, and where below the connection's root.

    Args:
        kind: one of `PUBLISHED_KINDS`.
        path: a name with `{wiki_id}`, `{slice:%Y%m%d}`, `{first}` and `{last}` in it, the first two in its folders too.
        slices: the dates of the dumps; the one of a slice holds what was saved before the slice begins.
        connection: a name that the profile resolves; None: the domain's.
        revisions: `all`, or `current`: of each page the newest before the dump's date.
        text: whether texts are in it; a dump without is a stub.
        file_bytes: about how much XML, unpacked, one file holds. A page is never split.
        line: where the server stands in the contract.
    """

    kind: str
    path: str
    slices: Slices
    connection: str | None = None
    revisions: str = "all"
    text: bool = True
    file_bytes: int = DEFAULT_FILE_BYTES
    line: int = 0

    @property
    def suffix(self) -> str:
        """How the files' names end, and so how they are packed: one of `SUFFIXES`."""
        return path_suffix(self.path) or ""

    @property
    def root(self) -> str:
        """The folders of the path before the first placeholder, with a slash at the end or empty."""
        head, _, _ = self.path.partition("{")
        return head[: head.rfind("/") + 1]

    def shares_folder(self, other: Publication) -> bool:
        """Whether another of the same connection would write the checksums and index pages where this one does."""
        return all(self.folder("wiki", date) == other.folder("wiki", date) for date in _DATES)

    def folder(self, wiki_id: str, start: datetime) -> str:
        """The folder of one wiki's dump, no slash at the end."""
        return _filled(self.path.rpartition("/")[0], wiki_id, start)

    def file(self, wiki_id: str, start: datetime, first: int, last: int) -> str:
        """The name of one file below the connection's root."""
        name = _filled(self.path, wiki_id, start)
        return name.replace("{first}", str(first)).replace("{last}", str(last))

    def slice_of(self, name: str) -> datetime | None:
        """The start of the slice that a file of this publication belongs to; None for a name that is none of its."""
        match = _pattern(self.path).fullmatch(name)
        if match is None:
            return None
        values = {text: match[f"slice{number}"] for number, text in enumerate(_formats(self.path))}
        try:
            moments = {datetime.strptime(value, text) for text, value in values.items()}
        except ValueError:
            return None
        return max(moments).replace(tzinfo=self.slices.start.tzinfo)


def path_suffix(path: str) -> str | None:
    """The suffix of a path that tells how its files are packed; None for another."""
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.endswith(f".{suffix}")), None)


_DATES = (datetime(2026, 1, 1), datetime(2027, 11, 22, 13))
_SLICE = re.compile(r"\{slice:([^{}]*)\}")
_NAMES = ("wiki_id", "first", "last")


def _formats(path: str) -> list[str]:
    """The distinct date formats of a path, in order."""
    return list(dict.fromkeys(_SLICE.findall(path)))


def _filled(path: str, wiki_id: str, start: datetime) -> str:
    return _SLICE.sub(lambda match: start.strftime(match[1]), path).replace("{wiki_id}", wiki_id)


def _pattern(path: str) -> re.Pattern[str]:
    """What matches the names that a path gives; a date that comes again must be the same."""
    seen: set[str] = set()
    formats = _formats(path)

    def group(name: str, text: str) -> str:
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{text})"

    parts = []
    for part in re.split(r"(\{[^{}]*\})", path):
        inner = part[1:-1]
        if part.startswith("{slice:"):
            parts.append(group(f"slice{formats.index(inner[6:])}", r"[0-9T:_-]+"))
        elif part.startswith("{"):
            parts.append(group(inner, r"\w+" if inner == "wiki_id" else r"\d+"))
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts))


def path_fault(path: str) -> tuple[str, str] | None:
    """What is wrong with a path, fit to stand after it, and how to mend it; None for a sound one."""
    example = "Write e.g. history/{wiki_id}/{slice:%Y%m%d}/{wiki_id}-{slice:%Y%m%d}-pages-meta-history-p{first}p{last}.xml.bz2."
    return _placeholder_fault(path, example) or _place_fault(path, example)


def _placeholder_fault(path: str, example: str) -> tuple[str, str] | None:
    plain = path
    for name in _NAMES:
        plain = plain.replace(f"{{{name}}}", name)
    try:
        formats = placeholders(plain)
    except ValueError as reason:
        other = re.search(r"\{([^{}:]*)\}", plain)
        if other is not None and other[1] != "slice":
            return f"has the placeholder {{{other[1]}}}, which is none of {{wiki_id}}, {{slice:...}}, {{first}} and {{last}}", example
        return str(reason), example
    missing = [f"{{{name}}}" for name in _NAMES if f"{{{name}}}" not in path] + ([] if formats else ["{slice:%Y%m%d}"])
    return (f"lacks {' and '.join(missing)}, so that two files could have one name", example) if missing else None


def _place_fault(path: str, example: str) -> tuple[str, str] | None:
    folder = path.rpartition("/")[0]
    if path.startswith(("/", ".")) or "://" in path or ".." in path.split("/"):
        return "leaves the connection's root", "Write it relative to the root."
    if "{wiki_id}" not in folder or "{slice:" not in folder:
        return "has no folder of its own for each wiki and date, where checksums and an index could stand", example
    if "{first}" in folder or "{last}" in folder:
        return "has a folder for each range of pages", example
    if path_suffix(path) is None:
        return "does not tell how the files are packed", "End it in .xml.bz2, .xml.gz, .xml.zst or .xml."
    return None
