"""What `mediawiki/history` and `mediawiki/history_reduced` are, in plain Python: rows of the input tables in, rows of the results out.

Written from the wording alone, the contracts' and the rules' of docs/products/history.md, whose numbers stand here too. Loops and
dictionaries, one step after the other, no thought of speed: to be read as the definition, and to judge the queries by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from itertools import pairwise
from typing import Any

Row = dict[str, Any]
Inputs = Mapping[str, Sequence[Row]]

PARTS = ("text", "comment", "user")
ACTOR = (
    "event_user_id", "event_user_central_id", "event_user_text_historical", "event_user_text", "event_user_is_bot_by_historical",
    "event_user_is_anonymous", "event_user_is_temporary", "event_user_is_permanent", "event_user_registration_timestamp",
    "event_user_revision_count", "event_user_groups_historical", "event_user_is_cross_wiki",
)  # fmt: skip
OF_USER = (
    "user_id", "user_central_id", "user_text_historical", "user_text", "user_is_anonymous", "user_is_temporary", "user_is_permanent",
    "user_groups_historical", "user_is_bot_by_historical", "user_blocks_historical", "user_is_created_by_self",
    "user_is_created_by_system", "user_is_created_by_peer",
)  # fmt: skip
OF_PAGE = (
    "page_id", "page_title_historical", "page_title", "page_namespace_historical", "page_namespace_is_content_historical",
    "page_namespace", "page_namespace_is_content", "page_is_deleted", "page_merged_into_page_id",
)  # fmt: skip
OF_REVISION = (
    "revision_id", "revision_parent_id", "revision_minor_edit", "revision_text_bytes", "revision_text_bytes_diff", "revision_text_sha1",
    "revision_deleted_parts", "revision_is_identity_reverted", "revision_first_identity_reverting_revision_id",
    "revision_seconds_to_identity_revert", "revision_is_identity_revert", "revision_is_deleted_by_page_deletion", "revision_tags",
)  # fmt: skip
COLUMNS = (
    "source", "wiki_id", "event_entity", "event_type", "event_key", "event_timestamp", *ACTOR, *OF_USER, *OF_PAGE, *OF_REVISION,
    "event_meta_id", "row_update_dt",
)  # fmt: skip
CREATED_BY = ("user_is_created_by_self", "user_is_created_by_system", "user_is_created_by_peer")


def history(inputs: Inputs) -> list[Row]:
    """Rows of `mediawiki/history`, in no order."""
    world = World(inputs)
    rows = [*revision_rows(world), *page_rows(world), *user_rows(world)]
    return [finished(world, row) for row in rows if row["wiki_id"] in world.hostnames]


# --- What there is to go by: rules 1 and 2.


class World:
    """The input rows that are used, by what they are about."""

    def __init__(self, inputs: Inputs) -> None:
        self.snapshots = Snapshots(inputs["mediawiki/history_snapshot"])
        self.page_changes = self._used(inputs["mediawiki/page_change"], lambda event: event["dt"])
        self.edits = self._used(
            (event for event in inputs["mediawiki/page_change"] if event["page_change_kind"] in ("create", "edit")),
            lambda event: event["revision"]["rev_dt"],
        )
        self.visibilities = self._used(inputs["mediawiki/revision_visibility_change"], lambda event: event["meta"]["dt"])
        self.tags = self._used(inputs["mediawiki/revision_tags_change"], lambda event: event["meta"]["dt"])
        self.user_changes = self._used(inputs["mediawiki/user_change"], lambda event: event["dt"])
        self.all_blocks = [
            event for event in inputs["mediawiki/user_blocks_change"] if event["meta"]["domain"] != "canary" and (event["user_id"] or 0) > 0
        ]
        self.blocks = self._used(self.all_blocks, lambda event: event["meta"]["dt"])
        newest = max((row["_slice"] for row in inputs["mediawiki/project_namespace_map"]), default=None)
        spaces = [row for row in inputs["mediawiki/project_namespace_map"] if row["_slice"] == newest]
        self.namespaces = {(row["dbname"], row["namespace"]): row for row in spaces}
        self.hostnames = {
            wiki: min(row["hostname"] for row in spaces if row["dbname"] == wiki) for wiki in {row["dbname"] for row in spaces}
        }
        self.accounts = accounts(self)
        self.pages = pages(self)

    def _used(self, events: Iterable[Row], happened: Any) -> list[Row]:
        """Rule 1: no canaries; rule 2: nothing that happened before the wiki's snapshot ends."""
        used = []
        for event in events:
            holds_until = self.snapshots.holds_until.get(wiki_of(event))
            if event["meta"]["domain"] != "canary" and (holds_until is None or happened(event) >= holds_until):
                used.append(event)
        return used


