"""A seeded generator of what wikis say: a full history dump, the events since with their texts, and what was hidden, with the truth of all.

Here live two simulated wikis with equal ids, their pages and revisions. Each does with them what MediaWiki does, and remembers what must be
seen afterwards. Nothing here knows the platform: events leave as JSON lines of the schemas mediawiki/page/change 1.3.0 and
mediawiki/revision/visibility-change 1.0.1, dumps as exports of schema 0.11, truth as plain values.

Run as a program it writes a sample: `python -m demo.contents --output folder`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import random
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson

CONTENT_STREAM, VISIBILITY_STREAM = "mediawiki.page_content_change.v1", "mediawiki.revision-visibility-change"
CONTENT_SCHEMA, VISIBILITY_SCHEMA = "/mediawiki/page/change/1.3.0", "/mediawiki/revision/visibility-change/1.0.1"
DUMPED = datetime(2026, 1, 1, tzinfo=UTC)
STREAMED = DUMPED - timedelta(days=2)  # events begin before the dump, which tells the same again

WIKIS: Mapping[str, str] = {"simplewiki": "simple.wikipedia.org", "commonswiki": "commons.wikimedia.org"}
NAMESPACES: Mapping[int, str] = {0: "", 1: "Talk", 2: "User", 6: "File", 14: "Category"}
USERS: tuple[tuple[int | None, str], ...] = ((7, "Ada"), (8, "Jean-Frédéric"), (9, "TidyBot"), (None, "192.0.2.7"), (0, "Imported>Grace"))
WORDS = ("moon", "river", "Straße", "東京", "<ref>a & b</ref>", "[[link]]", "'''bold'''", "\n", "& nbsp;")
KINDS = ("edit", "null_edit", "create", "move", "delete", "undelete", "hide", "show", "import", "redirect")
WEIGHTS = (0.50, 0.02, 0.13, 0.06, 0.06, 0.05, 0.08, 0.05, 0.02, 0.03)
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
PARTS = ("user", "comment", "text")


def sha1_base36(text: str) -> str:
    """MediaWiki's hash of a text: SHA-1 in base 36, 31 digits."""
    number, digits = int(hashlib.sha1(text.encode()).hexdigest(), 16), ""
    while number:
        number, rest = divmod(number, 36)
        digits = BASE36[rest] + digits
    return digits.rjust(31, "0")


@dataclass(frozen=True)
class Slot:
    """One slot's content; `origin` is the revision it was made for."""

    body: str
    origin: int
    model: str = "wikitext"
    format: str = "text/x-wiki"

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.body.encode())

    @property
    def sha1(self) -> str:
        """Of the body."""
        return sha1_base36(self.body)


@dataclass
class Revision:
    """A revision as its wiki has it, and what was told of it when; `shown` says of each part whether it may be seen."""

    id: int
    parent: int | None
    dt: datetime
    user: tuple[int | None, str]
    comment: str
    is_minor: bool
    slots: dict[str, Slot]
    shown: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(PARTS, True))
    came_at: datetime | None = None
    came_by_event: bool = False
    told_at: datetime | None = None
    turned_at: datetime | None = None

    @property
    def size(self) -> int:
        """Bytes of all slots."""
        return sum(slot.size for slot in self.slots.values())

    @property
    def sha1(self) -> str:
        """Of one slot its hash, of several a hash of their hashes in the order of their roles."""
        first, *others = [slot.sha1 for _, slot in sorted(self.slots.items())]
        for other in others:
            first = sha1_base36(first + other)
        return first

    def tell(self, at: datetime, *, by_event: bool) -> None:
        """A dump or an event told of the revision."""
        if self.came_at is None:
            self.came_at, self.came_by_event = at, by_event
        self.turned_at = self.turned_at or at
        self.told_at = at


@dataclass
class Page:
    """A page; `title` and `target` have their namespace's prefix and underscores."""

    id: int
    namespace: int
    title: str
    revisions: list[Revision]
    target: str | None = None
    is_there: bool = True
    moved_at: datetime | None = None

    @property
    def current(self) -> Revision:
        """The newest by time: an import brings old revisions with new ids."""
        return max(self.revisions, key=lambda revision: (revision.dt, revision.id))


