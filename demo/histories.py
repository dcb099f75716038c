"""A seeded generator of whole wikis' lives, told as the streams that `mediawiki.history` is made of.

Here live the simulated accounts, pages and revisions, and what people do to them: edit, revert, move, delete, restore, hide, tag, block,
rename. Events leave as JSON lines by stream, valid by their schemas, in the order in which they happened. What is true of a life is told by
the rules of docs/products/history.md, not by this module, which knows nothing of the platform.

Run as a program it writes what a platform can be fed with: `python -m demo.histories --events 3000 --output histories`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

PAGE_CHANGE, USER_CHANGE = "mediawiki.page_change.v1", "mediawiki.user_change.v1"
VISIBILITY, TAGS, BLOCKS = "mediawiki.revision-visibility-change", "mediawiki.revision-tags-change", "mediawiki.user-blocks-change"
SCHEMAS = {
    PAGE_CHANGE: "/mediawiki/page/change/1.3.0",
    USER_CHANGE: "/mediawiki/user/change/1.0.0",
    VISIBILITY: "/mediawiki/revision/visibility-change/1.0.1",
    TAGS: "/mediawiki/revision/tags-change/1.0.1",
    BLOCKS: "/mediawiki/user/blocks-change/1.1.0",
}
START = datetime(2026, 1, 20, tzinfo=UTC)
DAYS = 20  # so that every life crosses the end of a month
WIKIS = (("enwiki", "en.wikipedia.org", "en"), ("dewiki", "de.wikipedia.org", "de"), ("frwiktionary", "fr.wiktionary.org", "fr"))
NAMESPACES = ((0, "", 1), (1, "Talk", 0), (2, "User", 0), (4, "Project", 0), (14, "Category", 0))
NAMES = ("Ada", "Grace", "Linus", "Abbot", "TidyBot", "Botany", "Émilie", "ゆき", "Bot 7", "Mallory")
WORDS = ("River", "Castle", "Moon", "C++", "東京", "List_of:_rivers", "Élan", "Beetle")
TAG_SETS = (("mobile edit",), ("mobile edit", "mw-reverted"), ("visualeditor",), ())


@dataclass
class _User:
    """Somebody who edits: an account, or an address where `id` is None."""

    id: int | None
    name: str
    registered: datetime
    groups: tuple[str, ...] = ()
    is_temp: bool = False
    edits: int = 0


@dataclass
class _Revision:
    """A saved revision with what of it everybody may see."""

    id: int
    parent: int | None
    dt: datetime
    text: str
    editor: _User
    minor: bool
    shown: dict[str, bool] = field(default_factory=lambda: {"text": True, "comment": True, "user": True})
    tags: tuple[str, ...] = ()

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()[:31]


@dataclass
class _Page:
    """A page under its title of now."""

    id: int
    namespace: int
    title: str
    revisions: list[_Revision] = field(default_factory=list)
    deleted: bool = False


Event = dict[str, Any]


class _Wiki:
    """One wiki and what can happen on it; each act returns its events."""

    def __init__(self, name: str, domain: str, chance: random.Random) -> None:
        self.name, self.domain, self.chance = name, domain, chance
        self.pages: list[_Page] = []
        self.users: list[_User] = [_User(None, f"198.51.100.{number}", START) for number in range(1, 4)]
        self.numbers = {"page": 0, "revision": 0, "user": 0}

    def next(self, what: str) -> int:
        self.numbers[what] += 1
        return self.numbers[what]

    def editor(self) -> _User:
        return self.chance.choice(self.users)

    def accounts(self) -> list[_User]:
        return [user for user in self.users if user.id is not None]

    def alive(self) -> list[_Page]:
        return [page for page in self.pages if not page.deleted]

    # What is said of things, in the schemas' words.
    def envelope(self, stream: str, at: datetime) -> Event:
        said = at + timedelta(milliseconds=self.chance.randrange(1, 2_000))
        meta = {
            "stream": stream,
            "id": str(uuid.UUID(int=self.chance.getrandbits(128), version=4)),
            "dt": text_of(said),
            "domain": self.domain,
        }
        return {"$schema": SCHEMAS[stream], "meta": meta}

    def page_event(self, at: datetime, kind: str, page: _Page, performer: _User | None, **more: Any) -> tuple[str, Event]:
        changelog = {"create": "insert", "undelete": "insert", "delete": "delete"}.get(kind, "update")
        event = self.envelope(PAGE_CHANGE, at) | {
            "wiki_id": self.name, "dt": text_of(at), "page_change_kind": kind, "changelog_kind": changelog,
            "page": {"page_id": page.id, "page_title": titled(page), "namespace_id": page.namespace, "is_redirect": False},
            "revision": self.revision(page.revisions[-1]),
        }  # fmt: skip
        return PAGE_CHANGE, event | ({"performer": account(performer)} if performer is not None else {}) | more

    def revision(self, revision: _Revision) -> Event:
        shown = revision.shown
        said: Event = {
            "rev_id": revision.id, "rev_dt": text_of(revision.dt), "is_minor_edit": revision.minor, "rev_size": len(revision.text.encode()),
            "is_content_visible": shown["text"], "is_comment_visible": shown["comment"], "is_editor_visible": shown["user"],
        }  # fmt: skip
        return (
            said
            | ({"rev_sha1": revision.sha1} if shown["text"] else {})
            | ({"editor": account(revision.editor)} if shown["user"] else {})
            | ({"rev_parent_id": revision.parent} if revision.parent else {})
        )

    def of_revision(self, stream: str, at: datetime, page: _Page, revision: _Revision) -> Event:
        return self.envelope(stream, at) | {
            "database": self.name, "page_id": page.id, "page_title": titled(page), "page_namespace": page.namespace,
            "page_is_redirect": False, "rev_id": revision.id, "rev_timestamp": text_of(revision.dt), "rev_len": len(revision.text.encode()),
        }  # fmt: skip

    # What people do.
    def create_account(self, at: datetime) -> Iterator[tuple[str, Event]]:
        number = self.next("user")
        is_temp = self.chance.random() < 0.15
        name = f"~2026-{number}" if is_temp else f"{self.chance.choice(NAMES)} {number}" if number > len(NAMES) else NAMES[number - 1]
        user = _User(number, name, at, ("bot",) if "Bot" in name and self.chance.random() < 0.5 else (), is_temp)
        peers = self.accounts()
        kind = self.chance.choice(["self", "self", "system", "peer"]) if peers else "self"
        performer = self.chance.choice(peers) if kind == "peer" else user
        self.users.append(user)
        yield (
            USER_CHANGE,
            self.envelope(USER_CHANGE, at) | {
                "wiki_id": self.name, "dt": text_of(at), "user_change_kind": "create", "changelog_kind": "insert",
                "is_autocreate": kind == "system", "user": account(user), "performer": account(performer),
            },
        )  # fmt: skip

    def rename(self, at: datetime) -> Iterator[tuple[str, Event]]:
        user, before = (chosen := self.chance.choice(self.accounts())), chosen.name
        user.name = f"{self.chance.choice(NAMES)} the {self.chance.randrange(2, 99)}th"
        yield (
            USER_CHANGE,
            self.envelope(USER_CHANGE, at) | {
                "wiki_id": self.name, "dt": text_of(at), "user_change_kind": "rename", "changelog_kind": "update",
                "user": account(user), "performer": account(self.editor()), "prior_state": {"user": {"user_text": before}},
            },
        )  # fmt: skip

    def block(self, at: datetime) -> Iterator[tuple[str, Event]]:
        user = self.editor()
        on = self.chance.random() < 0.7
        blocks = {
            "name": on and user.id is not None and self.chance.random() < 0.3,
            "email": on, "user_talk": on and self.chance.random() < 0.5, "account_create": on, "sitewide": on,
        }  # fmt: skip
        said = self.envelope(BLOCKS, at) | {
            "database": self.name,
            "user_text": user.name,
            "user_groups": list(user.groups),
            "blocks": blocks,
        }
        by = self.chance.choice(self.users)
        performer = {"user_text": by.name, "user_groups": list(by.groups), "user_is_bot": "bot" in by.groups}
        yield BLOCKS, said | ({"user_id": user.id} if user.id else {}) | {"performer": performer | ({"user_id": by.id} if by.id else {})}

    def create(self, at: datetime) -> Iterator[tuple[str, Event]]:
        namespace = self.chance.choice((0, 0, 0, 1, 2, 4))
        page = _Page(self.next("page"), namespace, f"{self.chance.choice(WORDS)}_{self.numbers['page']}")
        self.pages.append(page)
        yield self.save(at, page, "create", f"{page.title} is ")

    def edit(self, at: datetime) -> Iterator[tuple[str, Event]]:
        page = self.chance.choice(self.alive()[-12:])
        yield self.save(at, page, "edit", page.revisions[-1].text + self.chance.choice(WORDS))

    def revert(self, at: datetime) -> Iterator[tuple[str, Event]]:
        """Save again what stood there earlier; what stands there now is a null edit, which undoes nothing."""
        page = self.chance.choice(self.alive()[-12:])
        yield self.save(at, page, "edit", self.chance.choice(page.revisions[-5:]).text)

    def save(self, at: datetime, page: _Page, kind: str, text: str) -> tuple[str, Event]:
        editor = self.editor()
        editor.edits += 1
        last = page.revisions[-1] if page.revisions else None
        page.revisions.append(_Revision(self.next("revision"), last.id if last else None, at, text, editor, self.chance.random() < 0.2))
        if last is None:
            return self.page_event(at, kind, page, editor)
        before = {"rev_id": last.id, "rev_dt": text_of(last.dt), "rev_size": len(last.text.encode())}
        return self.page_event(at, kind, page, editor, prior_state={"revision": before})

    def move(self, at: datetime) -> Iterator[tuple[str, Event]]:
        page = self.chance.choice(self.alive())
        before = {"page_title": titled(page), "namespace_id": page.namespace}
        page.namespace, page.title = self.chance.choice((0, 2, 4)), f"{self.chance.choice(WORDS)}_{page.id}_{self.next('page')}"
        yield self.page_event(at, "move", page, self.editor(), prior_state={"page": before})

    def delete(self, at: datetime) -> Iterator[tuple[str, Event]]:
        page = self.chance.choice(self.alive())
        page.deleted = True
        yield self.page_event(at, "delete", page, self.editor() if self.chance.random() < 0.9 else None)

    def restore(self, at: datetime) -> Iterator[tuple[str, Event]]:
        """Under its own id, or, as a wiki now and then does, under another one."""
        deleted = [page for page in self.pages if page.deleted]
        if not deleted:
            return
        page = self.chance.choice(deleted)
        page.deleted = False
        before = page.id
        if self.chance.random() < 0.3:
            page.id = self.next("page")
            yield self.page_event(at, "undelete", page, self.editor(), prior_state={"page": {"page_id": before}})
        else:
            yield self.page_event(at, "undelete", page, self.editor())

    def hide(self, at: datetime) -> Iterator[tuple[str, Event]]:
        page = self.chance.choice(self.pages)
        revision = self.chance.choice(page.revisions)
        before = dict(revision.shown)
        parts = self.chance.sample(sorted(before), self.chance.randrange(1, 3))
        revision.shown = {part: shown != (part in parts) for part, shown in before.items()}
        yield VISIBILITY, self.of_revision(VISIBILITY, at, page, revision) | {
            "visibility": revision.shown, "prior_state": {"visibility": before},
        }  # fmt: skip
        if revision is page.revisions[-1] and not page.deleted:
            yield self.page_event(at, "visibility_change", page, None)

    def tag(self, at: datetime) -> Iterator[tuple[str, Event]]:
        page = self.chance.choice(self.pages)
        revision = self.chance.choice(page.revisions)
        prior = {"prior_state": {"tags": list(revision.tags)}} if revision.tags else {}
        revision.tags = self.chance.choice(TAG_SETS)
        yield TAGS, self.of_revision(TAGS, at, page, revision) | prior | ({"tags": list(revision.tags)} if revision.tags else {})

    def canary(self, at: datetime) -> Iterator[tuple[str, Event]]:
        for stream, event in [*self.edit(at), *self.block(at), *self.rename(at)]:
            yield stream, event | {"meta": event["meta"] | {"domain": "canary"}}


ACTS: tuple[tuple[Callable[[_Wiki, datetime], Iterator[tuple[str, Event]]], int], ...] = (
    (_Wiki.edit, 50), (_Wiki.revert, 18), (_Wiki.create, 9), (_Wiki.create_account, 5), (_Wiki.move, 3), (_Wiki.delete, 3),
    (_Wiki.restore, 3), (_Wiki.hide, 4), (_Wiki.tag, 5), (_Wiki.block, 3), (_Wiki.rename, 2),
)  # fmt: skip


def titled(page: _Page) -> str:
    """The title with its namespace, as streams have it."""
    prefix = next(name for number, name, _ in NAMESPACES if number == page.namespace)
    return f"{prefix}:{page.title}" if prefix else page.title


def account(user: _User) -> Event:
    """A user as page_change and user_change tell of one."""
    said: Event = {"user_text": user.name, "groups": list(user.groups), "is_bot": "bot" in user.groups, "is_temp": user.is_temp}
    if user.id is None:
        return {"user_text": user.name}
    central = {"user_central_id": 10_000 + user.id}
    return said | central | {"user_id": user.id, "registration_dt": text_of(user.registered), "edit_count": user.edits}


def text_of(at: datetime) -> str:
    """An instant as events write it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def generate(events: int = 3_000, seed: int = 20260120, wikis: int = len(WIKIS)) -> list[tuple[str, Event]]:
    """About `events` events with their streams over DAYS from START, in the order in which they happened.

    Canaries and redeliveries are among them: an event comes again a while after its first time, as it was. The same arguments
    give the same events.
    """
    chance = random.Random(seed)
    lives = [_Wiki(name, domain, chance) for name, domain, _ in WIKIS[:wikis]]
    made: list[tuple[str, Event]] = []
    for wiki in lives:
        for act in (_Wiki.create_account, _Wiki.create_account, _Wiki.create, _Wiki.create):
            made += act(wiki, START + timedelta(seconds=len(made)))
    acts, weights = [act for act, _ in ACTS], [weight for _, weight in ACTS]
    first = START + timedelta(minutes=1)
    while len(made) < events:
        at = first + (timedelta(days=DAYS) * len(made)) / events
        wiki = chance.choice(lives)
        if len(wiki.alive()) < 2:
            made += wiki.create(at)
        if chance.random() < 0.01:
            made += shadow(wiki).canary(at)
        made += chance.choices(acts, weights)[0](wiki, at)
        if chance.random() < 0.01:
            made.append(made[-chance.randrange(1, min(50, len(made)))])
    return made


