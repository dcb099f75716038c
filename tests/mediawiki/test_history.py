"""Each rule of docs/products/history.md by a small case of its own: a wiki per case, all of them computed at once."""

from __future__ import annotations

import json
import random
import uuid
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from demo.histories import BLOCKS, PAGE_CHANGE, SCHEMAS, TAGS, USER_CHANGE, VISIBILITY, Event, generate
from tests.mediawiki.computed import Bare, Rows, arrived, landed

DAY = datetime(2026, 2, 3, tzinfo=UTC)
ARRIVAL = datetime(2026, 3, 1, tzinfo=UTC)
SNAPSHOT, MAP = "mediawiki/history_snapshot", "mediawiki/project_namespace_map"
ADA, BOB, ADDRESS = {"user_id": 1, "user_text": "Ada"}, {"user_id": 2, "user_text": "Bob"}, {"user_text": "198.51.100.7"}


def at(hours: float) -> str:
    return (DAY + timedelta(hours=hours)).isoformat()


def envelope(stream: str, when: float, **more: Any) -> Event:
    return {
        "$schema": SCHEMAS[stream],
        "meta": {"stream": stream, "id": str(uuid.uuid4()), "dt": at(when), "domain": "w.example.org"} | more,
    }


def saved(
    wiki: str, revision: int, when: float, sha1: str | None = None, *, page: int = 1, by: Event | None = None, **more: Any
) -> tuple[str, Event]:
    """An edit; the parent is the revision before by number, the size a hundred bytes a revision, unless told."""
    told = {"rev_id": revision, "rev_dt": at(when), "rev_parent_id": revision - 1, "rev_size": 100 * revision, "editor": by or ADA}
    event = envelope(PAGE_CHANGE, when, **more.pop("meta", {})) | {
        "wiki_id": wiki, "dt": at(when), "page_change_kind": more.pop("kind", "edit"), "changelog_kind": "update",
        "page": {"page_id": page, "page_title": more.pop("title", "A"), "namespace_id": more.pop("namespace", 0)},
    }  # fmt: skip
    prior = {"prior_state": more.pop("prior")} if "prior" in more else {}
    return PAGE_CHANGE, event | {"revision": told | ({"rev_sha1": sha1} if sha1 else {}) | more} | prior


def page_event(
    wiki: str, kind: str, when: float, *, page: int = 1, title: str = "A", by: Event | None = None, **more: Any
) -> tuple[str, Event]:
    stream, event = saved(wiki, 1, when, page=page, title=title, kind=kind, **more)
    return stream, event | {"performer": by or BOB}


def seen(wiki: str, revision: int, when: float, *, text: bool = True, comment: bool = True, user: bool = True) -> tuple[str, Event]:
    parts = {"text": text, "comment": comment, "user": user}
    return VISIBILITY, envelope(VISIBILITY, when) | of_revision(wiki, revision) | {"visibility": parts, "prior_state": {}}


def tagged(wiki: str, revision: int, when: float, *tags: str) -> tuple[str, Event]:
    return TAGS, envelope(TAGS, when) | of_revision(wiki, revision) | ({"tags": list(tags)} if tags else {})


def of_revision(wiki: str, revision: int) -> Event:
    page = {"page_id": 1, "page_title": "A", "page_namespace": 0, "page_is_redirect": False}
    return page | {"database": wiki, "rev_id": revision, "rev_timestamp": at(0)}


def blocked(wiki: str, user: Event, when: float, *, by: Event | None = None, **blocks: bool) -> tuple[str, Event]:
    all_of_it = dict.fromkeys(("name", "email", "user_talk", "account_create"), False) | blocks
    performer = {"user_groups": [], "user_is_bot": False} | (by or BOB)
    return BLOCKS, envelope(BLOCKS, when) | {"database": wiki, "blocks": all_of_it, "performer": performer} | user