class Snapshots:
    """Of each wiki the rows of the newest slice that has any, as far as they count."""

    def __init__(self, rows: Sequence[Row]) -> None:
        newest: dict[str, date] = {}
        for row in rows:
            newest[row["wiki_id"]] = max(row["_slice"], newest.get(row["wiki_id"], row["_slice"]))
        self.holds_until = {wiki: month_after(slice_) for wiki, slice_ in newest.items()}
        self.landed: dict[str, datetime] = {}
        self.rows: dict[str, list[Row]] = {"revision": [], "page": [], "user": []}
        last: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            wiki, entity = row["wiki_id"], row["event_entity"]
            if row["_slice"] != newest[wiki]:
                continue
            self.landed[wiki] = max(row["_landed_at"], self.landed.get(wiki, row["_landed_at"]))
            about = {"revision": ("revision_id", "page_id"), "page": ("page_id",), "user": ("user_id",)}[entity]
            if row["event_timestamp"] >= self.holds_until[wiki] or any(row[name] is None for name in about):
                continue
            key = (wiki, entity, row["revision_id"]) if entity == "revision" else (wiki, entity, row[about[0]], row["event_key"])
            order = (row["_landed_at"], row["_file_name"].encode(), least_if_null(row["_line"]))
            if key not in last or order > last[key]["order"]:
                last[key] = row | {"order": order}
        for (_, entity, *_), row in last.items():
            self.rows[entity].append(row)


def wiki_of(event: Row) -> str:
    return str(event.get("wiki_id") or event["database"])


def month_after(month: date) -> datetime:
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def least_if_null(value: Any) -> tuple[bool, Any]:
    """Something to order by: null counts as least, texts by their bytes."""
    return (value is not None, value.encode() if isinstance(value, str) else value)


def received(event: Row) -> datetime:
    return event["meta"]["dt"] or event["dt"]  # type: ignore[no-any-return]


def receipt(event: Row) -> tuple[Any, ...]:
    """The order of rule 3: of several events that say the same, the one with the greatest counts."""
    happened = event.get("dt") or event["meta"]["dt"]
    return (received(event), happened, least_if_null(event["meta"]["id"]), *place(event))


def place(event: Row) -> tuple[Any, ...]:
    return (least_if_null(event["_topic"]), least_if_null(event["_partition"]), least_if_null(event["_offset"]))


def last_received(events: Sequence[Row]) -> Row:
    return max(events, key=receipt)


def bare_title(page: Row) -> Any:
    """Without the namespace's name."""
    title, namespace = page["page_title"], page["namespace_id"]
    if not namespace or title is None or title.find(":") < 1:
        return title
    return title[title.find(":") + 1 :]


def actor(user: Row | None) -> Row:
    """Who did something, of an entity `user` of the newer schemas or a `performer` of the older ones."""
    user = user or {}
    return {
        "event_user_id": user.get("user_id") or None,
        "event_user_central_id": user.get("user_central_id"),
        "event_user_text_historical": user.get("user_text"),
        "event_user_is_temporary": user.get("is_temp"),
        "event_user_registration_timestamp": user.get("registration_dt", user.get("user_registration_dt")),
        "event_user_revision_count": user.get("edit_count", user.get("user_edit_count")),
        "event_user_groups_historical": user.get("groups", user.get("user_groups")),
    }