def shadow(wiki: _Wiki) -> _Wiki:
    """A wiki beside the real one, on which canaries live, with numbers that a real page and account have too."""
    copy = _Wiki(wiki.name, wiki.domain, wiki.chance)
    list(copy.create_account(START))
    list(copy.create(START))
    return copy


def namespace_map(wikis: int = len(WIKIS), month: str = "2026-01") -> bytes:
    """The map of wikis and namespaces that goes with the events, as a file of `mediawiki/project_namespace_map`, gzip."""
    lines = [
        orjson.dumps({
            "hostname": host, "language": language, "sitename": "Wiki", "dbname": name, "home_page": f"https://{host}/wiki/Main_Page",
            "mw_version": "MediaWiki 1.45.0", "case_setting": "first-letter", "namespace": number, "namespace_canonical_name": prefix,
            "namespace_localized_name": prefix, "namespace_case_setting": "first-letter", "namespace_is_content": content,
            "snapshot": month,
        })
        for name, host, language in WIKIS[:wikis]
        for number, prefix, content in NAMESPACES
    ]  # fmt: skip
    return gzip.compress(b"\n".join(lines) + b"\n", mtime=0)


def write(folder: Path, events: list[tuple[str, Event]]) -> None:
    """A file of JSON lines per stream, `<stream>.ndjson`, and the map where it is dropped, below `drop/mediawiki`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stream in SCHEMAS:
        lines = [orjson.dumps(event) + b"\n" for told, event in events if told == stream]
        (folder / f"{stream}.ndjson").write_bytes(b"".join(lines))
    dropped = folder / "drop" / "mediawiki" / "project_namespace_map" / "snapshot=2026-01" / "map.json.gz"
    dropped.parent.mkdir(parents=True, exist_ok=True)
    dropped.write_bytes(namespace_map())


def main() -> None:
    """Write a sample."""
    parser = argparse.ArgumentParser(description="Whole wikis' lives as events, one file of JSON lines per stream.")
    parser.add_argument("--events", type=int, default=3_000, help="about how many (default 3000)")
    parser.add_argument("--seed", type=int, default=20260120, help="the same seed gives the same events")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    chosen = parser.parse_args()
    write(chosen.output, generate(chosen.events, chosen.seed))


if __name__ == "__main__":
    main()