def account(wiki: str, kind: str, user: Event, when: float, *, by: Event | None = None, **more: Any) -> tuple[str, Event]:
    changelog = "insert" if kind == "create" else "update"
    said = {"wiki_id": wiki, "dt": at(when), "user_change_kind": kind, "changelog_kind": changelog, "user": user}
    return USER_CHANGE, envelope(USER_CHANGE, when) | said | ({"performer": by} if by else {}) | more


def spaces(wikis: set[str]) -> pa.Table:
    """A map of every wiki but the private one, with articles and talk pages."""
    rest = ("language", "sitename", "home_page", "mw_version", "case_setting", "namespace_localized_name", "namespace_case_setting")
    rows = [
        dict.fromkeys((*rest, "snapshot"), "-")
        | {"dbname": wiki, "hostname": f"www.{wiki}.org", "namespace": number}
        | {"namespace_canonical_name": name, "namespace_is_content": content}
        for wiki in sorted(wikis - {"private"})
        for number, name, content in ((0, "", 1), (1, "Talk", 0))
    ]
    return landed(MAP, rows, date(2026, 1, 1), ARRIVAL)


def snapshot_row(wiki: str, entity: str, key: str, kind: str, when: str, **more: Any) -> dict[str, Any]:
    told = {"wiki_id": wiki, "event_entity": entity, "event_type": kind, "event_key": key, "event_timestamp": datetime.fromisoformat(when)}
    return told | {"page_id": 1, "page_title_historical": "A", "page_namespace_historical": 0} | more


