"""The real edits of 2015-09-12 as page_change events. The file knows who edited what, when and by how many bytes, nothing of content."""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

FILE = "recentchange/wikiticker-2015-09-12-restored.json.gz"
STREAM = "mediawiki.page_change.v1"


def stable_id(*parts: str) -> int:
    """The same positive number, below 2**53, for the same texts."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big") % (2**53 - 1) + 1


def wiki_of(channel: str) -> str:
    """`#en.wikipedia` is enwiki."""
    return channel.removeprefix("#").replace(".wikipedia", "wiki")


def page_changes(realdata: Path) -> Iterator[bytes]:
    """One event per edit, in the file's order.

    Sizes are the running sum of the page's deltas over a start that keeps them at 0 or more; only a page's first event says what that
    start was. Each revision's parent is the one before it on the page.
    """
    with gzip.open(realdata / FILE) as file:
        edits = [orjson.loads(line) for line in file]
    running: dict[tuple[str, str], int] = defaultdict(int)
    lowest: dict[tuple[str, str], int] = defaultdict(int)
    for edit in edits:
        page = edit["channel"], edit["page"]
        running[page] += edit["delta"]
        lowest[page] = min(lowest[page], running[page])
    sizes = {page: -low for page, low in lowest.items()}
    parents: dict[tuple[str, str], int] = {}
    for rev_id, edit in enumerate(edits, 1):
        page = edit["channel"], edit["page"]
        event = _event(edit, rev_id)
        event["revision"]["rev_size"] = sizes[page] + edit["delta"]
        if page in parents:
            event["revision"]["rev_parent_id"] = parents[page]
        else:
            event["prior_state"] = {"revision": {"rev_size": sizes[page]}}
        sizes[page] += edit["delta"]
        parents[page] = rev_id
        yield orjson.dumps(event)


def _event(edit: dict[str, Any], rev_id: int) -> dict[str, Any]:
    wiki, kind = wiki_of(edit["channel"]), "create" if edit["isNew"] else "edit"
    user = {"user_text": edit["user"], "is_bot": edit["isRobot"]}
    if not edit["isAnonymous"]:
        user["user_id"] = stable_id(wiki, edit["user"])
    return {
        "$schema": "/mediawiki/page/change/1.3.0",
        "meta": {"stream": STREAM, "id": f"wikiticker-{rev_id}", "dt": edit["time"], "domain": edit["channel"].removeprefix("#") + ".org"},
        "dt": edit["time"],
        "wiki_id": wiki,
        "page_change_kind": kind,
        "changelog_kind": "insert" if kind == "create" else "update",
        "page": {"page_id": stable_id(wiki, edit["page"]), "page_title": edit["page"]},
        "performer": user,
        "comment": edit["comment"],
        "revision": {
            "rev_id": rev_id,
            "rev_dt": edit["time"],
            "is_minor_edit": edit["isMinor"],
            "editor": user,
            "comment": edit["comment"],
        },
    }
