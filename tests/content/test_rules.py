"""Each rule of content/history on a page of its own: what was told of the page, in what order it came, and what may be seen of it.

All pages are told and worked together, twice: what comes late comes after the products were made, so that it is worked by key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.contents import DUMPED, PARTS, Page, Revision, Slot, change_event, export, visibility_event
from platform_resources.config import SOURCE_ROOT
from platform_resources.engines.loading import read_transform
from platform_resources.sourcing import source
from tests.content.world import rows, tell, work
from tests.products.conftest import World, world_of  # noqa: F401 - a fixture

WIKI, OTHER = "simplewiki", "commonswiki"
SECRET = "what nobody should have written"
Seen = dict[int, dict[str, Any]]


def at(hours: float) -> datetime:
    """So long after the first dump's day begins."""
    return DUMPED + timedelta(hours=hours)


def revision(number: int, text: str = "", *, hours: float = -48, shown: Iterable[str] = PARTS, **more: Any) -> Revision:
    """A revision by Ada, saved so long after the dump's day began; only the parts `shown` may be seen."""
    slots = {"main": Slot(text or f"text {number}", number)}
    visible = {part: part in shown for part in PARTS}
    values = {"user": (7, "Ada"), "comment": f"comment {number}", "slots": slots, "shown": visible, **more}
    return Revision(number, None, at(hours), is_minor=False, **values)


@dataclass
class Story:
    """What was told of one page. `late`: from here on it came after the products were made."""

    page: int
    title: str = ""
    target: str | None = None
    wiki: str = WIKI
    changes: list[tuple[bool, dict[str, Any]]] = field(default_factory=list)
    hidings: list[tuple[bool, dict[str, Any]]] = field(default_factory=list)
    dumps: list[tuple[bool, datetime, str, Page]] = field(default_factory=list)
    late: bool = False

    def as_page(self, *revisions: Revision) -> Page:
        """The page with these revisions, whose ids no other page of the wiki has."""
        own = [replace(one, id=self.own(one.id), parent=one.parent and self.own(one.parent)) for one in revisions]
        return Page(self.page, 0, self.title or f"Page_{self.page}", own, self.target)

    def own(self, number: int) -> int:
        return self.page * 1000 + number

    def change(self, kind: str, hours: float, told: Revision) -> dict[str, Any]:
        number = self.page * 100 + len(self.changes)
        page = self.as_page(told)
        event = change_event(self.wiki, kind, at(hours), page, page.revisions[0], number)
        self.changes.append((self.late, event))
        return event

    def turn(self, hours: float, number: int, shown: Iterable[str], *, page: int | None = None) -> None:
        """Change what may be seen of the revision, which stands at another page by then if one is given."""
        here = self.as_page(revision(number, shown=shown))
        there = replace(here, id=page or self.page)
        number = self.page * 100 + len(self.hidings)
        event = visibility_event(self.wiki, at(hours), there, here.revisions[0], dict.fromkeys(PARTS, True), number)
        self.hidings.append((self.late, event))

    def dump(self, *told: Revision, days: int = 0) -> None:
        self.dumps.append((self.late, DUMPED + timedelta(days=days), self.wiki, self.as_page(*told)))


CASES: dict[str, Callable[[Story], Callable[[Seen], None]]] = {}
"""By name: tells a page's story, and returns what judges the page's rows, given by revision."""


def case(make: Callable[[Story], Callable[[Seen], None]]) -> Callable[[Story], Callable[[Seen], None]]:
    CASES[make.__name__] = make
    return make


def body(row: dict[str, Any]) -> str | None:
    text: str | None = row["revision_content_slots"]["main"]["content_body"]
    return text


def hidden(row: dict[str, Any]) -> bool:
    """Whether nothing is left of the row's author, comment and text."""
    kept = ("user_id", "user_text", "revision_comment", "revision_sha1", "revision_size")
    flags = ("user_is_visible", "revision_comment_is_visible", "revision_content_is_visible")
    slots = row["revision_content_slots"].values()
    empty = all(slot[name] is None for slot in slots for name in ("content_body", "content_sha1", "content_size"))
    return empty and not any(row[name] for name in flags) and all(row[name] is None for name in kept)