OFFICE = {"name": True, "email": True, "user_talk": True, "account_create": True}
CASES: list[tuple[str, Event]] = [
    # a b a c a': 3 brings 1 back and undoes 2; 5 brings it back again, undoes 4, and not 3; 6 saves what is there
    *[saved("reverts", n, n, sha) for n, sha in enumerate(("a", "b", "a", "c", "a", "a"), 1)],
    # 4 brings 2 back, 5 brings 1 back: what 4 brought back falls with the rest, first undone counts
    *[saved("wider", n, n, sha) for n, sha in enumerate(("a", "b", "c", "b", "a"), 1)],
    # without hash, or with one that is hidden
    *[saved("nohash", n, n, sha) for n, sha in enumerate(("a", None, "b", "a"), 1)],
    seen("nohash", 3, 9, text=False),
    # of one instant the number decides; the seconds are cut
    saved("ties", 2, 1.0002, "b"),
    saved("ties", 1, 1.0002, "a"),
    saved("ties", 3, 1.0002, "a"),
    # two events of one revision: the one received last tells, also of the page; a canary tells nothing
    saved("twice", 7, 1, "a", meta={"dt": at(5)}, page=2, is_minor_edit=True),
    saved("twice", 7, 1, "b", meta={"dt": at(2)}),
    saved("twice", 7, 1, "c", meta={"dt": at(9), "domain": "canary"}),
    saved("twice", 8, 1, "c", meta={"domain": "canary"}),
    saved("twice", 7, 9, "c", meta={"domain": "canary"}, is_content_visible=False),
    # sizes
    saved("sizes", 1, 1, kind="create"),
    saved("sizes", 2, 2, prior={"revision": {"rev_id": 1, "rev_size": 130}}),
    saved("sizes", 3, 3),
    # visible, hidden, in part visible again, by both streams; within one instant hidden wins
    saved("parts", 1, 1, "a", is_editor_visible=True),
    seen("parts", 1, 2, text=False, user=False, comment=False),
    page_event("parts", "visibility_change", 3, is_editor_visible=True, is_comment_visible=False),
    saved("parts", 2, 1, "a"),
    seen("parts", 2, 2, user=False),
    seen("parts", 2, 2, text=False),
    # tags: the last list, or none left; and of a revision that nobody knows
    saved("tags", 1, 1),
    tagged("tags", 1, 5, "b", "a"),
    tagged("tags", 1, 4, "c"),
    saved("tags", 2, 1),
    tagged("tags", 2, 4, "c"),
    tagged("tags", 2, 5),
    saved("tags", 3, 1),
    tagged("tags", 99, 1, "lost"),
    # bots by name, group, both
    saved("bots", 1, 1, by={"user_id": 3, "user_text": "TidyBOT", "groups": ["bot"]}),
    saved("bots", 2, 2, by={"user_id": 4, "user_text": "Botany"}),
    saved("bots", 3, 3, by={"user_id": 5, "user_text": "Robot 2", "groups": ["sysop"]}),
    saved("bots", 4, 4, by={"user_text": "en>Robots", "groups": ["bot"]}),
    saved("bots", 5, 5, by={"user_id": 6, "user_text": "~2026-1", "is_temp": True}),
    saved("bots", 6, 6, by={"user_id": 0, "user_text": "::1"}),
    # a page is made, moved over a redirect, deleted with a second revision, restored; then one is restored into another
    page_event("pages", "create", 0),
    saved("pages", 1, 0),
    page_event("pages", "delete", 1.9, page=2, title="Talk:B:C"),
    page_event("pages", "move", 2, title="Talk:B:C", namespace=1),
    saved("pages", 2, 3, title="Talk:B:C", namespace=1),
    page_event("pages", "delete", 4, page=3, title="D"),
    saved("pages", 31, 3, page=3, title="D"),
    saved("pages", 32, 5, page=3, title="D"),
    page_event("pages", "undelete", 6, page=4, title="E", prior={"page": {"page_id": 5}}),
    saved("pages", 51, 1, page=5, title="E_old"),
    # delete and restore of the same second: what was received last
    saved("again", 1, 0),
    page_event("again", "delete", 1, meta={"dt": at(1.1)}),
    page_event("again", "undelete", 1, meta={"dt": at(1.2)}),
    # accounts: by oneself, by the system, by a peer; what comes later tells how it began
    account("users", "create", ADA, 1, by=ADA),
    account("users", "rename", ADA | {"user_text": "Ada L"}, 2, by=BOB),
    account("users", "create", BOB, 1, by=BOB, is_autocreate=True),
    account("users", "create", {"user_id": 3, "user_text": "Cy"}, 1, by=ADA),
    blocked("users", BOB, 5, email=True, sitewide=True),
    blocked("users", ADDRESS, 5, email=True),
    blocked("users", {"user_id": 9, "user_text": "Z"}, 6),
    saved("users", 1, 1.5, by=ADA),
    saved("users", 2, 9, by={"user_id": 1, "user_text": "Ada L"}),
    saved("users", 3, 9, by=BOB),
    # a name is hidden everywhere, and who hid it was renamed; another name was hidden and is shown again
    saved("hidden", 1, 1, by={"user_id": 7, "user_text": "Mallory", "user_central_id": 77}),
    account("hidden", "create", {"user_id": 7, "user_text": "Mallory", "user_central_id": 77}, 0.5),
    page_event("hidden", "move", 2, by={"user_id": 7, "user_text": "Mallory"}),
    blocked("hidden", BOB, 2, by={"user_id": 7, "user_text": "Mallory"}),
    blocked("hidden", {"user_id": 7, "user_text": "Mallory"}, 3, **OFFICE),
    account("hidden", "rename", {"user_id": 2, "user_text": "Robert"}, 4, by=BOB),
    saved("hidden", 2, 1, by={"user_id": 8, "user_text": "Vic"}),
    blocked("hidden", {"user_id": 8, "user_text": "Vic"}, 3, name=True),
    blocked("hidden", {"user_id": 8, "user_text": "Vic"}, 4, email=True),
    saved("private", 1, 1),
    page_event("private", "move", 2),
    account("private", "create", ADA, 1),
    # since a snapshot: it holds for January, later events patch it
    *[saved("based", n, when, "x") for n, when in ((1, -100), (2, -99), (3, 1))],
    seen("based", 11, 2, user=False),
    seen("based", 11, -90, text=False),
    tagged("based", 11, -90, "old"),
    tagged("based", 12, 3, "new"),
    saved("based", 13, 3, "s1"),
    page_event("based", "move", 4, title="New"),
    page_event("based", "delete", -80),
    account("based", "rename", {"user_id": 1, "user_text": "Ada N"}, 5),
    saved("based", 11, 6, "other", by=BOB),
]
OLD = "2026-01-05T00:00:00Z"
BASED = [
    snapshot_row("based", "revision", "11", "create", OLD, revision_id=11, revision_text_sha1="s1", event_user_id=1,
                 event_user_text_historical="Ada"),
    snapshot_row("based", "revision", "12", "create", "2026-01-06T00:00:00Z", revision_id=12, revision_text_sha1="s2",
                 revision_tags=["kept"], revision_is_identity_reverted=True, revision_first_identity_reverting_revision_id=5,
                 revision_deleted_parts=["comment"]),
    snapshot_row("based", "revision", "14", "create", "2026-02-01T00:00:00Z", revision_id=14),
    snapshot_row("based", "page", "log1", "create-page", OLD, page_title_historical="A"),
    snapshot_row("kept", "revision", "1", "create", OLD, revision_id=1, page_title="Moved", page_is_deleted=True),
    snapshot_row("kept", "page", "log1", "create-page", OLD),
    snapshot_row("based", "user", "log2", "create", OLD, page_id=None, user_id=1, user_text_historical="Ada", user_is_created_by_peer=True),
]  # fmt: skip


