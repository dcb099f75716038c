"""Histories of pages for the product tests: random ones by hypothesis, and what is true of them in plain Python.

The reference follows the definitions in the contracts word by word, loops and dictionaries only, so that it shares nothing with the
window functions it judges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

Event = dict[str, Any]
START = datetime(2026, 1, 5, 22, tzinfo=UTC)  # two hours before midnight, so that histories cross a day

USERS: tuple[dict[str, Any] | None, ...] = (
    {"user_id": 7, "user_text": "Ada", "is_bot": False, "is_temp": False},
    {"user_id": 8, "user_text": "Grace", "is_bot": False, "is_temp": False},
    {"user_id": 9, "user_text": "TidyBot", "is_bot": True, "is_temp": False},
    {"user_id": 10, "user_text": "~2026-1", "is_bot": False, "is_temp": True},
    {"user_text": "192.0.2.7"},
    {"user_id": 0, "user_text": "2001:db8::1", "is_bot": False},
    None,
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of up to three pages in any order: edits with few distinct contents, ties in time, redeliveries, and other kinds of change."""
    events: list[Event] = []
    for page in range(1, draw(st.integers(1, 3)) + 1):
        wiki, previous, rev_id = draw(st.sampled_from(["enwiki", "dewiki"])), 0, page * 1000
        size = 0
        for step in range(draw(st.integers(1, 12))):
            rev_id += draw(st.integers(1, 3))
            dt = START + timedelta(minutes=draw(st.integers(0, 30)) * 10)
            kind = (
                draw(st.sampled_from(["edit"] * 12 + ["move", "delete", "visibility_change"]))
                if step
                else draw(st.sampled_from(["create", "edit"]))
            )
            before, size = size, draw(st.integers(0, 50))
            revision = {
                "rev_id": rev_id,
                "rev_parent_id": draw(st.sampled_from([previous, previous, previous, None, rev_id - 1])),
                "rev_dt": dt,
                "rev_sha1": draw(st.sampled_from(["a", "b", "c", None])),
                "rev_size": draw(st.sampled_from([size, size, size, None])),
                "is_minor_edit": draw(st.sampled_from([True, False, None])),
                "is_editor_visible": draw(st.sampled_from([True, True, True, None, False])),
            }
            event = {
                "wiki_id": wiki,
                "dt": dt,
                "page_change_kind": kind,
                "page": {"page_id": page, "page_title": f"Page_{page}_{step // 4}", "namespace_id": 0},
                "performer": draw(st.sampled_from(USERS)),
                "revision": revision,
                "prior_state": draw(st.sampled_from([None, {"revision": {"rev_size": before}}])) if kind != "create" else None,
                "meta": {
                    "id": f"{page}-{rev_id}-{step}",
                    "dt": dt,
                    "domain": draw(st.sampled_from(["en.wikipedia.org"] * 9 + ["canary", None])),
                },
            }
            events.append(event)
            if draw(st.integers(0, 5)) == 0:  # the same revision again, received later and with another summary of it
                later = {**event["meta"], "id": event["meta"]["id"] + "-again", "dt": dt + timedelta(seconds=draw(st.integers(1, 9)))}
                events.append({**event, "meta": later, "revision": {**revision, "is_minor_edit": True}})
            previous = rev_id
    return draw(st.permutations(events))


def edits_of(events: Sequence[Event]) -> dict[tuple[str, int], list[Event]]:
    """Each page's edits in order of time and revision, every revision once as last received."""
    last: dict[tuple[str, int, int], Event] = {}
    for event in events:
        if event["page_change_kind"] not in ("create", "edit") or event["meta"]["domain"] == "canary":
            continue
        key = event["wiki_id"], event["page"]["page_id"], event["revision"]["rev_id"]
        if key not in last or last[key]["meta"]["dt"] < event["meta"]["dt"]:
            last[key] = event
    pages: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for (wiki, page, _), event in sorted(last.items(), key=lambda item: (item[1]["dt"], item[0][2])):
        pages[wiki, page].append(event)
    return pages