@case
def what_is_hidden_is_gone(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, SECRET, user=(7, SECRET), comment=SECRET), revision(2, hours=-47))
    story.late = True
    story.turn(1, 1, shown=())

    def judge(seen: Seen) -> None:
        assert hidden(seen[1]) and seen[1]["row_visibility_update_dt"] == at(1) and seen[1]["row_content_update_dt"] == at(0)
        assert seen[1]["revision_content_slots"]["main"]["content_model"] == "wikitext"
        assert body(seen[2]) == "text 2" and seen[2]["row_visibility_update_dt"] == at(0)

    return judge


@case
def parts_are_hidden_one_by_one(story: Story) -> Callable[[Seen], None]:
    for number, part in enumerate(PARTS, 1):
        story.change("edit", number, revision(number, hours=number))
        story.turn(10, number, shown=[one for one in PARTS if one != part])

    def judge(seen: Seen) -> None:
        assert (seen[1]["user_text"], seen[1]["revision_comment"], body(seen[1])) == (None, "comment 1", "text 1")
        assert (seen[2]["user_text"], seen[2]["revision_comment"], body(seen[2])) == ("Ada", None, "text 2")
        assert (seen[3]["user_text"], seen[3]["revision_comment"], body(seen[3])) == ("Ada", "comment 3", None)
        assert [row["row_visibility_update_dt"] for row in seen.values()] == [at(10)] * 3

    return judge