# --- Pages: rules 4 and 6.


def pages(world: World) -> dict[tuple[str, int], list[Row]]:
    """Rows of each page's events."""
    told: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for event in world.page_changes:
        if event["page_change_kind"] not in ("create", "move", "delete", "undelete") or event["meta"]["id"] is None:
            continue
        page_id, prior = event["page"]["page_id"], ((event["prior_state"] or {}).get("page") or {}).get("page_id")
        told[event["wiki_id"], page_id, event["meta"]["id"]].append(event)
        if event["page_change_kind"] == "undelete" and prior is not None and prior != page_id:
            told[event["wiki_id"], prior, event["meta"]["id"]].append(event)
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for (wiki, page_id, meta_id), events in told.items():
        event = last_received(events)
        merged = event["page"]["page_id"] != page_id
        kind = {"create": "create-page", "undelete": "restore"}.get(event["page_change_kind"], event["page_change_kind"])
        found[wiki, page_id].append(
            {
                "source": "events",
                "wiki_id": wiki,
                "event_entity": "page",
                "event_type": "merge" if merged else kind,
                "event_key": f"{page_id}-{meta_id}",
                "event_timestamp": event["dt"],
                **actor(event["performer"]),
                "page_id": page_id,
                "page_title_historical": bare_title(event["page"]),
                "page_namespace_historical": event["page"]["namespace_id"],
                "event_meta_id": meta_id,
                "into": event["page"]["page_id"] if merged else None,
                "received": received(event),
                "ingested": max(one["_ingested_at"] for one in events),
            }
        )
    for row in world.snapshots.rows["page"]:
        key = f"{row['page_id']}-snapshot-{row['event_key']}"
        own = {name: row[name] for name in ("page_id", "page_title_historical", "page_namespace_historical")}
        found[row["wiki_id"], row["page_id"]].append(
            from_snapshot(row, key) | own | {"into": None, "received": None, "ingested": row["_landed_at"]}
        )
    return found


def from_snapshot(row: Row, key: str) -> Row:
    """What the rows of every entity take from a snapshot's row."""
    names = ("wiki_id", "event_entity", "event_type", "event_timestamp", *actor(None))
    own = {"source": "snapshot", "event_key": key} | {name: row[name] for name in names}
    return own | {"event_user_id": row["event_user_id"] or None}


def latest_of_page(rows: Sequence[Row]) -> Row | None:
    """L of rule 6."""
    return max(rows, key=lambda row: (row["event_timestamp"], least_if_null(row["received"]), row["event_key"].encode()), default=None)


def page_rows(world: World) -> Iterable[Row]:
    for rows in world.pages.values():
        latest = latest_of_page(rows)
        assert latest is not None
        for row in rows:
            yield row | {
                "page_title": latest["page_title_historical"],
                "page_namespace": latest["page_namespace_historical"],
                "page_is_deleted": row["event_type"] == "delete",
                "page_merged_into_page_id": latest["into"],
                "row_update_dt": max(row["ingested"], latest["ingested"]),
            }


# --- Accounts: rules 5, 7 and 8.


