"""The 98 real rows of wmf_content.mediawiki_content_history_v1: as what must have told them, and as what must come of that.

Where the real table was filled anew (67 rows, on 2024-07-01) a dump told them, since then events did. What was hidden is overwritten in the
real data (`redacted`, -1), and is null here. Titles there have underscores or spaces, by where a row came from; here all have underscores.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from demo.contents import Page, Revision, Slot, change_event, export

FILLED = datetime(2024, 7, 1, tzinfo=UTC)
PARTS = {"user": "user_is_visible", "comment": "revision_comment_is_visible", "text": "revision_content_is_visible"}
TIMES = ("revision_dt", "row_content_update_dt", "row_visibility_update_dt", "row_move_update_dt")
Row = dict[str, Any]


def read(realdata: Path) -> list[Row]:
    """The rows, times as such."""
    path = realdata / "content_history" / "wmf_content_mediawiki_content_history_v1.json.gz"
    rows = [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return [{**row, **{name: datetime.fromisoformat(row[name]) for name in TIMES if row.get(name)}} for row in rows]


def dumps(rows: Iterable[Row]) -> dict[str, bytes]:
    """What the rows that were there on the day of filling were told by: a dump of each wiki."""
    told = [row for row in rows if row["row_visibility_update_dt"] == FILLED]
    return {
        f"{wiki}/{wiki}-{FILLED:%Y%m%d}-pages-meta-history.xml": "".join(export(wiki, pages)).encode()
        for wiki, pages in ((wiki, [page for _, page in found]) for wiki, found in groupby(_pages(told), key=lambda each: each[0]))
    }


def events(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What the others were told by, at the time their content was last told of."""
    made = []
    for number, row in enumerate(row for row in rows if row["row_content_update_dt"] != FILLED):
        [(wiki, page)] = _pages([row])
        event = change_event(wiki, "edit", row["row_content_update_dt"], page, page.revisions[0], number)
        if "user_text" not in row:
            event["revision"].pop("editor", None)
        if row["revision_content_is_visible"]:  # sizes and hashes as told: a mediainfo's are not those of its bytes
            slots = {role: {"slot_role": role, **slot} for role, slot in row["revision_content_slots"].items()}
            event["revision"] |= {"rev_sha1": row["revision_sha1"], "rev_size": row["revision_size"], "content_slots": slots}
        else:
            for slot in event["revision"]["content_slots"].values():
                del slot["content_format"]  # not told of either
        made.append(event)
    return made


def expected(row: Row) -> Row:
    """The row as this platform must have it."""
    shown = row["revision_content_is_visible"]
    gone = {} if shown else dict.fromkeys(("content_body", "content_sha1", "content_size"))
    untold = dict.fromkeys(("content_model", "content_format"))
    slots = {role: {**untold, **slot, **gone} for role, slot in row["revision_content_slots"].items()}
    author = row["user_is_visible"]
    return {
        **dict.fromkeys(("revision_parent_id", "row_move_update_dt")),
        **row,
        "page_title": row["page_title"].replace(" ", "_"),
        "page_redirect_target": row.get("page_redirect_target") or None,
        "user_id": row.get("user_id") if author else None,
        "user_text": row.get("user_text") if author else None,
        "revision_comment": row["revision_comment"] if row["revision_comment_is_visible"] else None,
        "revision_sha1": row["revision_sha1"] if shown else None,
        "revision_size": row["revision_size"] if shown else None,
        "revision_content_slots": slots,
    }


def _pages(rows: Iterable[Row]) -> Iterator[tuple[str, Page]]:
    """The rows' pages with these rows' revisions, in the order of wikis."""
    ordered = sorted(rows, key=lambda row: (row["wiki_id"], row["page_id"]))
    for (wiki, page_id), found in groupby(ordered, key=lambda row: (row["wiki_id"], row["page_id"])):
        revisions = list(found)
        first = revisions[0]
        title = first["page_title"].replace(" ", "_")
        yield wiki, Page(page_id, first["page_namespace_id"], title, [_revision(row) for row in revisions])


def _revision(row: Row) -> Revision:
    slots = {
        role: Slot(slot["content_body"], slot["origin_rev_id"], slot.get("content_model"), slot.get("content_format"))
        for role, slot in row["revision_content_slots"].items()
    }
    shown = {part: row[column] for part, column in PARTS.items()}
    user = (row.get("user_id"), row.get("user_text", ""))
    return Revision(
        row["revision_id"],
        row.get("revision_parent_id"),
        row["revision_dt"],
        user,
        row["revision_comment"],
        row["revision_is_minor_edit"],
        slots,
        shown,
    )