@pytest.fixture(scope="module")
def bare() -> Bare:
    return Bare()


@pytest.fixture(scope="module")
def made(bare: Bare) -> dict[str, Rows]:
    """All cases: of `reverts` and `based` an event or two come an hour after the rest."""
    wikis = {event.get("wiki_id") or event["database"] for _, event in CASES} | {"kept"}
    early = arrived([one for one in CASES if not late(one)], ARRIVAL)
    older = landed(SNAPSHOT, [BASED[0] | {"revision_text_sha1": "older"}], date(2025, 12, 1), ARRIVAL)
    files = {MAP: spaces(wikis), SNAPSHOT: pa.concat_tables([older, landed(SNAPSHOT, BASED, date(2026, 1, 1), ARRIVAL)])}
    return bare.computed([early | files, arrived([one for one in CASES if late(one)], ARRIVAL + timedelta(hours=1))])


def late(one: tuple[str, Event]) -> bool:
    return one[1].get("wiki_id") == "reverts" and one[1]["revision"]["rev_id"] == 3


@pytest.fixture(scope="module")
def of(made: dict[str, Rows]) -> Any:
    def rows(wiki: str, entity: str = "revision") -> dict[Any, dict[str, Any]]:
        name = {"revision": "revision_id", "page": "event_key", "user": "event_key"}[entity]
        return {row[name]: row for row in made["mediawiki/history"] if (row["wiki_id"], row["event_entity"]) == (wiki, entity)}

    return rows


def columns(rows: dict[Any, dict[str, Any]], *names: str) -> dict[Any, Any]:
    return {key: tuple(row[name] for name in names) if len(names) > 1 else row[names[0]] for key, row in rows.items()}


REVERT = ("revision_is_identity_revert", "revision_is_identity_reverted", "revision_first_identity_reverting_revision_id")


def test_the_first_reverter_marks_what_it_undid_and_no_op_saves_undo_nothing(of: Any) -> None:
    told = columns(of("reverts"), *REVERT)
    assert told == {
        1: (False, False, None), 2: (False, True, 3), 3: (True, False, None),
        4: (False, True, 5), 5: (True, False, None), 6: (False, False, None),
    }  # fmt: skip
    assert columns(of("reverts"), "revision_seconds_to_identity_revert")[2] == 3600
    wider = columns(of("wider"), *REVERT)
    assert wider == {1: (False, False, None), 2: (False, True, 5), 3: (False, True, 4), 4: (True, True, 5), 5: (True, False, None)}