def accounts(world: World) -> dict[tuple[str, int], list[Row]]:
    """Rows of each account's events."""
    told: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for event in world.user_changes:
        if event["meta"]["id"] is not None and event["user_change_kind"] in ("create", "rename"):
            told[event["wiki_id"], event["user"]["user_id"], event["meta"]["id"]].append(event)
    for event in world.blocks:
        if event["meta"]["id"] is not None:
            told[event["database"], event["user_id"], event["meta"]["id"]].append(event)
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for (wiki, user_id, meta_id), events in told.items():
        changes = [event for event in events if "user_change_kind" in event]
        row = changed(last_received(changes)) if changes else blocked(last_received(events))
        found[wiki, user_id].append(
            row
            | {"source": "events", "wiki_id": wiki, "event_entity": "user", "event_key": f"{user_id}-{meta_id}", "user_id": user_id}
            | {"event_meta_id": meta_id, "ingested": max(event["_ingested_at"] for event in events)}
        )
    for row in world.snapshots.rows["user"]:
        names = ("user_id", "user_central_id", "user_text_historical", "user_is_temporary", "user_groups_historical")
        own = {name: row[name] for name in (*names, "user_blocks_historical", *CREATED_BY)}
        key = f"{row['user_id']}-snapshot-{row['event_key']}"
        found[row["wiki_id"], row["user_id"]].append(from_snapshot(row, key) | own | {"ingested": row["_landed_at"]})
    return found


def changed(event: Row) -> Row:
    """The row of an account that was created or renamed."""
    user, created = event["user"], event["user_change_kind"] == "create"
    by_system = event["is_autocreate"] is True
    by_self = not by_system and (event["performer"] or {}).get("user_id") == user["user_id"]
    by = (by_self, by_system, not by_system and not by_self) if created else (None, None, None)
    return {
        "event_type": event["user_change_kind"],
        "event_timestamp": event["dt"],
        **actor(event["performer"]),
        "user_central_id": user["user_central_id"],
        "user_text_historical": user["user_text"],
        "user_is_temporary": user["is_temp"],
        "user_groups_historical": user["groups"],
        "user_blocks_historical": None,
        **dict(zip(CREATED_BY, by, strict=True)),
    }


def blocked(event: Row) -> Row:
    """The row of an account that was blocked or unblocked."""
    kinds = ("name", "email", "user_talk", "account_create", "sitewide")
    return {
        "event_type": "alterblocks",
        "event_timestamp": event["meta"]["dt"],
        **actor(event["performer"]),
        "user_central_id": None,
        "user_text_historical": event["user_text"],
        "user_is_temporary": False,
        "user_groups_historical": event["user_groups"],
        "user_blocks_historical": [kind for kind in kinds if event["blocks"][kind]],
        **dict.fromkeys(CREATED_BY),
    }


def latest_of_account(rows: Sequence[Row]) -> Row | None:
    return max(rows, key=lambda row: (row["event_timestamp"], row["event_key"].encode()), default=None)


def blocks_of(world: World, wiki: str, user_id: int) -> list[Row]:
    """All that was ever said of an account's blocks, whatever the snapshot (rule 2)."""
    return [event for event in world.all_blocks if (event["database"], event["user_id"]) == (wiki, user_id)]


def is_hidden(blocks: Sequence[Row]) -> bool:
    """Rule 8: whether the last block hides the name."""
    last = max((event["meta"]["dt"] for event in blocks), default=None)
    return any(event["blocks"]["name"] for event in blocks if event["meta"]["dt"] == last)


def created_by(rows: Sequence[Row], name: str) -> bool | None:
    said = [row[name] for row in rows if row["event_type"] == "create" and row[name] is not None]
    return any(said) if said else None


def user_rows(world: World) -> Iterable[Row]:
    for (wiki, user_id), rows in world.accounts.items():
        blocks = blocks_of(world, wiki, user_id)
        hidden, latest = is_hidden(blocks), latest_of_account(rows)
        assert latest is not None
        ingested = [row["ingested"] for row in rows] + [event["_ingested_at"] for event in blocks]
        for row in rows:
            temporary, name = bool(row["user_is_temporary"]), row["user_text_historical"]
            yield row | {
                "user_central_id": None if hidden else row["user_central_id"],
                "user_text_historical": None if hidden else name,
                "user_text": None if hidden else latest["user_text_historical"],
                "user_is_anonymous": False,
                "user_is_temporary": temporary,
                "user_is_permanent": not temporary,
                "user_is_bot_by_historical": None if hidden or name is None else bot_by(name, row["user_groups_historical"]),
                **{by: created_by(rows, by) for by in CREATED_BY},
                "row_update_dt": max(ingested),
            }