@dataclass(frozen=True)
class Generated:
    """`dumps` by file name, events as JSON lines in the order of delivery, and the rows that content/history must have."""

    dumps: Mapping[str, bytes]
    changes: Sequence[bytes]
    visibility: Sequence[bytes]
    rows: Sequence[Mapping[str, Any]]


# --- what leaves a wiki


def instant(at: datetime) -> str:
    """As events write it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _meta(wiki: str, stream: str, at: datetime, number: int) -> dict[str, Any]:
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{wiki}/{stream}/{number}"))
    return {"stream": stream, "id": name, "dt": instant(at), "domain": WIKIS.get(wiki, wiki)}


def change_event(wiki: str, kind: str, at: datetime, page: Page, revision: Revision, number: int) -> dict[str, Any]:
    """An event of mediawiki.page_content_change.v1: `revision` is the page's current one after it, and what is hidden of that is absent."""
    told: dict[str, Any] = {
        "rev_id": revision.id, "rev_dt": instant(revision.dt), "is_minor_edit": revision.is_minor,
        "rev_sha1": revision.sha1, "rev_size": revision.size,
        "is_editor_visible": revision.shown["user"], "is_comment_visible": revision.shown["comment"],
        "is_content_visible": revision.shown["text"],
        "content_slots": {
            role: {
                "slot_role": role, "content_model": slot.model, "content_format": slot.format, "content_sha1": slot.sha1,
                "content_size": slot.size, "origin_rev_id": slot.origin,
                **({"content_body": slot.body} if revision.shown["text"] else {}),
            }
            for role, slot in revision.slots.items()
        },
    }  # fmt: skip
    if revision.parent is not None:
        told["rev_parent_id"] = revision.parent
    if revision.shown["user"]:
        told["editor"] = user_entity(revision.user)
    if revision.shown["comment"]:
        told["comment"] = revision.comment
    entity: dict[str, Any] = {
        "page_id": page.id,
        "page_title": page.title,
        "namespace_id": page.namespace,
        "is_redirect": page.target is not None,
    }
    if page.target is not None:
        entity["redirect_page_link"] = {"page_title": page.target, "namespace_id": 0}
    return {
        "$schema": CONTENT_SCHEMA,
        "meta": _meta(wiki, CONTENT_STREAM, at, number),
        "wiki_id": wiki,
        "dt": instant(at),
        "page_change_kind": kind,
        "changelog_kind": {"create": "insert", "undelete": "insert", "delete": "delete"}.get(kind, "update"),
        "page": entity,
        "revision": told,
    }


def user_entity(user: tuple[int | None, str]) -> dict[str, Any]:
    """An author as an event carries it; an IP address has no id."""
    known = {} if user[0] is None else {"user_id": user[0]}
    return {"user_text": user[1], "groups": ["*"], "is_bot": user[1].endswith("Bot"), "is_temp": False, "is_system": False, **known}


def visibility_event(wiki: str, at: datetime, page: Page, revision: Revision, prior: Mapping[str, bool], number: int) -> dict[str, Any]:
    """An event of mediawiki.revision-visibility-change: what may be seen of the revision now, and what of it could be before."""
    return {
        "$schema": VISIBILITY_SCHEMA,
        "meta": _meta(wiki, VISIBILITY_STREAM, at, number),
        "database": wiki,
        "page_id": page.id,
        "page_title": page.title,
        "page_namespace": page.namespace,
        "page_is_redirect": page.target is not None,
        "rev_id": revision.id,
        "rev_timestamp": instant(revision.dt),
        "visibility": dict(revision.shown),
        "prior_state": {"visibility": dict(prior)},
    }