def test_a_hidden_hash_counts_and_is_not_shown_and_none_is_no_answer(of: Any) -> None:
    assert columns(of("nohash"), *REVERT) == {1: (False, False, None), 2: (None, None, None), 3: (False, True, 4), 4: (True, False, None)}
    assert columns(of("nohash"), "revision_text_sha1") == {1: "a", 2: None, 3: None, 4: "a"}
    assert columns(of("ties"), *REVERT)[2] == (False, True, 3)
    assert columns(of("ties"), "revision_seconds_to_identity_revert") == {1: None, 2: 0, 3: None}


def test_a_late_reverter_is_seen_by_who_reads_by_row_update_dt(of: Any) -> None:
    hour = timedelta(hours=1)
    assert columns(of("reverts"), "row_update_dt") == {n: ARRIVAL + (hour if n in (2, 3, 4, 5) else 0 * hour) for n in range(1, 7)}


def test_of_two_events_of_a_revision_the_one_received_last_tells(of: Any) -> None:
    assert columns(of("twice"), "page_id", "revision_text_sha1", "revision_minor_edit") == {7: (2, "a", True)}


def test_sizes_are_held_against_what_the_event_tells(of: Any) -> None:
    assert columns(of("sizes"), "revision_text_bytes_diff") == {1: 100, 2: 70, 3: None}


def test_what_is_hidden_is_the_latest_word_on_each_part(of: Any) -> None:
    assert columns(of("parts"), "revision_deleted_parts", "event_user_text", "revision_text_sha1") == {
        1: (["text", "comment"], "Ada", None), 2: (["text", "user"], None, None),
    }  # fmt: skip
    hidden = of("parts")[2]
    assert {name for name in hidden if name.startswith("event_user_") and hidden[name] is not None} == set()


def test_tags_are_those_of_the_last_event(of: Any) -> None:
    assert columns(of("tags"), "revision_tags") == {1: ["b", "a"], 2: [], 3: None}


def test_bots_are_told_by_name_and_group_and_who_has_no_account(of: Any) -> None:
    assert columns(of("bots"), "event_user_is_bot_by_historical") == {1: ["name", "group"], 2: [], 3: ["name"], 4: ["group"], 5: [], 6: []}
    kinds = columns(of("bots"), "event_user_is_anonymous", "event_user_is_temporary", "event_user_is_permanent", "event_user_is_cross_wiki")
    assert kinds[1] == (False, False, True, False)
    assert kinds[4] == (True, False, False, True)
    assert kinds[5] == (False, True, False, False)
    assert kinds[6] == (True, False, False, False)


def test_pages_are_followed_by_id_through_moves_deletions_and_restorations(of: Any) -> None:
    now = ("page_title_historical", "page_title", "page_namespace", "page_is_deleted", "page_merged_into_page_id")
    assert columns(of("pages"), *now) == {
        1: ("A", "B:C", 1, False, None), 2: ("B:C", "B:C", 1, False, None), 31: ("D", "D", 0, True, None), 32: ("D", "D", 0, False, None),
        51: ("E_old", "E", 0, False, 4),
    }  # fmt: skip
    told = sorted((row["page_id"], row["event_type"], row["page_title"], row["page_is_deleted"]) for row in of("pages", "page").values())
    assert told == [
        (1, "create-page", "B:C", False), (1, "move", "B:C", False), (2, "delete", "Talk:B:C", True), (3, "delete", "D", True),
        (4, "restore", "E", False), (5, "merge", "E", False),
    ]  # fmt: skip
    assert columns(of("again"), "page_is_deleted", "revision_is_deleted_by_page_deletion") == {1: (False, False)}


def test_accounts_are_called_what_they_are_called_now_and_say_who_made_them(of: Any) -> None:
    told = sorted(
        (row["user_id"], row["event_type"], row["user_text_historical"], row["user_text"], row["user_blocks_historical"],
         [how for how in ("self", "system", "peer") if row[f"user_is_created_by_{how}"]]) for row in of("users", "user").values()
    )  # fmt: skip
    assert told == [
        (1, "create", "Ada", "Ada L", None, ["self"]), (1, "rename", "Ada L", "Ada L", None, ["self"]),
        (2, "alterblocks", "Bob", "Bob", ["email", "sitewide"], ["system"]), (2, "create", "Bob", "Bob", None, ["system"]),
        (3, "create", "Cy", "Cy", None, ["peer"]), (9, "alterblocks", "Z", "Z", [], []),
    ]  # fmt: skip
    assert columns(of("users"), "event_user_text_historical", "event_user_text") == {
        1: ("Ada", "Ada L"),
        2: ("Ada L", "Ada L"),
        3: ("Bob", "Bob"),
    }


