"""A seeded generator of realistic `mediawiki.page_change.v1` events that knows what is true about them.

Here live the simulated wikis, their pages and editors, and the book-keeping of what a correct platform must find. Nothing here
knows the platform: events leave as JSON lines of the public schema mediawiki/page/change 1.3.0, truth as plain values.

Run as a program it writes a sample: `python -m demo.generator --events 2000 --output events.ndjson`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import sys
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

SCHEMA = "/mediawiki/page/change/1.3.0"
STREAM = "mediawiki.page_change.v1"
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 2
CANARY_EVERY = timedelta(minutes=15)

# wiki, domain, share of all changes, share of them by bots, whether it gives temporary accounts instead of showing IP addresses
WIKIS: tuple[tuple[str, str, float, float, bool], ...] = (
    ("enwiki", "en.wikipedia.org", 0.33, 0.12, True),
    ("wikidatawiki", "www.wikidata.org", 0.22, 0.55, True),
    ("commonswiki", "commons.wikimedia.org", 0.16, 0.35, True),
    ("dewiki", "de.wikipedia.org", 0.09, 0.07, False),
    ("frwiki", "fr.wikipedia.org", 0.08, 0.12, True),
    ("jawiki", "ja.wikipedia.org", 0.06, 0.08, False),
    ("eswiki", "es.wikipedia.org", 0.06, 0.15, True),
)
NAMESPACES: tuple[tuple[int, str, float], ...] = (
    (0, "", 0.72),
    (1, "Talk:", 0.09),
    (2, "User:", 0.07),
    (4, "Project:", 0.06),
    (14, "Category:", 0.06),
)
SYLLABLES = ("ka", "lo", "mi", "ra", "ten", "sol", "ber", "gu", "nor", "vi", "sta", "pel", "dra", "em", "ost", "fi", "wen", "hal", "tur")
EDIT_COMMENTS = (
    "copyedit",
    "added reference",
    "fixed typo",
    "updated figures",
    "expanded lead",
    "removed unsourced claim",
    "formatting",
    "",
)
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

GROUPS = {"bot": ["bot", "*", "user"], "registered": ["*", "user", "autoconfirmed"], "temp": ["temp", "*", "named"], "ip": ["*"]}
KINDS = ("edit", "revert", "null_edit", "create", "move", "delete", "undelete", "visibility_change")
KIND_WEIGHTS = (0.815, 0.080, 0.003, 0.070, 0.010, 0.012, 0.004, 0.006)


@dataclass
class DayFacts:
    """What is true of one page on one UTC day; `bytes_*` in bytes, the rest counts of edits except `editors`."""

    edits: int = 0
    anonymous: int = 0
    unattributed: int = 0
    bot: int = 0
    minor: int = 0
    reverted: int = 0
    bytes_added: int = 0
    bytes_removed: int = 0
    editors: int = 0


@dataclass(frozen=True)
class Truth:
    """What a correct platform finds after all of `Generated` was delivered.

    `facts` is keyed by (wiki_id, page_id, day); `reverts` maps each reverting (wiki_id, rev_id) to the rev_ids it undid;
    `refused` are the lines (from 1) of `Generated.gated` that break the schema; `quarantined` counts those written past the gate.
    """

    events: int
    duplicates: int
    late: int
    refused: frozenset[int]
    quarantined: int
    kinds: Mapping[str, int]
    facts: Mapping[tuple[str, int, date], DayFacts]
    reverts: Mapping[tuple[str, int], tuple[int, ...]]

    @property
    def accepted(self) -> int:
        """Lines the gate lets through: every event once, duplicates again."""
        return self.events + self.duplicates

    def total(self, name: str) -> int:
        """Sum of one field of `DayFacts` over all pages and days."""
        return sum(getattr(facts, name) for facts in self.facts.values())


@dataclass(frozen=True)
class Generated:
    """`gated` lines in the order of delivery to the gate, `raw` lines to be written past it, and the truth about both."""

    gated: Sequence[bytes]
    raw: Sequence[bytes]
    truth: Truth


@dataclass
class _User:
    text: str
    user_id: int | None
    kind: str  # registered | bot | temp | ip
    edit_count: int
    registered: str

    def entity(self) -> dict[str, Any]:
        """The user as an event carries it; an IP address has neither id nor edit count."""
        entity: dict[str, Any] = {
            "user_text": self.text,
            "groups": GROUPS[self.kind],
            "is_bot": self.kind == "bot",
            "is_system": False,
            "is_temp": self.kind == "temp",
        }
        if self.user_id is not None:
            entity |= {"user_id": self.user_id, "registration_dt": self.registered, "edit_count": self.edit_count}
        return entity


@dataclass
class _Revision:
    rev_id: int
    parent_id: int
    dt: datetime
    content: int
    size: int
    sha1: str
    minor: bool
    comment: str
    user: _User
    hidden: bool = False
    reverted: bool = False

    def entity(self) -> dict[str, Any]:
        """The revision as an event carries it; a hidden editor leaves no trace but the flag."""
        entity: dict[str, Any] = {
            "rev_id": self.rev_id,
            "rev_dt": _text(self.dt),
            "is_minor_edit": self.minor,
            "rev_sha1": self.sha1,
            "rev_size": self.size,
            "comment": self.comment,
            "is_content_visible": True,
            "is_editor_visible": not self.hidden,
            "is_comment_visible": True,
            "content_slots": {
                "main": {
                    "slot_role": "main",
                    "content_model": "wikitext",
                    "content_format": "text/x-wiki",
                    "content_sha1": self.sha1,
                    "content_size": self.size,
                    "origin_rev_id": self.rev_id,
                }
            },
        }
        if self.parent_id:
            entity["rev_parent_id"] = self.parent_id
        if not self.hidden:
            entity["editor"] = self.user.entity()
        return entity


@dataclass
class _Page:
    page_id: int
    title: str
    namespace: int
    head: _Revision
    edits: list[_Revision] = field(default_factory=list)  # those the stream showed, in order
    redirect: bool = False
    gone: bool = False

    def entity(self) -> dict[str, Any]:
        return {"page_id": self.page_id, "page_title": self.title, "namespace_id": self.namespace, "is_redirect": self.redirect}


class _Wiki:
    """One simulated wiki: its pages, its editors and the ids it has given out."""

    def __init__(self, rng: random.Random, start: datetime, name: str, domain: str, bots: float, temp: bool, changes: int) -> None:
        self.start = start
        self.rng, self.name, self.domain, self.bots, self.temp = rng, name, domain, bots, temp
        self.rev_ids = itertools.count(rng.randrange(10**8, 10**9))
        self.page_ids = itertools.count(rng.randrange(10**6, 10**7))
        self.user_ids = itertools.count(rng.randrange(10**5, 10**6))
        self.contents = itertools.count(1)
        self.users = [self._user("registered") for _ in range(max(12, changes // 12))]
        self.bot_users = [self._user("bot") for _ in range(max(2, changes // 900))]
        self.visitors = [self._user("temp" if temp else "ip") for _ in range(max(8, changes // 14))]
        self.user_weights = _zipf(len(self.users), 0.9)
        self.bot_weights = _zipf(len(self.bot_users), 1.2)
        self.pages = [self._old_page() for _ in range(max(10, int(changes * 0.45)))]
        self.page_weights = _zipf(len(self.pages), 0.85)
        self.young: list[_Page] = []
        self.deleted: list[_Page] = []

    def _user(self, kind: str) -> _User:
        rng, number = self.rng, next(self.user_ids)
        registered = _text(self.start - timedelta(seconds=rng.randrange(10**5, 5 * 10**8)))
        if kind == "ip":
            return _User(".".join(str(rng.randrange(1, 255)) for _ in range(4)), None, kind, 0, registered)
        if kind == "temp":
            registered = _text(self.start - timedelta(hours=rng.randrange(1, 900)))
            return _User(f"~2026-{number % 100_000}-{rng.randrange(10, 99)}", number, kind, rng.randrange(5), registered)
        name = _word(rng).capitalize() + (f"Bot{number % 97}" if kind == "bot" else str(number))
        return _User(name, number, kind, rng.randrange(1, 200_000), registered)

    def _old_page(self) -> _Page:
        """A page from before the simulated days: only its last revision is known, and only to itself."""
        namespace, title = self.title()
        page_id = next(self.page_ids)
        rev_id = next(self.rev_ids)
        content = next(self.contents)
        size = int(self.rng.lognormvariate(8.2, 1.1)) + 60
        dt = self.start - timedelta(seconds=self.rng.randrange(600, 10**7))
        head = _Revision(rev_id, rev_id - 1, dt, content, size, self.sha1(page_id, content), False, "", self.rng.choice(self.users))
        return _Page(page_id, title, namespace, head)

    def title(self) -> tuple[int, str]:
        namespace, prefix, _ = self.rng.choices(NAMESPACES, [share for *_, share in NAMESPACES])[0]
        words = "_".join(_word(self.rng) for _ in range(self.rng.randint(1, 3)))
        return namespace, prefix + words[:1].upper() + words[1:]

    def sha1(self, page_id: int, content: int) -> str:
        """MediaWiki's content hash: SHA-1 in base 36, 31 digits. The content is told by its number."""
        number = int.from_bytes(hashlib.sha1(f"{self.name}/{page_id}/{content}".encode(), usedforsecurity=False).digest(), "big")
        digits = []
        while number:
            number, digit = divmod(number, 36)
            digits.append(BASE36[digit])
        return "".join(reversed(digits)).rjust(31, "0")

    def author(self, *, patrols: bool = False) -> _User:
        """Who makes the next change; `patrols`: someone who watches over others' edits."""
        rng = self.rng
        if rng.random() < (0.25 if patrols else self.bots):
            return self.bot_users[bisect_left(self.bot_weights, rng.random() * self.bot_weights[-1])]
        if not patrols and rng.random() < 0.24:
            return rng.choice(self.visitors)
        return self.users[bisect_left(self.user_weights, rng.random() * self.user_weights[-1])]

    def page(self) -> _Page:
        """A page to change: often a popular one, sometimes one just made."""
        while True:
            if self.young and self.rng.random() < 0.06:
                page = self.rng.choice(self.young[-200:])
            else:
                page = self.pages[bisect_left(self.page_weights, self.rng.random() * self.page_weights[-1])]
            if not page.gone:
                return page