def bot_by(name: str | None, groups: Sequence[str] | None) -> list[str]:
    """Rule 9."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    lower = "".join(character.lower() if character.isascii() else character for character in name or "")
    ends = [start + 3 for start in range(len(lower)) if lower.startswith("bot", start)]
    by_name = any(end == len(lower) or lower[end] not in letters for end in ends)
    return [*(["name"] if by_name else []), *(["group"] if "bot" in (groups or ()) else [])]


# --- Revisions: rules 3, 6, 10, 11 and 12.


def revision_rows(world: World) -> Iterable[Row]:
    of_page: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in revisions(world):
        of_page[row["wiki_id"], row["page_id"]].append(row)
    for (wiki, page_id), rows in of_page.items():
        latest = latest_of_page(world.pages.get((wiki, page_id), []))
        ordered = sorted((row for row in rows if row["sha1"] is not None), key=lambda row: (row["event_timestamp"], row["revision_id"]))
        reverts = {row["revision_id"]: reverted(ordered, place) for place, row in enumerate(ordered)}
        for row in rows:
            place = next((place for place, other in enumerate(ordered) if other is row), None)
            depends = [row["ingested"], *(ordered[other]["ingested"] for other in ([] if place is None else neighbours(ordered, place)))]
            now, uses_latest = page_now(row, latest)
            depends += [latest["ingested"]] if latest is not None and uses_latest else []
            yield row | now | with_own(row["own"], reverts.get(row["revision_id"], NO_HASH)) | {"row_update_dt": max(depends)}


def revisions(world: World) -> list[Row]:
    """Each revision once, with what is known of it alone."""
    told: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for event in world.edits:
        told[event["wiki_id"], event["revision"]["rev_id"]].append(event)
    snapshot = {(row["wiki_id"], row["revision_id"]): row for row in world.snapshots.rows["revision"]}
    rows = []
    for wiki, revision_id in {*told, *snapshot}:
        events, own = told[wiki, revision_id], snapshot.get((wiki, revision_id))
        row = snapshot_revision(own) if own else edited(last_received(events))
        statements, said = hidden_parts(world, wiki, revision_id, own)
        tags, tagged = tags_of(world, wiki, revision_id, own)
        ingested = [event["_ingested_at"] for event in (*events, *said, *tagged)] + ([own["_landed_at"]] if own else [])
        rows.append(
            row
            | {"event_key": str(revision_id), "revision_id": revision_id, "revision_deleted_parts": statements, "revision_tags": tags}
            | {"own": own, "sha1": row["revision_text_sha1"], "ingested": max(ingested)}
            | {"revision_text_sha1": None if "text" in statements else row["revision_text_sha1"]}
        )
    return rows


def edited(event: Row) -> Row:
    """The row of a revision as its event tells it."""
    revision, page = event["revision"], event["page"]
    before = ((event["prior_state"] or {}).get("revision") or {}).get("rev_size")
    if before is None and event["page_change_kind"] == "create":
        before = 0
    size = revision["rev_size"]
    return {
        "source": "events",
        "wiki_id": event["wiki_id"],
        "event_entity": "revision",
        "event_type": "create",
        "event_timestamp": revision["rev_dt"],
        **actor(revision["editor"] or event["performer"]),
        "page_id": page["page_id"],
        "page_title_historical": bare_title(page),
        "page_namespace_historical": page["namespace_id"],
        "revision_parent_id": revision["rev_parent_id"],
        "revision_minor_edit": revision["is_minor_edit"],
        "revision_text_bytes": size,
        "revision_text_bytes_diff": None if size is None or before is None else size - before,
        "revision_text_sha1": revision["rev_sha1"],
    }


def snapshot_revision(row: Row) -> Row:
    own = ("page_id", "page_title_historical", "page_namespace_historical", "revision_parent_id", "revision_minor_edit")
    own += ("revision_text_bytes", "revision_text_bytes_diff", "revision_text_sha1")
    return from_snapshot(row, "") | {name: row[name] for name in own}


def hidden_parts(world: World, wiki: str, revision_id: int, own: Row | None) -> tuple[list[str], list[Row]]:
    """Rule 10: what is hidden, and the events that have a say."""
    said = [event for event in world.visibilities if (event["database"], event["rev_id"]) == (wiki, revision_id)]
    of_page = [event for event in world.page_changes if (event["wiki_id"], event["revision"]["rev_id"]) == (wiki, revision_id)]
    flags = {"text": "is_content_visible", "comment": "is_comment_visible", "user": "is_editor_visible"}
    hidden = []
    for part in PARTS:
        statements = [(event["meta"]["dt"], event["visibility"][part]) for event in said]
        statements += [(event["dt"], event["revision"][flags[part]]) for event in of_page]
        statements = [(at, shown) for at, shown in statements if shown is not None]
        last = max((at for at, _ in statements), default=None)
        by_own = not statements and own is not None and part in (own["revision_deleted_parts"] or ())
        if by_own or any(at == last and not shown for at, shown in statements):
            hidden.append(part)
    return hidden, [*said, *of_page]


def tags_of(world: World, wiki: str, revision_id: int, own: Row | None) -> tuple[Any, list[Row]]:
    """Rule 12: the tags, and the events that have a say."""
    said = [event for event in world.tags if (event["database"], event["rev_id"]) == (wiki, revision_id)]
    if not said:
        return (own["revision_tags"] if own else None), said
    last = max(said, key=lambda event: (event["meta"]["dt"], least_if_null(event["meta"]["id"]), *place(event)))
    return last["tags"] or [], said


def page_now(row: Row, latest: Row | None) -> tuple[Row, bool]:
    """Rule 6 of a revision row, and whether the page's latest event had a part in it."""
    own = row["own"]
    if own is not None and (latest is None or latest["source"] == "snapshot"):
        first = {
            "page_title": own["page_title_historical"] if own["page_title"] is None else own["page_title"],
            "page_namespace": own["page_namespace_historical"] if own["page_namespace"] is None else own["page_namespace"],
        }
        flags = {name: bool(own[name]) for name in ("page_is_deleted", "revision_is_deleted_by_page_deletion")}
        return first | flags | {"page_merged_into_page_id": None}, False
    if latest is None:
        now = {"page_title": row["page_title_historical"], "page_namespace": row["page_namespace_historical"]}
        return now | {"page_is_deleted": False, "revision_is_deleted_by_page_deletion": False, "page_merged_into_page_id": None}, False
    deleted = latest["event_type"] == "delete" and row["event_timestamp"] <= latest["event_timestamp"]
    return {
        "page_title": latest["page_title_historical"],
        "page_namespace": latest["page_namespace_historical"],
        "page_is_deleted": deleted,
        "revision_is_deleted_by_page_deletion": deleted,
        "page_merged_into_page_id": latest["into"],
    }, True