def test_a_hidden_name_shows_nowhere_and_one_shown_again_everywhere(made: dict[str, Rows], of: Any) -> None:
    for product in ("mediawiki/history", "mediawiki/history_reduced"):
        assert "Mallory" not in json.dumps(made[product], default=str)
    assert columns(of("hidden"), "event_user_id", "event_user_text", "event_user_text_historical") == {
        1: (None, None, None),
        2: (8, "Vic", "Vic"),
    }
    own = [row for row in of("hidden", "user").values() if row["user_id"] == 7]
    assert [(row["user_text"], row["user_text_historical"], row["user_central_id"]) for row in own] == [(None, None, None)] * 2
    assert {row["event_user_text"] for row in own} == {None, "Robert"}


def test_private_wikis_and_canaries_are_not_in_it(made: dict[str, Rows]) -> None:
    assert not [row for row in made["mediawiki/history"] if row["wiki_id"] == "private"]
    assert not [row for row in made["mediawiki/history_reduced"] if row["project"] == "private"]
    assert [row["event_key"] for row in made["mediawiki/history"] if row["wiki_id"] == "twice"] == ["7"]


def test_a_snapshot_holds_until_its_month_ends_and_later_events_patch_it(of: Any) -> None:
    found = of("based")
    assert columns(found, "source") == {11: "snapshot", 12: "snapshot", 3: "events", 13: "events"}
    assert columns(found, "page_title_historical", "page_title", "page_is_deleted") == dict.fromkeys(found, ("A", "New", False))
    assert columns(found, *REVERT) == {
        3: (False, True, 13), 11: (False, False, None), 12: (False, True, 5), 13: (True, False, None),
    }  # fmt: skip
    assert columns(found, "revision_deleted_parts", "revision_tags") == {
        3: ([], None), 11: (["user"], None), 12: (["comment"], ["new"]), 13: ([], None),
    }  # fmt: skip
    assert found[11]["revision_text_sha1"] == "s1"
    assert columns(of("kept"), "page_title", "page_is_deleted") == {1: ("Moved", True)}
    users = sorted(
        (row["source"], row["event_type"], row["user_text"], row["user_is_created_by_peer"]) for row in of("based", "user").values()
    )
    assert users == [("events", "rename", "Ada N", True), ("snapshot", "create", "Ada N", True)]
    assert {row["event_type"]: row["page_title"] for row in of("based", "page").values()} == {"create-page": "New", "move": "New"}


def test_digests_count_editors_and_pages_of_a_day_and_a_month(made: dict[str, Rows]) -> None:
    rows = [row for row in made["mediawiki/history_reduced"] if row["project"] == "bots"]
    assert sorted(row["user_type"] for row in rows if row["event_entity"] == "revision") == [
        "anonymous", "anonymous", "anonymous", "group_bot", "name_bot", "user",
    ]  # fmt: skip
    digests: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for row in rows:
        if row["event_type"].endswith("digest"):
            digests[row["event_entity"], row["event_type"], row["user_type"], row["page_type"]].append(row["revisions"])
    for period in ("daily_digest", "monthly_digest"):
        assert digests["user", period, "all", "all"] == digests["user", period, "all", "content"] == [1] * 6
        assert digests["user", period, "anonymous", "all"] == [1] * 3
        assert digests["page", period, "all", "all"] == [6] and digests["page", period, "anonymous", "content"] == [3]
    deleted = [row for row in made["mediawiki/history_reduced"] if row["project"] == "pages"]
    assert sorted(row["event_type"] for row in deleted if row["event_entity"] == "page" and not row["event_type"].endswith("digest")) == [
        "create-page", "merge", "move", "restore",
    ]  # fmt: skip
    assert sum(row["revisions"] for row in deleted if row["event_entity"] == "revision") == 4
    wider = [row for row in made["mediawiki/history_reduced"] if (row["project"], row["event_entity"]) == ("wider", "revision")]
    assert sorted(row["other_tags"] for row in wider) == [[], ["revert"], ["revert", "reverted"], ["reverted"], ["reverted"]]