def reverts_of(edits: Sequence[Event]) -> list[tuple[int, int]]:
    """(place of the restored edit, place of the reverting edit) within a page's edits, for those that undid something."""
    found = []
    for place, event in enumerate(edits):
        revision = event["revision"]
        same = [i for i in range(place) if edits[i]["revision"]["rev_sha1"] == revision["rev_sha1"]]
        if revision["rev_sha1"] is None or not same:
            continue
        restored = same[-1]
        if edits[restored]["revision"]["rev_id"] != (revision["rev_parent_id"] or 0) and place - restored > 1:
            found.append((restored, place))
    return found


def editor_of(event: Event) -> tuple[str, bool] | None:
    """Who edited and whether anonymously, None where hidden."""
    user = event["performer"]
    if user is None or event["revision"]["is_editor_visible"] is False:
        return None
    if user.get("user_id"):
        return f"id {user['user_id']}", bool(user.get("is_temp"))
    return f"name {user['user_text']}", True


def statistics(events: Sequence[Event]) -> dict[tuple[str, int, date], dict[str, Any]]:
    """The facts of activity/edit_statistics by wiki, page and day."""
    sizes = sizes_of(events)
    rows: dict[tuple[str, int, date], dict[str, Any]] = {}
    for (wiki, page), edits in edits_of(events).items():
        undone = {place for restored, reverting in reverts_of(edits) for place in range(restored + 1, reverting)}
        for place, event in enumerate(edits):
            zero = dict.fromkeys(
                ("edits", "anonymous", "unattributed", "bot", "minor", "reverted", "bytes_added", "bytes_removed", "unsized"), 0
            )
            row = rows.setdefault((wiki, page, event["dt"].date()), zero | {"editors": set()})
            editor, change = editor_of(event), sizes[wiki, page, event["revision"]["rev_id"]]
            row["page_title"] = event["page"]["page_title"]
            row["edits"] += 1
            row["reverted"] += place in undone
            row["minor"] += bool(event["revision"]["is_minor_edit"])
            row["bot"] += bool((event["performer"] or {}).get("is_bot"))
            row["unsized"] += change is None
            row["bytes_added"] += max(change or 0, 0)
            row["bytes_removed"] += max(-(change or 0), 0)
            if editor is None:
                row["unattributed"] += 1
            else:
                row["anonymous"] += editor[1]
                row["editors"].add(editor[0])
    return {key: row | {"editors": len(row["editors"])} for key, row in rows.items()}


def sizes_of(events: Sequence[Event]) -> dict[tuple[str, int, int], int | None]:
    """Change in bytes of each revision; a move's revision is no edit but gives its size to those based on it."""
    last: dict[tuple[str, int, int], Event] = {}
    for event in events:
        if event["page_change_kind"] not in ("create", "edit", "move") or event["meta"]["domain"] == "canary":
            continue
        key = event["wiki_id"], event["page"]["page_id"], event["revision"]["rev_id"]
        if key not in last or last[key]["meta"]["dt"] < event["meta"]["dt"]:
            last[key] = event
    changes: dict[tuple[str, int, int], int | None] = {}
    before: dict[tuple[str, int], Event] = {}
    for (wiki, page, rev_id), event in sorted(last.items(), key=lambda item: (item[1]["dt"], item[0][2])):
        size, parent = event["revision"]["rev_size"], event["revision"]["rev_parent_id"] or 0
        named = last.get((wiki, page, parent))
        candidates = [
            (event["prior_state"] or {}).get("revision", {}).get("rev_size"),
            named["revision"]["rev_size"] if named else None,
            before[wiki, page]["revision"]["rev_size"] if not parent and (wiki, page) in before else None,
            0 if event["page_change_kind"] == "create" else None,
        ]
        base = next((candidate for candidate in candidates if candidate is not None), None)
        changes[wiki, page, rev_id] = None if size is None or base is None else size - base
        before[wiki, page] = event
    return changes