def series_of(ordered: Sequence[Row]) -> list[list[int]]:
    """Places, in the order of a page's revisions, of those with one hash; of each series the first is its base."""
    places: dict[str, list[int]] = defaultdict(list)
    for place_, row in enumerate(ordered):
        places[row["sha1"]].append(place_)
    return list(places.values())


def reverters_of(ordered: Sequence[Row], series: Sequence[int]) -> list[int]:
    """Members that restored something: all but the base, and but those that were saved right upon the member before."""
    return [later for before, later in pairwise(series) if ordered[later]["revision_parent_id"] != ordered[before]["revision_id"]]


NO_HASH = {
    "revision_is_identity_reverted": None,
    "revision_first_identity_reverting_revision_id": None,
    "revision_seconds_to_identity_revert": None,
    "revision_is_identity_revert": None,
}


def reverted(ordered: Sequence[Row], place: int) -> Row:
    """Rule 11 for the revision at a place of its page."""
    is_revert, by = False, []
    for series in series_of(ordered):
        reverters = reverters_of(ordered, series)
        if place in reverters:
            is_revert = True
        elif series[0] < place:
            by += [reverter for reverter in reverters if reverter > place]
    first = min(by, default=None)
    return {
        "revision_is_identity_reverted": first is not None,
        "revision_first_identity_reverting_revision_id": None if first is None else ordered[first]["revision_id"],
        "revision_seconds_to_identity_revert": None if first is None else seconds(ordered[place], ordered[first]),
        "revision_is_identity_revert": is_revert,
    }