def export(wiki: str, pages: Iterable[Page]) -> Iterator[str]:
    """A full history dump of schema 0.11, in pieces: a page's revisions in the order of their time, hidden parts marked as deleted."""
    yield '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n'
    yield f"  <siteinfo><sitename>{wiki}</sitename><dbname>{wiki}</dbname><base>https://{WIKIS.get(wiki, wiki)}/wiki/Main_Page</base>"
    yield "<generator>MediaWiki 1.45.0</generator><case>first-letter</case><namespaces>"
    yield "".join(f'<namespace key="{number}" case="first-letter">{name}</namespace>' for number, name in NAMESPACES.items())
    yield "</namespaces></siteinfo>\n"
    for page in pages:
        yield f"  <page><title>{_spaced(page.title)}</title><ns>{page.namespace}</ns><id>{page.id}</id>"
        if page.target is not None:
            yield f"<redirect title={quoteattr(page.target.replace('_', ' '))} />"
        for revision in sorted(page.revisions, key=lambda revision: (revision.dt, revision.id)):
            yield from _exported(revision)
        yield "  </page>\n"
    yield "</mediawiki>\n"


def _spaced(title: str) -> str:
    return escape(title.replace("_", " "))


def _exported(revision: Revision) -> Iterator[str]:
    yield f"\n    <revision><id>{revision.id}</id>"
    if revision.parent is not None:
        yield f"<parentid>{revision.parent}</parentid>"
    yield f"<timestamp>{revision.dt:%Y-%m-%dT%H:%M:%SZ}</timestamp>"
    user_id, name = revision.user
    if not revision.shown["user"]:
        yield '<contributor deleted="deleted" />'
    elif user_id is None:
        yield f"<contributor><ip>{escape(name)}</ip></contributor>"
    else:
        yield f"<contributor><username>{escape(name)}</username><id>{user_id}</id></contributor>"
    if revision.is_minor:
        yield "<minor/>"
    if not revision.shown["comment"]:
        yield '<comment deleted="deleted" />'
    elif revision.comment:
        yield f"<comment>{escape(revision.comment)}</comment>"
    shown = revision.shown["text"]
    for role, slot in sorted(revision.slots.items(), key=lambda each: each[0] != "main"):
        text = f'bytes="{slot.size}" sha1="{slot.sha1}" xml:space="preserve">{escape(slot.body)}' if shown else 'deleted="deleted">'
        inner = f"<origin>{slot.origin}</origin><model>{slot.model}</model><format>{slot.format}</format><text {text}</text>"
        yield inner if role == "main" else f"<content><role>{role}</role>{inner}</content>"
    yield f"<sha1>{revision.sha1 if shown else ''}</sha1></revision>\n"


# --- what must be seen


def history_rows(wiki: str, page: Page) -> list[dict[str, Any]]:
    """The page's rows in content/history, by the rules of its contract; none of a deleted page."""
    return [_row(wiki, page, revision) for revision in page.revisions if page.is_there and revision.told_at is not None]


def _row(wiki: str, page: Page, revision: Revision) -> dict[str, Any]:
    shown = revision.shown
    text = shown["text"]
    moves = [at for at in (page.moved_at, revision.came_at if revision.came_by_event else None) if at and at >= (revision.came_at or at)]
    return {
        "wiki_id": wiki, "page_id": page.id, "page_namespace_id": page.namespace, "page_title": page.title,
        "page_redirect_target": page.target,
        "user_id": revision.user[0] if shown["user"] else None, "user_text": revision.user[1] if shown["user"] else None,
        "user_is_visible": shown["user"],
        "revision_id": revision.id, "revision_parent_id": revision.parent, "revision_dt": revision.dt,
        "revision_is_minor_edit": revision.is_minor,
        "revision_comment": revision.comment if shown["comment"] else None, "revision_comment_is_visible": shown["comment"],
        "revision_sha1": revision.sha1 if text else None, "revision_size": revision.size if text else None,
        "revision_content_slots": {
            role: {
                "content_body": slot.body if text else None, "content_format": slot.format, "content_model": slot.model,
                "content_sha1": slot.sha1 if text else None, "content_size": slot.size if text else None, "origin_rev_id": slot.origin,
            }
            for role, slot in revision.slots.items()
        },
        "revision_content_is_visible": text,
        "row_content_update_dt": revision.told_at, "row_visibility_update_dt": revision.turned_at,
        "row_move_update_dt": max(moves, default=None),
    }  # fmt: skip