def lives(batches: list[list[tuple[str, Event]]]) -> list[dict[str, pa.Table]]:
    """Batches as they arrive, an hour apart, the first one with the map of the demo's wikis."""
    commits = [arrived(batch, ARRIVAL + timedelta(hours=number)) for number, batch in enumerate(batches)]
    wikis = {event.get("wiki_id") or event["database"] for batch in batches for _, event in batch}
    return [commits[0] | {MAP: spaces(wikis)}, *commits[1:]]


def without_times(rows: Rows) -> list[str]:
    return sorted(str({name: value for name, value in row.items() if name != "row_update_dt"}) for row in rows)


def test_shuffled_doubled_and_late_events_give_the_same_tables(bare: Bare) -> None:
    events = generate(500, seed=5)
    straight = bare.computed(lives([events]))
    chance = random.Random(8)
    mixed = [*events, *chance.sample(events, 60)]
    chance.shuffle(mixed)
    other = bare.computed(lives([mixed[200:], mixed[:200]]))
    for product, rows in straight.items():
        assert rows or product == "mediawiki/history_baseline"
        assert without_times(rows) == without_times(other[product]), product


def test_a_reader_by_row_update_dt_has_the_whole_table_after_each_batch(bare: Bare) -> None:
    """The promise of rule 13: with every arrival the rows at or past it, put over what was read before, are the table."""
    events = generate(500, seed=6)
    late = random.Random(9)
    batches: list[list[tuple[str, Event]]] = [[], [], []]
    for number, event in enumerate(events):
        batches[min(2, number * 3 // len(events) + (late.random() < 0.1))].append(event)
    held: dict[tuple[str, str, str], dict[str, Any]] = {}
    reread = 0
    for count in range(1, 4):
        watermark = ARRIVAL + timedelta(hours=count - 1)
        table = bare.computed(lives(batches[:count]))["mediawiki/history"]
        news = {key_of(row): row for row in table if row["row_update_dt"] >= watermark}
        reread += len(news)
        held |= news
        assert held == {key_of(row): row for row in table}
    assert reread < 2.5 * len(held)  # and it is not the whole table each time


def key_of(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["wiki_id"], row["event_entity"], row["event_key"]


def test_a_snapshot_that_says_what_events_said_changes_nothing(bare: Bare) -> None:
    """But where rows come from, and what only events know: what is hidden, and pages under two ids."""
    only_they_know = ("undelete", "visibility_change")
    events = [
        (stream, event)
        for stream, event in generate(500, seed=7)
        if stream not in (VISIBILITY, BLOCKS) and event.get("page_change_kind") not in only_they_know
    ]
    straight = bare.computed(lives([events]))["mediawiki/history"]
    before = bare.computed(lives([[one for one in events if one[1].get("dt", one[1]["meta"]["dt"]) < "2026-02-01"]]))["mediawiki/history"]
    names = [field.name for field in landed(SNAPSHOT, [], date(2026, 1, 1), ARRIVAL).schema if not field.name.startswith("_")]
    commits = lives([events])
    commits[0][SNAPSHOT] = landed(SNAPSHOT, [{name: row[name] for name in names} for row in before], date(2026, 1, 1), ARRIVAL)
    rebased = bare.computed(commits)["mediawiki/history"]
    assert {row["source"] for row in rebased} == {"events", "snapshot"}
    own = ("source", "event_key", "event_meta_id", "row_update_dt")
    told = [sorted(str({name: value for name, value in row.items() if name not in own}) for row in rows) for rows in (straight, rebased)]
    assert told[0] == told[1]