@case
def what_is_shown_again_is_back(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.turn(1, 1, shown=())
    story.late = True
    story.turn(2, 1, shown=PARTS)

    def judge(seen: Seen) -> None:
        row = seen[1]
        assert (row["user_text"], row["revision_comment"], body(row)) == ("Ada", "comment 1", "text 1")
        assert row["row_visibility_update_dt"] == at(2)

    return judge


@case
def what_a_dump_hides_comes_back_from_the_event_before_it(story: Story) -> Callable[[Seen], None]:
    story.change("create", -3, revision(1, hours=-3))
    story.dump(revision(1, hours=-3, shown=()))
    story.late = True
    story.turn(1, 1, shown=PARTS)

    def judge(seen: Seen) -> None:
        row = seen[1]
        assert (row["user_text"], row["revision_comment"], body(row)) == ("Ada", "comment 1", "text 1")
        assert (row["row_content_update_dt"], row["row_visibility_update_dt"]) == (at(0), at(1))

    return judge


@case
def what_an_event_redacted_comes_back_from_the_dump_before_it(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    event = story.change("visibility_change", 1, revision(1, shown=()))
    event["revision"]["content_slots"]["main"]["content_body"] = ""
    story.turn(2, 1, shown=PARTS)
    return lambda seen: _equal(body(seen[1]), "text 1")


@case
def a_late_hiding_does_not_undo_the_showing_after_it(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.turn(2, 1, shown=PARTS)
    story.late = True
    story.turn(1, 1, shown=())

    def judge(seen: Seen) -> None:
        assert body(seen[1]) == "text 1" and seen[1]["row_visibility_update_dt"] == at(2)

    return judge


@case
def an_event_that_does_not_tell_what_may_be_seen_shows_nothing_again(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, SECRET), revision(2))
    story.turn(1, 1, shown=())
    story.turn(1, 2, shown=())
    story.turn(1, 3, shown=())
    for number, text in ((1, SECRET), (2, ""), (3, "")):
        event = story.change("undelete", 2, revision(number, text))
        for part in ("editor", "comment", "content"):
            del event["revision"][f"is_{part}_visible"]
    story.late = True
    story.turn(3, 2, shown=PARTS)
    story.turn(3, 3, shown=PARTS)

    def judge(seen: Seen) -> None:
        assert hidden(seen[1]) and seen[1]["row_visibility_update_dt"] == at(1)
        for number in (2, 3):  # of 3 that event alone told
            assert (seen[number]["user_text"], seen[number]["revision_comment"]) == ("Ada", f"comment {number}")
            assert (body(seen[number]), seen[number]["row_visibility_update_dt"]) == (f"text {number}", at(3))

    return judge


@case
def of_two_changes_of_the_same_time_the_one_that_hides_holds(story: Story) -> Callable[[Seen], None]:
    numbers = range(1, 7)  # of each the ids of the two changes are in another order
    story.dump(*[revision(number, SECRET) for number in numbers])
    for number in numbers:
        for shown in (PARTS, ("user",), ()):
            story.turn(1, number, shown=shown)
    return lambda seen: _equal([hidden(seen[number]) for number in numbers], [True] * 6)


@case
def a_dump_goes_before_what_was_hidden_earlier(story: Story) -> Callable[[Seen], None]:
    story.turn(-1, 1, shown=())
    story.dump(revision(1))

    def judge(seen: Seen) -> None:
        assert body(seen[1]) == "text 1" and seen[1]["row_visibility_update_dt"] == at(0)

    return judge


@case
def a_late_older_dump_shows_nothing_again(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, shown=()), days=1)
    story.late = True
    story.dump(revision(1, SECRET))

    def judge(seen: Seen) -> None:
        assert hidden(seen[1])

    return judge


@case
def a_deleted_page_is_gone_whatever_comes_late(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.change("delete", 3, revision(1))
    story.late = True
    story.change("edit", 2, revision(2, hours=2))
    return lambda seen: _equal(seen, {})


@case
def a_page_deleted_before_the_dump_that_has_it_is_there(story: Story) -> Callable[[Seen], None]:
    story.change("delete", -3, revision(1))
    story.dump(revision(1))
    return lambda seen: _equal(list(seen), [1])


@case
def an_undeleted_page_is_back_with_all_it_had(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.change("edit", 2, revision(2, hours=2))
    story.change("delete", 3, revision(2, hours=2))
    story.late = True
    story.change("undelete", 4, revision(2, hours=2))

    def judge(seen: Seen) -> None:
        assert [body(row) for row in seen.values()] == ["text 1", "text 2"]
        assert [row["row_content_update_dt"] for row in seen.values()] == [at(0), at(4)]

    return judge


@case
def a_move_gives_all_revisions_the_title(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.late = True
    story.title = "Talk:Moved_page"
    story.change("move", 1, revision(2, "text 1", hours=1))

    def judge(seen: Seen) -> None:
        assert {row["page_title"] for row in seen.values()} == {"Talk:Moved_page"}
        assert [row["row_move_update_dt"] for row in seen.values()] == [at(1), at(1)]
        assert seen[1]["row_content_update_dt"] == at(0)

    return judge


@case
def of_two_moves_the_later_one_holds_though_it_came_first(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.title = "Second"
    story.change("move", 2, revision(3, hours=2))
    story.late, story.title = True, "First"
    story.change("move", 1, revision(2, hours=1))

    def judge(seen: Seen) -> None:
        assert {row["page_title"] for row in seen.values()} == {"Second"}
        assert [row["row_move_update_dt"] for row in seen.values()] == [at(2), at(2), at(2)]

    return judge


@case
def a_move_that_no_event_told_is_told_by_the_dump(story: Story) -> Callable[[Seen], None]:
    story.title = "Before"
    story.change("create", -2, revision(1, hours=-2))
    story.title = "After"
    story.dump(revision(1, hours=-2))

    def judge(seen: Seen) -> None:
        assert (seen[1]["page_title"], seen[1]["row_move_update_dt"]) == ("After", at(0))

    return judge


@case
def a_redirect_leads_where_it_leads_now(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    story.target = "Talk:Café_&_co"
    story.change("edit", 1, revision(2, "#REDIRECT [[Talk:Café & co]]", hours=1))
    event = story.change("edit", 2, revision(3, "#REDIRECT [[m:Talk:Café & co]]", hours=2))
    event["page"]["redirect_page_link"]["interwiki_prefix"] = "m"
    return lambda seen: _equal({row["page_redirect_target"] for row in seen.values()}, {"m:Talk:Café_&_co"})


@case
def a_redirect_no_more_leads_nowhere(story: Story) -> Callable[[Seen], None]:
    story.target = "Elsewhere_now"
    story.dump(revision(1))
    story.target = None
    story.change("edit", 1, revision(2, hours=1))
    return lambda seen: _equal({row["page_redirect_target"] for row in seen.values()}, {None})


@case
def every_slot_is_kept(story: Story) -> Callable[[Seen], None]:
    info = Slot('{"id":"M1"}', 1, "wikibase-mediainfo", "application/json")
    story.dump(replace(revision(1), slots={"main": Slot("text", 1), "mediainfo": info}))
    story.change("edit", 1, replace(revision(2, hours=1), slots={"main": Slot("new", 2), "mediainfo": info}))

    def judge(seen: Seen) -> None:
        for number in (1, 2):
            slots = seen[number]["revision_content_slots"]
            assert slots["mediainfo"] == {
                "content_body": '{"id":"M1"}', "content_model": "wikibase-mediainfo", "content_format": "application/json",
                "content_sha1": info.sha1, "content_size": 11, "origin_rev_id": 1,
            }  # fmt: skip
            assert slots["main"]["origin_rev_id"] == number

    return judge


@case
def a_revision_told_often_is_one_row(story: Story) -> Callable[[Seen], None]:
    event = story.change("edit", 1, revision(1, hours=1))
    story.changes.append((False, event))  # delivered again
    story.changes.append((True, {**event, "meta": {**event["meta"], "id": "another-id"}}))  # sent again
    story.dump(revision(1, hours=1), days=1)
    story.late = True
    story.dump(revision(1, hours=1), days=2)

    def judge(seen: Seen) -> None:
        assert list(seen) == [1] and (seen[1]["row_content_update_dt"], seen[1]["row_visibility_update_dt"]) == (at(48), at(1))

    return judge


@case
def a_null_revision_is_a_revision(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, "same"))
    story.change("edit", 1, replace(revision(2, "same", hours=1), parent=1))
    return lambda seen: _equal([(row["revision_parent_id"], body(row)) for row in seen.values()], [(None, "same"), (1, "same")])


@case
def a_revision_that_the_newest_dump_does_not_have_is_gone(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1), revision(2, SECRET, hours=-47))
    story.change("edit", 1, revision(3, SECRET, hours=1))
    story.change("edit", 30, revision(4, hours=30))
    story.late = True
    story.dump(revision(1), days=1)
    return lambda seen: _equal(list(seen), [1, 4])


@case
def a_text_that_an_event_lacks_is_taken_from_the_dump(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    event = story.change("undelete", 1, revision(1))
    del event["revision"]["content_slots"]["main"]["content_body"]

    def judge(seen: Seen) -> None:
        assert (body(seen[1]), seen[1]["row_content_update_dt"]) == ("text 1", at(1))

    return judge


@case
def slots_that_an_event_lacks_are_taken_from_the_dump(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    del story.change("undelete", 1, revision(1))["revision"]["content_slots"]
    return lambda seen: _equal(body(seen[1]), "text 1")


@case
def slots_that_an_event_lacks_and_the_dump_hides_keep_their_kind(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, shown=("user", "comment")))
    del story.change("undelete", 1, revision(1))["revision"]["content_slots"]
    story.turn(2, 1, shown=("user", "comment"))
    return lambda seen: _equal(seen[1]["revision_content_slots"]["main"]["content_model"], "wikitext")


@case
def an_event_without_slots_makes_a_row_without_text(story: Story) -> Callable[[Seen], None]:
    del story.change("edit", 1, revision(1, hours=1))["revision"]["content_slots"]
    return lambda seen: _equal([row["revision_content_slots"] for row in seen.values()], [{}])


@case
def a_canary_is_no_page(story: Story) -> Callable[[Seen], None]:
    story.change("create", 1, revision(1, hours=1))["meta"]["domain"] = "canary"
    return lambda seen: _equal(seen, {})


@case
def a_canary_tells_nothing_of_a_page(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1))
    for hours, kind in ((1, "edit"), (2, "delete")):
        story.change(kind, hours, revision(1))["meta"]["domain"] = "canary"
    story.turn(3, 1, shown=())
    story.hidings[0][1]["meta"]["domain"] = "canary"
    return lambda seen: _equal([(body(row), row["row_content_update_dt"]) for row in seen.values()], [("text 1", at(0))])


@case
def hiding_what_nobody_told_of_makes_no_row(story: Story) -> Callable[[Seen], None]:
    story.turn(1, 1, shown=())
    return lambda seen: _equal(seen, {})


@case
def what_is_hidden_at_another_page_is_hidden_here(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, SECRET, user=(7, SECRET), comment=SECRET), revision(2))
    story.change("edit", 1, revision(3, SECRET, hours=1))
    story.late = True
    for number in (1, 3):  # both were moved meanwhile
        story.turn(2, number, shown=(), page=9_001)

    def judge(seen: Seen) -> None:
        assert hidden(seen[1]) and hidden(seen[3]) and seen[1]["row_visibility_update_dt"] == at(2)
        assert body(seen[2]) == "text 2"

    return judge


@case
def what_comes_after_it_was_hidden_at_another_page_is_hidden(story: Story) -> Callable[[Seen], None]:
    story.turn(1, 1, shown=("user", "comment"), page=9_002)
    story.turn(1, 2, shown=("user", "comment"), page=9_002)
    story.late = True
    story.dump(revision(1, SECRET), revision(2))
    story.turn(2, 2, shown=PARTS, page=9_003)
    return lambda seen: _equal([body(row) for row in seen.values()], [None, "text 2"])


@case
def a_page_of_equal_id_on_another_wiki_is_another_page(story: Story) -> Callable[[Seen], None]:
    story.wiki, story.page = OTHER, 2  # the page of parts_are_hidden_one_by_one, on the other wiki
    story.dump(revision(1, "of the other wiki"))
    story.change("delete", -5, revision(1))
    return lambda seen: _equal([(row["user_text"], body(row)) for row in seen.values()], [("Ada", "of the other wiki")])


@case
def an_import_is_not_what_the_page_says_now(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, hours=-10))
    story.change("edit", 1, revision(9, "imported", hours=-9_000))
    return lambda seen: _equal([row["revision_id"] for row in seen.values()], [1, 9])


@case
def of_a_page_whose_newest_text_is_hidden_an_older_one_is_current(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1), revision(2, SECRET, hours=-47))
    story.late = True
    story.turn(1, 2, shown=("user", "comment"))
    return lambda seen: _equal([row["revision_content_is_visible"] for row in seen.values()], [True, False])


@case
def a_page_of_which_nothing_may_be_seen_is_not_current(story: Story) -> Callable[[Seen], None]:
    story.dump(revision(1, SECRET))
    story.late = True
    story.turn(1, 1, shown=("user", "comment"))
    return lambda seen: _equal(body(seen[1]), None)


def _equal(found: object, right: object) -> None:
    assert found == right


@pytest.fixture(scope="module")
def told(world_of: Callable[[Path], World]) -> tuple[World, dict[str, tuple[Story, Callable[[Seen], None]]]]:  # noqa: F811
    world = world_of(SOURCE_ROOT)
    stories = {name: (story := Story(number), make(story)) for number, (name, make) in enumerate(CASES.items(), 1)}
    for late in (False, True):
        _tell(world, [story for story, _ in stories.values()], late=late)
        assert set(work(world)) == ({"key"} if late else {"full"})
    return world, stories


def _tell(world: World, stories: list[Story], *, late: bool) -> None:
    pages: dict[tuple[datetime, str], list[Page]] = {}
    for story in stories:
        for came_late, day, wiki, page in story.dumps:
            if came_late == late:
                pages.setdefault((day, wiki), []).append(page)
    tell(
        world,
        dumps={
            f"{wiki}-{day:%Y%m%d}-pages-meta-history{int(late)}.xml": "".join(export(wiki, found)).encode()
            for (day, wiki), found in pages.items()
        },
        changes=[event for story in stories for came_late, event in story.changes if came_late == late],
        visibility=[event for story in stories for came_late, event in story.hidings if came_late == late],
    )


def _seen(world: World, story: Story) -> Seen:
    """The page's rows, with the ids that the story gave."""
    return {
        (number := row["revision_id"] - story.own(0)): {
            **row, "revision_id": number, "revision_parent_id": row["revision_parent_id"] and row["revision_parent_id"] - story.own(0)
        }
        for row in rows(world, "history")
        if (row["wiki_id"], row["page_id"]) == (story.wiki, story.page)
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str, told: tuple[World, dict[str, tuple[Story, Callable[[Seen], None]]]]) -> None:
    world, stories = told
    story, judge = stories[name]
    judge(_seen(world, story))


def test_current_has_the_newest_text_that_may_be_seen(told: tuple[World, Any]) -> None:
    world, stories = told
    history: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows(world, "history"):
        history.setdefault((row["wiki_id"], row["page_id"]), []).append(row)
    visible = {page: [row for row in found if row["revision_content_is_visible"]] for page, found in history.items()}
    right = [max(found, key=lambda row: (row["revision_dt"], row["revision_id"])) for found in visible.values() if found]
    assert rows(world, "current") == sorted(right, key=lambda row: (row["wiki_id"], row["page_id"]))
    current = {(row["wiki_id"], row["page_id"]): row["revision_id"] for row in rows(world, "current")}
    for name in ("an_import_is_not_what_the_page_says_now", "of_a_page_whose_newest_text_is_hidden_an_older_one_is_current"):
        story = stories[name][0]
        assert current[WIKI, story.page] == story.own(1)
    assert (WIKI, stories["a_page_of_which_nothing_may_be_seen_is_not_current"][0].page) not in current


def test_what_is_suppressed_stands_in_no_product_downstream(told: tuple[World, Any]) -> None:
    """Every product that is made of the history, by whatever domain: a new one is in without a line."""
    world, _ = told
    downstream = list(_downstream(world))
    assert {"content/history", "content/current"} <= set(downstream)
    inputs = [_text(world, key) for key in ("content/pages_dump", "mediawiki/page_content_change")]
    assert any(SECRET in text for text in inputs), "nothing was to be hidden"
    for key in ("content/pages_dump", "mediawiki/page_content_change"):  # which keep it: so nobody else reads them
        contract = world.registry.get(key)
        assert contract.classification == "restricted" and set(contract.readers or ()) == {contract.domain, "content"}
    for key in downstream:
        if key not in ("content/history", "content/current"):
            world.derive(key)
        assert SECRET not in _text(world, key), key


def _downstream(world: World) -> Iterator[str]:
    """Products made of the history, in the order they are to be made; published files are their writer's own tests' business."""
    made = {"content/history"}
    yield "content/history"
    transforms = {
        key: found
        for key, contract in world.registry.contracts.items()
        if contract.publication is None and (found := read_transform(contract, world.registry)) is not None
    }
    while ready := [key for key, found in transforms.items() if key not in made and made & set(found.inputs)]:
        made |= set(ready)
        yield from ready


def _text(world: World, key: str) -> str:
    domain = key.partition("/")[0]
    return str(source(key, registry=world.registry, lakehouse=world.lakehouse, reader=domain).arrow().to_pylist())