class _Simulation:
    """Two days of changes on all wikis; collects events in event time and what is true of them."""

    def __init__(self, seed: int, events: int, start: datetime) -> None:
        self.rng, self.start = random.Random(seed), start
        self.wikis = [_Wiki(self.rng, start, name, domain, bots, temp, int(events * share)) for name, domain, share, bots, temp in WIKIS]
        self.facts: dict[tuple[str, int, date], DayFacts] = {}
        self.editors: dict[tuple[str, int, date], set[str]] = {}
        self.reverts: dict[tuple[str, int], tuple[int, ...]] = {}
        self.kinds: dict[str, int] = dict.fromkeys(("create", "edit", "move", "delete", "undelete", "visibility_change", "canary"), 0)
        self.makers: dict[str, Callable[[_Wiki, datetime], dict[str, Any]]] = {
            "edit": self.edit,
            "revert": self.revert,
            "null_edit": self.null_edit,
            "create": self.create,
            "move": self.move,
            "delete": self.delete,
            "undelete": self.undelete,
            "visibility_change": self.visibility_change,
        }

    def run(self, events: int) -> list[tuple[datetime, dict[str, Any]]]:
        canaries = [self.start + CANARY_EVERY * i for i in range(min(DAYS * 96, events // 250))]
        out = [(dt, self.canary(dt)) for dt in canaries]
        count = events - len(canaries)
        wikis = self.rng.choices(self.wikis, [share for _, _, share, *_ in WIKIS], k=count)
        kinds = self.rng.choices(KINDS, KIND_WEIGHTS, k=count)
        for dt, wiki, kind in zip(_times(self.rng, count, self.start), wikis, kinds, strict=True):
            out.append((dt, self.makers[kind](wiki, dt)))
        for key, editors in self.editors.items():
            self.facts[key].editors = len(editors)
        return out

    def envelope(self, wiki: str, domain: str, dt: datetime, title: str) -> dict[str, Any]:
        received = dt + timedelta(seconds=self.rng.randrange(0, 4))
        return {
            "$schema": SCHEMA,
            "meta": {
                "stream": STREAM,
                "id": self.uuid(),
                "request_id": self.uuid(),
                "domain": domain,
                "dt": _text(received),
                "uri": f"https://{domain}/wiki/{title}",
            },
            "dt": _text(dt),
            "wiki_id": wiki,
        }

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def event(self, wiki: _Wiki, dt: datetime, page: _Page, change: tuple[str, str], performer: _User | None) -> dict[str, Any]:
        kind, changelog = change
        self.kinds[kind] += 1
        event = self.envelope(wiki.name, wiki.domain, dt, page.title)
        event |= {"page_change_kind": kind, "changelog_kind": changelog, "page": page.entity(), "revision": page.head.entity()}
        if performer is not None:
            event["performer"] = performer.entity()
        return event

    def save(
        self, wiki: _Wiki, dt: datetime, page: _Page, user: _User, content: int, size: int, *, comment: str, first: bool = False
    ) -> dict[str, Any]:
        """One edit: the new head revision, its event, and what it adds to the truth. `content` tells what it says, `size` in bytes."""
        before, rng = page.head, self.rng
        user.edit_count += 1
        revision = _Revision(
            rev_id=next(wiki.rev_ids),
            parent_id=0 if first else before.rev_id,
            dt=dt,
            content=content,
            size=size,
            sha1=wiki.sha1(page.page_id, content),
            minor=user.kind in ("registered", "bot") and rng.random() < 0.22,
            comment=comment,
            user=user,
            hidden=rng.random() < 0.003,
        )
        page.head = revision
        page.edits.append(revision)
        event = self.event(wiki, dt, page, ("create", "insert") if first else ("edit", "update"), None if revision.hidden else user)
        event["comment"] = comment
        if not first:
            event["prior_state"] = {"revision": before.entity()}
        self.record(wiki, page, revision, size - (0 if first else before.size))
        return event

    def record(self, wiki: _Wiki, page: _Page, revision: _Revision, change: int) -> None:
        key = (wiki.name, page.page_id, revision.dt.date())
        facts, user = self.facts.setdefault(key, DayFacts()), revision.user
        facts.edits += 1
        facts.minor += revision.minor
        facts.bytes_added += max(change, 0)
        facts.bytes_removed += max(-change, 0)
        editors = self.editors.setdefault(key, set())
        if revision.hidden:
            facts.unattributed += 1
            return
        editors.add(user.text)
        facts.bot += user.kind == "bot"
        facts.anonymous += user.kind in ("ip", "temp")

    def edit(self, wiki: _Wiki, dt: datetime, page: _Page | None = None) -> dict[str, Any]:
        page = page or wiki.page()
        change = int(self.rng.lognormvariate(3.4, 1.6)) * (1 if self.rng.random() < 0.7 else -1)
        size = max(0, page.head.size + change)
        return self.save(wiki, dt, page, wiki.author(), next(wiki.contents), size, comment=self.rng.choice(EDIT_COMMENTS))

    def revert(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        """Restore what an earlier edit of the page, one that the stream showed, had left; else a plain edit."""
        for _ in range(6):
            page = wiki.page()
            depth = min(1 + int(self.rng.expovariate(1.1)), len(page.edits) - 1)
            if depth < 1 or page.edits[-1 - depth].content == page.head.content:
                continue
            target = page.edits[-1 - depth].content
            base = max(i for i, revision in enumerate(page.edits) if revision.content == target)
            undone = page.edits[base + 1 :]
            source = page.edits[base]
            author = wiki.author(patrols=True)
            event = self.save(wiki, dt, page, author, target, source.size, comment=f"Reverted to revision {source.rev_id}")
            self.reverts[wiki.name, page.head.rev_id] = tuple(revision.rev_id for revision in undone)
            for revision in undone:
                if not revision.reverted:
                    revision.reverted = True
                    self.facts[wiki.name, page.page_id, revision.dt.date()].reverted += 1
            return event
        return self.edit(wiki, dt)

    def null_edit(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        """Saved without a change: same hash as its parent, which makes it no revert."""
        page = wiki.page()
        return self.save(wiki, dt, page, wiki.author(), page.head.content, page.head.size, comment="")

    def create(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        namespace, title = wiki.title()
        user = wiki.author()
        size = int(self.rng.lognormvariate(7.0, 1.2)) + 20
        nothing = _Revision(0, 0, dt, 0, 0, "", False, "", user)
        page = _Page(next(wiki.page_ids), title, namespace, nothing, redirect=self.rng.random() < 0.12)
        wiki.young.append(page)
        return self.save(wiki, dt, page, user, next(wiki.contents), size, comment="new page", first=True)

    def move(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        """A new title; MediaWiki saves a revision with the old content for it, which is no edit."""
        page, user = wiki.page(), wiki.author(patrols=True)
        before, old = page.head, page.entity()
        _, title = wiki.title()
        page.title = title
        rev_id, comment = next(wiki.rev_ids), f"moved to [[{title}]]"
        page.head = _Revision(rev_id, before.rev_id, dt, before.content, before.size, before.sha1, True, comment, user)
        event = self.event(wiki, dt, page, ("move", "update"), user)
        event["prior_state"] = {"page": {"page_title": old["page_title"], "namespace_id": old["namespace_id"]}, "revision": before.entity()}
        event["created_redirect_page"] = old | {"page_id": next(wiki.page_ids), "is_redirect": True}
        return event

    def delete(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        page = self.quiet_page(wiki)
        if page is None:
            return self.edit(wiki, dt)
        event = self.event(wiki, dt, page, ("delete", "delete"), wiki.author(patrols=True))
        event["page"]["revision_count"] = len(page.edits) + 1
        event["comment"] = "deleted"
        page.gone = True
        wiki.deleted.append(page)
        return event

    def undelete(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        if not wiki.deleted:
            return self.edit(wiki, dt)
        page = wiki.deleted.pop(self.rng.randrange(len(wiki.deleted)))
        page.gone = False
        return self.event(wiki, dt, page, ("undelete", "insert"), wiki.author(patrols=True))

    def visibility_change(self, wiki: _Wiki, dt: datetime) -> dict[str, Any]:
        """Someone hides the comment of the last revision; the edit itself stays what it was."""
        page = wiki.page()
        event = self.event(wiki, dt, page, ("visibility_change", "update"), wiki.author(patrols=True))
        event["revision"]["is_comment_visible"] = False
        event["revision"].pop("comment", None)
        event["prior_state"] = {"revision": {"is_comment_visible": True}}
        return event

    def quiet_page(self, wiki: _Wiki) -> _Page | None:
        """A page that few read: just made, or from the tail of the popularity curve."""
        pool = wiki.young if wiki.young and self.rng.random() < 0.7 else wiki.pages[len(wiki.pages) // 2 :]
        page = self.rng.choice(pool)
        return None if page.gone else page

    def canary(self, dt: datetime) -> dict[str, Any]:
        """A canary proves that an idle stream is not a broken one; consumers leave it out by its domain."""
        self.kinds["canary"] += 1
        event = self.envelope("examplewiki", "canary", dt, "Example")
        user = {"user_text": "Example", "user_id": 1}
        event |= {"page_change_kind": "edit", "changelog_kind": "update", "performer": user}
        event["page"] = {"page_id": 1, "page_title": "Example", "namespace_id": 0}
        event["revision"] = {"rev_id": 2, "rev_parent_id": 1, "rev_dt": _text(dt), "rev_size": 100, "editor": user}
        return event


def generate(events: int = 50_000, seed: int = 20260105, start: datetime = START) -> Generated:
    """Make `events` distinct valid events over the two days from `start` (UTC, whole seconds), and the usual trouble around them.

    On top of the events come 1 % duplicates (redelivered byte for byte), 1 % of the events arrive hours late, and 1 % malformed
    lines: half of them to be refused by the gate, half to be written past it. The same arguments give the same bytes.

    Raises:
        ValueError: fewer than 100 events, where the shares above mean nothing.
    """
    if events < 100:
        raise ValueError(f"{events} events are too few to simulate; ask for 100 or more")
    simulation = _Simulation(seed, events, start)
    made = simulation.run(events)
    rng, share = random.Random(seed + 1), max(1, events // 100)
    deliveries: list[tuple[datetime, int, bytes]] = []
    late = set(rng.sample(range(events), share))
    for number, (dt, event) in enumerate(made):
        delay = rng.uniform(1800, 6 * 3600) if number in late else rng.uniform(0, 5)
        deliveries.append((dt + timedelta(seconds=delay), number, orjson.dumps(event)))
    again = [deliveries[i] for i in rng.sample(range(events), share)]
    deliveries += [(at + timedelta(seconds=rng.uniform(0, 900)), events + i, line) for i, (at, _, line) in enumerate(again)]
    victims = rng.sample(range(events), 2 * (share // 2))
    broken = [_break(rng, i, made[victim][1]) for i, victim in enumerate(victims)]
    refused, raw = broken[::2], broken[1::2]
    deliveries += [(rng.choice(made)[0], 2 * events + i, line) for i, line in enumerate(refused)]
    deliveries.sort(key=lambda delivery: delivery[:2])
    bad = frozenset(i for i, (_, number, _) in enumerate(deliveries, 1) if number >= 2 * events)
    truth = Truth(events, share, share, bad, len(raw), simulation.kinds, simulation.facts, simulation.reverts)
    return Generated([line for *_, line in deliveries], raw, truth)


def recent_changes(generated: Generated, count: int) -> list[bytes]:
    """The last `count` edits once more, as the events that mediawiki/recentchange 1.0.1 describes: the feed that patrollers watch."""
    found: dict[str, bytes] = {}
    for number in range(len(generated.gated), 0, -1):
        event = {} if number in generated.truth.refused else orjson.loads(generated.gated[number - 1])
        if event.get("page_change_kind") in ("create", "edit") and event["meta"]["domain"] != "canary" and "performer" in event:
            found[event["meta"]["id"]] = orjson.dumps(_recent_change(event))
        if len(found) == count:
            break
    return list(found.values())[::-1]


def _recent_change(event: Mapping[str, Any]) -> dict[str, Any]:
    revision, before = event["revision"], event.get("prior_state", {}).get("revision", {})
    return {
        "$schema": "/mediawiki/recentchange/1.0.1",
        "meta": event["meta"] | {"stream": "mediawiki.recentchange"},
        "type": "new" if event["page_change_kind"] == "create" else "edit",
        "namespace": event["page"]["namespace_id"],
        "title": event["page"]["page_title"].replace("_", " "),
        "title_url": event["meta"]["uri"],
        "comment": event["comment"],
        "timestamp": int(datetime.fromisoformat(event["dt"]).timestamp()),
        "user": event["performer"]["user_text"],
        "bot": event["performer"]["is_bot"],
        "minor": revision["is_minor_edit"],
        "length": {"old": before.get("rev_size"), "new": revision["rev_size"]},
        "revision": {"old": before.get("rev_id"), "new": revision["rev_id"]},
        "server_url": f"https://{event['meta']['domain']}",
        "server_name": event["meta"]["domain"],
        "wiki": event["wiki_id"],
    }


def _break(rng: random.Random, number: int, event: Mapping[str, Any]) -> bytes:
    """A copy of an event, broken in one of the ways producers break events. Ids are new, so it is no duplicate."""
    copy = orjson.loads(orjson.dumps(event))
    copy["meta"]["id"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    fault = FAULTS[(number // 2) % len(FAULTS)]
    return fault(copy)


def _without(name: str) -> Callable[[dict[str, Any]], bytes]:
    def fault(event: dict[str, Any]) -> bytes:
        del event[name]
        return orjson.dumps(event)

    return fault


def _with(path: tuple[str, ...], value: object) -> Callable[[dict[str, Any]], bytes]:
    def fault(event: dict[str, Any]) -> bytes:
        inner = event
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        return orjson.dumps(event)

    return fault


FAULTS: tuple[Callable[[dict[str, Any]], bytes], ...] = (
    lambda event: orjson.dumps(event)[:-40],
    _without("wiki_id"),
    _with(("page", "page_id"), "Main_Page"),
    _with(("page_change_kind",), "explode"),
    _with(("dt",), "yesterday, around noon"),
    _with(("revision", "rev_size"), -1),
    _without("revision"),
    _with(("page", "colour"), "blue"),
    lambda event: orjson.dumps([event["wiki_id"], event["dt"]]),
    lambda event: b"\x00\x00\x00\x00\x2a" + orjson.dumps(event),
    lambda event: orjson.dumps(event).replace(b"wiki", b"\xff\xfe", 1),
)


def _times(rng: random.Random, count: int, start: datetime) -> list[datetime]:
    """`count` times in order over the simulated days, seconds exact, busier in the afternoon (UTC) than at night."""
    weights = [2 + (14 - abs(14 - (start.hour + hour) % 24)) for hour in range(24 * DAYS)]
    hours = rng.choices(range(24 * DAYS), weights, k=count)
    return sorted(start + timedelta(seconds=hour * 3600 + rng.randrange(3600)) for hour in hours)


def _zipf(count: int, exponent: float) -> list[float]:
    """Cumulative weights of ranks 1 to `count`."""
    return list(itertools.accumulate(1 / rank**exponent for rank in range(1, count + 1)))


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def main(arguments: Iterable[str] | None = None) -> int:
    """Write a sample as newline-delimited JSON; the truth's totals go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m demo.generator", description="Generate page_change events, one JSON object a line.")
    parser.add_argument("--events", type=int, default=2_000, help="how many distinct valid events (default 2000)")
    parser.add_argument("--seed", type=int, default=20260105, help="the same seed gives the same bytes")
    parser.add_argument("--output", type=Path, default=Path("-"), help="file to write, - for standard output (default)")
    parser.add_argument("--clean", action="store_true", help="leave out the malformed lines")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    made = generate(options.events, options.seed)
    lines = [line for i, line in enumerate(made.gated, 1) if not (options.clean and i in made.truth.refused)]
    text = b"".join(line + b"\n" for line in lines)
    if str(options.output) == "-":
        sys.stdout.buffer.write(text)
    else:
        options.output.write_bytes(text)
    totals = {name: made.truth.total(name) for name in ("edits", "anonymous", "bot", "minor", "reverted")}
    sys.stderr.write(
        json.dumps(
            {
                "lines": len(lines),
                "duplicates": made.truth.duplicates,
                "malformed": 0 if options.clean else len(made.truth.refused),
                **totals,
            }
        )
        + "\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