def seconds(earlier: Row, later: Row) -> int:
    first, last = (row["event_timestamp"].replace(microsecond=0) for row in (earlier, later))
    return int((last - first).total_seconds())


def with_own(own: Row | None, found: Row) -> Row:
    """Rule 11: what a snapshot's row says of itself and what the rule finds."""
    if own is None:
        return found
    flag, *more = list(found)[:3]
    result = dict(found)
    if own[flag] or found[flag] is None:
        result[flag] = own[flag]
    if own[flag]:
        result |= {name: own[name] for name in more}
    if own["revision_is_identity_revert"] or found["revision_is_identity_revert"] is None:
        result["revision_is_identity_revert"] = own["revision_is_identity_revert"]
    return result


def neighbours(ordered: Sequence[Row], place: int) -> set[int]:
    """Rule 13: the places of those revisions on which it depends whether this one is a revert or was reverted."""
    found: set[int] = set()
    for series in series_of(ordered):
        ends = [series[0], *reverters_of(ordered, series)]
        stretches = list(zip(ends, [*ends[1:], series[-1]], strict=True))
        for begin, end in stretches:
            if begin < place <= end:
                found |= {series[0], begin, *(member for member in series if begin < member <= end)}
    return found


# --- All rows: rules 6 to 9 and 13.


def finished(world: World, row: Row) -> Row:
    """The row with what all entities have in common, and null where a column is not about its entity."""
    row = dict.fromkeys(COLUMNS) | row
    wiki = row["wiki_id"]
    for suffix in ("_historical", ""):
        space = world.namespaces.get((wiki, row[f"page_namespace{suffix}"]))
        row[f"page_namespace_is_content{suffix}"] = space["namespace_is_content"] == 1 if space else None
    depends = [row["row_update_dt"], *([world.snapshots.landed[wiki]] if wiki in world.snapshots.landed else [])]
    blocks: list[Row] = []
    if "user" not in (row["revision_deleted_parts"] or ()):
        user_id, name = row["event_user_id"], row["event_user_text_historical"]
        rows = world.accounts.get((wiki, user_id), []) if user_id is not None else []
        blocks = blocks_of(world, wiki, user_id) if user_id is not None else []
        row["event_user_text"] = name
        if blocks or any(one["event_type"] in ("rename", "alterblocks") for one in rows):
            latest = latest_of_account(rows)
            row["event_user_text"] = latest["user_text_historical"] if latest else name
            depends += [one["ingested"] for one in rows] + [event["_ingested_at"] for event in blocks]
        known = user_id is not None or name is not None
        temporary = bool(row["event_user_is_temporary"])
        row |= {
            "event_user_is_bot_by_historical": bot_by(name, row["event_user_groups_historical"]) if known else None,
            "event_user_is_anonymous": user_id is None if known else None,
            "event_user_is_temporary": temporary if known else None,
            "event_user_is_permanent": user_id is not None and not temporary if known else None,
            "event_user_is_cross_wiki": None if name is None else ">" in name and user_id is None and not temporary,
        }
    if "user" in (row["revision_deleted_parts"] or ()) or is_hidden(blocks):
        row |= dict.fromkeys(ACTOR)
    row["row_update_dt"] = max(depends)
    return {name: row[name] for name in COLUMNS}