# --- a wiki's life


class _Wiki:
    """One wiki: what it has, and what it has sent. Ids count from 1 on each."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name, self.chance = name, chance
        self.pages: list[Page] = []
        self.changes: list[dict[str, Any]] = []
        self.visibility: list[dict[str, Any]] = []
        self.revisions = 0
        self.now = DUMPED - timedelta(days=400)

    def live(self, until: datetime, steps: int) -> None:
        """So many random changes up to a time."""
        pace = (until - self.now) / (steps + 1)
        for _ in range(steps):
            self.now += pace
            kind = self.chance.choices(KINDS, WEIGHTS)[0]
            getattr(self, f"_{kind}")()
        self.now = until

    def dump(self) -> bytes:
        """A full history of the pages that are there, at this moment."""
        there = [page for page in self.pages if page.is_there]
        for page in there:
            for revision in page.revisions:
                revision.tell(self.now, by_event=False)
        return gzip.compress("".join(export(self.name, there)).encode(), mtime=0)

    def _page(self, *, there: bool = True) -> Page | None:
        pages = [page for page in self.pages if page.is_there == there]
        return self.chance.choice(pages) if pages else None

    def _text(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randrange(12)))

    def _revise(self, page: Page, body: str | None, *, at: datetime | None = None) -> Revision:
        """Save a revision; without a body one that changes nothing (a null revision)."""
        self.revisions += 1
        parent = page.current if page.revisions else None
        slots = dict(parent.slots) if parent is not None else {}
        if body is not None:
            slots["main"] = Slot(body, self.revisions)
            if page.namespace == 6 and ("mediainfo" not in slots or self.chance.random() < 0.4):
                info = f'{{"id":"M{page.id}","labels":{{"n":{self.revisions}}}}}'
                slots["mediainfo"] = Slot(info, self.revisions, "wikibase-mediainfo", "application/json")
        comment = self.chance.choice(("", "copyedit", "/* A & B */ <fix>", "rv"))
        revision = Revision(
            self.revisions, parent.id if parent else None, (at or self.now).replace(microsecond=0), self.chance.choice(USERS), comment,
            self.chance.random() < 0.3, slots,
        )  # fmt: skip
        page.revisions.append(revision)
        return revision

    def _tell(self, kind: str, page: Page) -> None:
        """Send the page's change, once there is a stream."""
        at = self.now.replace(microsecond=self.now.microsecond // 1000 * 1000)
        if at < STREAMED:
            return
        self.changes.append(change_event(self.name, kind, at, page, page.current, len(self.changes)))
        if kind != "delete":
            page.current.tell(at, by_event=True)
        if kind == "move" and any(revision.came_at and revision.came_at < at for revision in page.revisions):
            page.moved_at = at

    def _create(self) -> None:
        number = self.chance.choice(list(NAMESPACES))
        prefix = f"{NAMESPACES[number]}:" if number else ""
        page = Page(len(self.pages) + 1, number, f"{prefix}Page_{len(self.pages) + 1}_&_more", [])
        self.pages.append(page)
        self._revise(page, self._text())
        self._tell("create", page)

    def _edit(self) -> None:
        page = self._page()
        if page is None:
            return self._create()
        page.target = None
        self._revise(page, self._text())
        return self._tell("edit", page)

    def _null_edit(self) -> None:
        """Saving a page unchanged leaves no trace at all."""

    def _redirect(self) -> None:
        page = self._page()
        if page is not None:
            page.target = self.chance.choice(("Main_Page", "Talk:Café_&_co"))
            self._revise(page, f"#REDIRECT [[{page.target}]]")
            self._tell("edit", page)

    def _move(self) -> None:
        page = self._page()
        if page is not None:
            page.title += "x"
            self._revise(page, None)
            self._tell("move", page)

    def _delete(self) -> None:
        page = self._page()
        if page is not None and len(self.pages) > 3:
            page.is_there = False
            self._tell("delete", page)

    def _undelete(self) -> None:
        page = self._page(there=False)
        if page is not None:
            page.is_there = True
            self._tell("undelete", page)

    def _import(self) -> None:
        """Old revisions of another wiki come with new ids and old times, then a null revision tells that they did."""
        page = self._page()
        if page is not None:
            first = min(revision.dt for revision in page.revisions)
            imported = self._revise(page, self._text(), at=first - timedelta(days=30))
            imported.parent, imported.user = None, USERS[-1]
            self._revise(page, None).parent = max(page.revisions[:-1], key=lambda each: (each.dt, each.id)).id
            self._tell("edit", page)

    def _hide(self) -> None:
        self._turn(False)

    def _show(self) -> None:
        self._turn(True)

    def _turn(self, shown: bool) -> None:
        """Hide or show parts of a revision. The text of a page's current one is never hidden."""
        page = self._page()
        if page is None:
            return
        revision = self.chance.choice(page.revisions)
        parts = [part for part in PARTS if revision.shown[part] != shown and (part != "text" or revision is not page.current)]
        if not parts:
            return
        prior = dict(revision.shown)
        for part in self.chance.sample(parts, k=self.chance.randint(1, len(parts))):
            revision.shown[part] = shown
        at = self.now.replace(microsecond=self.now.microsecond // 1000 * 1000)
        if at < STREAMED:
            return
        self.visibility.append(visibility_event(self.name, at, page, revision, prior, len(self.visibility)))
        revision.turned_at = at
        if revision is page.current:
            self._tell("visibility_change", page)


def generate(changes: int = 200, seed: int = 20260101) -> Generated:
    """The lives of two wikis of so many changes each: a third before there were events, some before the dump, the rest after it.

    Events come as they come: one in twenty late, one in twenty twice. The same arguments give the same.
    """
    chance = random.Random(seed)
    dumps: dict[str, bytes] = {}
    wikis = [_Wiki(name, chance) for name in WIKIS]
    for wiki in wikis:
        wiki.live(STREAMED, changes // 3)
        wiki.live(DUMPED, changes // 6)
        dumps[f"{wiki.name}/{wiki.name}-{DUMPED:%Y%m%d}-pages-meta-history.xml.gz"] = wiki.dump()
        wiki.live(DUMPED + timedelta(days=2), changes - changes // 3 - changes // 6)
    rows = [row for wiki in wikis for page in wiki.pages for row in history_rows(wiki.name, page)]
    return Generated(
        dumps,
        _delivered([event for wiki in wikis for event in wiki.changes], chance),
        _delivered([event for wiki in wikis for event in wiki.visibility], chance),
        rows,
    )


def _delivered(events: list[dict[str, Any]], chance: random.Random) -> list[bytes]:
    """In the order of their acceptance, but some late, and some again within the hour."""
    ordered = sorted(events, key=lambda event: event["meta"]["dt"])
    again = [event for event in ordered if chance.random() < 0.05]
    for event in [event for event in ordered if chance.random() < 0.05]:
        ordered.remove(event)
        ordered.append(event)
    return [orjson.dumps(event) for event in ordered + again]


def main() -> None:
    """Write a sample: dumps, `changes.ndjson` and `visibility.ndjson`."""
    parser = argparse.ArgumentParser(description="Generated dumps and events of pages with their texts.")
    parser.add_argument("--changes", type=int, default=200, help="how many changes on each of the two wikis (default 200)")
    parser.add_argument("--seed", type=int, default=20260101, help="the same seed gives the same")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    chosen = parser.parse_args()
    made = generate(chosen.changes, chosen.seed)
    for name, dump in made.dumps.items():
        path = chosen.output / "dumps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump)
    for name, lines in (("changes", made.changes), ("visibility", made.visibility)):
        (chosen.output / f"{name}.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))


if __name__ == "__main__":
    main()