# --- The reduced table: rule 14.


def history_reduced(inputs: Inputs) -> list[Row]:
    """Rows of `mediawiki/history_reduced`, in no order."""
    world = World(inputs)
    standing = [
        row
        for row in history(inputs)
        if not (row["event_entity"] == "revision" and row["revision_is_deleted_by_page_deletion"])
        and not (row["event_entity"] == "page" and row["page_is_deleted"])
    ]
    events = [reduced(world, row) for row in standing]
    edits = [(row, event) for row, event in zip(standing, events, strict=True) if row["event_entity"] == "revision"]
    return [*events, *digests(edits, "user", editor_of), *digests(edits, "page", lambda row: row["page_id"])]


def reduced(world: World, row: Row) -> Row:
    wiki, size = row["wiki_id"], row["revision_text_bytes_diff"]
    space = (world.namespaces.get((wiki, row["page_namespace"])) or {}).get("namespace_canonical_name")
    title = row["page_title"]
    content = row["page_namespace_is_content"]
    content = row["page_namespace_is_content_historical"] if content is None else content
    created = row["event_entity"] == "user" and row["event_type"] == "create" and row["user_is_created_by_self"]
    tags = {"revert": row["revision_is_identity_revert"], "reverted": row["revision_is_identity_reverted"], "self_created": created}
    return {
        "project": world.hostnames[wiki].replace("www.", "").replace(".org", ""),
        **{name: row[name] for name in ("event_entity", "event_type", "event_timestamp")},
        "user_text": row["event_user_text"],
        "user_type": user_type(row),
        "page_title": f"{space}:{title}" if space and title is not None else title,
        "page_namespace": row["page_namespace"],
        "page_type": "content" if content else "non_content",
        "other_tags": [tag for tag, holds in tags.items() if holds],
        "text_bytes_diff": size,
        "text_bytes_diff_abs": None if size is None else abs(size),
        "revisions": 1 if row["event_entity"] == "revision" else 0,
        "user_id": row["event_user_id"],
        "user_central_id": row["event_user_central_id"],
        "page_id": row["page_id"],
    }


def user_type(row: Row) -> str:
    bot_by = row["event_user_is_bot_by_historical"] or ()
    if row["event_user_is_anonymous"] or row["event_user_is_temporary"]:
        return "anonymous"
    return "group_bot" if "group" in bot_by else "name_bot" if "name" in bot_by else "user"


def editor_of(row: Row) -> Any:
    return ("id", row["event_user_id"]) if row["event_user_id"] is not None else ("name", row["event_user_text"])


def digests(edits: Sequence[tuple[Row, Row]], entity: str, counted: Any) -> list[Row]:
    """Four sets of digests per day and per month: one for each choice of what is told apart."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row, event in edits:
        day = datetime.combine(event["event_timestamp"].astimezone(UTC).date(), time(), UTC)
        for kind, start in (("daily_digest", day), ("monthly_digest", day.replace(day=1))):
            for user_type_ in (event["user_type"], "all"):
                for page_type in (event["page_type"], "all"):
                    groups[row["wiki_id"], event["project"], kind, start, user_type_, page_type, counted(row)].append(event)
    found = []
    for (_, project, kind, start, user_type_, page_type, _), events in groups.items():
        sizes = [event["text_bytes_diff"] for event in events if event["text_bytes_diff"] is not None]
        nothing: Row = dict.fromkeys(("user_text", "page_title", "page_namespace", "user_id", "user_central_id", "page_id"))
        found.append(
            nothing
            | {"project": project, "event_entity": entity, "event_type": kind, "event_timestamp": start}
            | {"user_type": user_type_, "page_type": page_type, "other_tags": [], "revisions": len(events)}
            | {
                "text_bytes_diff": sum(sizes) if sizes else None,
                "text_bytes_diff_abs": sum(abs(size) for size in sizes) if sizes else None,
            }
        )
    return found
