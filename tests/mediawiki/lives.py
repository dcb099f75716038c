"""Whole lives of two small wikis, drawn by hypothesis: what people did, what the streams said of it, and how it arrived.

A life is a list of acts. An act is a few small numbers that are read against what the wiki is like at that moment, so that every list
of acts is a life, and hypothesis may leave out any of them when it looks for the shortest one that fails. Both wikis start with the same
ids. What is true of a life is the reference's business; nothing here knows the platform.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

Event = dict[str, Any]
START = datetime(2026, 1, 30, 20, tzinfo=UTC)  # near the end of a month, so that lives cross it
TURN = datetime(2026, 2, 1, tzinfo=UTC)
PAGE_CHANGE, VISIBILITY, TAGS = "mediawiki.page_change.v1", "mediawiki.revision-visibility-change", "mediawiki.revision-tags-change"
BLOCKS, USERS = "mediawiki.user-blocks-change", "mediawiki.user_change.v1"
SCHEMAS = {
    PAGE_CHANGE: "/mediawiki/page/change/1.3.0",
    VISIBILITY: "/mediawiki/revision/visibility-change/1.0.1",
    TAGS: "/mediawiki/revision/tags-change/1.0.1",
    BLOCKS: "/mediawiki/user/blocks-change/1.1.0",
    USERS: "/mediawiki/user/change/1.0.0",
}
WIKIS = (("enwiki", "en.wikipedia.org"), ("dewiki", "de.wikipedia.org"))
WAITS = tuple(timedelta(**{unit: count}) for unit, count in (("seconds", 0), ("seconds", 1), ("minutes", 9), ("hours", 5), ("days", 1)))
TITLES = ((0, "Alpha"), (0, "Beta:_a_film"), (1, "Talk:Alpha"), (2, "User:Ada"), (0, "Überall"))
TEXTS = ("", "a", "b", "c" * 40, "dé")
NAMES = ("Grace", "TidyBot", "Botany", "BotZ", "Bot 7", "Abbot", "Lin")
TAG_SETS = ((), ("mobile edit",), ("mobile edit", "mw-reverted"), ("visualeditor",))


class Act(NamedTuple):
    """One thing that somebody does: `who`, `what` and `how` are taken modulo what there is."""

    kind: str
    wait: int
    wiki: int
    who: int
    what: int
    how: int


@dataclass
class User:
    """An account, or an IP address where `id` is None."""

    id: int | None
    name: str
    groups: tuple[str, ...] = ()
    is_temp: bool = False
    registered: datetime | None = None
    edits: int = 0


@dataclass
class Revision:
    """A saved revision. `shown` says which of text, user and comment everybody may see."""

    id: int
    parent: int
    dt: datetime
    text: str
    editor: User
    minor: bool
    shown: dict[str, bool] = field(default_factory=lambda: {"text": True, "user": True, "comment": True})
    tags: tuple[str, ...] = ()


@dataclass
class Page:
    """A page under its present title; a deleted one keeps its revisions."""

    id: int
    namespace: int
    title: str
    revisions: list[Revision] = field(default_factory=list)
    redirect: bool = False
    deleted: bool = False


@dataclass
class Wiki:
    """One wiki as it is now, and the clock that its events are stamped by."""

    name: str
    domain: str
    now: datetime
    events: list[tuple[str, Event]]
    pages: list[Page] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)
    revisions: int = 0

    def __post_init__(self) -> None:
        self.users = [
            User(1, "Ada", ("sysop",), registered=START - timedelta(days=900)),
            User(None, "192.0.2.7"),
            User(2, "SweepBot", registered=START - timedelta(days=90)),
            User(3, "~2026-1", is_temp=True, registered=START),
            User(4, "Robotica", ("bot",)),
            User(None, "w>Eve"),
        ]

    # What people do. Each looks for what it can be done to, and does nothing where there is none.

    def create(self, act: Act) -> None:
        namespace, title = TITLES[act.what % len(TITLES)]
        if not any(page.title == title and not page.deleted for page in self.pages):
            self._make(namespace, title, self._user(act), TEXTS[act.how % len(TEXTS)])

    def recreate(self, act: Act) -> None:
        """A new page under the title of a deleted one."""
        gone = self._page(act, deleted=True)
        if gone and not any(page.title == gone.title and not page.deleted for page in self.pages):
            self._make(gone.namespace, gone.title, self._user(act), TEXTS[act.how % len(TEXTS)])

    def edit(self, act: Act) -> None:
        if page := self._page(act):
            self._save(page, self._user(act), TEXTS[act.how % len(TEXTS)], "edit")

    def revert(self, act: Act) -> None:
        """Bring back the text of an earlier revision; of the last one, that is a revision without change."""
        if page := self._page(act):
            back = page.revisions[-1 - act.how % len(page.revisions)]
            self._save(page, self._user(act), back.text, "edit")

    def resave(self, act: Act) -> None:
        """Save what is there already, as a protection of the page does."""
        if page := self._page(act):
            self._save(page, self._user(act), page.revisions[-1].text, "edit")

    def move(self, act: Act) -> None:
        """Onto a free title; that of a deleted page is free."""
        page, (namespace, title) = self._page(act), TITLES[act.how % len(TITLES)]
        if page is None or any(other.title == title and not other.deleted for other in self.pages):
            return
        old = page.namespace, page.title
        page.namespace, page.title = namespace, title
        left = Page(len(self.pages) + 1, *old, redirect=True) if act.how % 2 else None
        self._save(page, self._user(act), page.revisions[-1].text, "move", old=old, left=left)
        if left is not None:
            self.pages.append(left)
            self._save(left, self._user(act), f"#REDIRECT {title}", "create")

    def delete(self, act: Act) -> None:
        if page := self._page(act):
            page.deleted = True
            self._tell_page(page, "delete", self._user(act), count=len(page.revisions))

    def undelete(self, act: Act) -> None:
        page = self._page(act, deleted=True)
        if page and not any(other.title == page.title and not other.deleted for other in self.pages):
            page.deleted = False
            self._tell_page(page, "undelete", self._user(act))

    def merge(self, act: Act) -> None:
        """Restore the revisions of a deleted page into the page that has its title now: they leave their id for that page's."""
        live = {page.title: page for page in self.pages if not page.deleted}
        pairs = [(page, live[page.title]) for page in self.pages if page.deleted and page.revisions and page.title in live]
        if not pairs:
            return
        gone, into = pairs[act.what % len(pairs)]
        into.revisions = sorted(into.revisions + gone.revisions, key=lambda revision: (revision.dt, revision.id))
        gone.revisions = []
        self._tell_page(into, "undelete", self._user(act), from_page=gone.id)

    def hide(self, act: Act) -> None:
        """Hide parts of a revision, or show them again; of the current one page_change tells it too."""
        if page := self._page(act):
            revision = page.revisions[act.how % len(page.revisions)]
            part = ("text", "user", "comment")[act.how % 3]
            before, revision.shown = revision.shown, {**revision.shown, part: not revision.shown[part]}
            event = self._of_revision(page, revision, self._user(act))
            self._tell(VISIBILITY, event | {"visibility": revision.shown, "prior_state": {"visibility": before}})
            if revision is page.revisions[-1]:
                prior = {"revision": {"rev_id": revision.id, "rev_dt": revision.dt, **_visibility(before)}}
                self._tell_page(page, "visibility_change", self._user(act), prior=prior)

    def tag(self, act: Act) -> None:
        if page := self._page(act):
            revision, before = page.revisions[act.how % len(page.revisions)], ()
            before, revision.tags = revision.tags, TAG_SETS[(act.how + act.who) % len(TAG_SETS)]
            event = self._of_revision(page, revision, self._user(act))
            prior = {"prior_state": {"tags": list(before)}} if before else {}
            self._tell(TAGS, event | prior | ({"tags": list(revision.tags)} if revision.tags else {}))

    def register(self, act: Act) -> None:
        """A new account, made by its owner, by another user, or by the software."""
        name = NAMES[act.what % len(NAMES)]
        if any(user.name == name for user in self.users):
            return
        user = User(max(user.id or 0 for user in self.users) + 1, name, is_temp=act.how % 7 == 6, registered=self.now)
        self.users.append(user)
        performer = {0: user, 1: self._user(act), 2: None}[act.how % 3]
        self._tell_user(user, "create", performer, by_system=act.how % 3 == 2)

    def rename(self, act: Act) -> None:
        user, name = self._user(act), NAMES[act.what % len(NAMES)]
        if user.id is None or user.is_temp or any(other.name == name for other in self.users):
            return
        old, renamed = user.name, replace(user, name=name)
        self.users[self.users.index(user)] = renamed
        self._tell_user(renamed, "rename", self.users[act.how % len(self.users)], old=old)

    def block(self, act: Act) -> None:
        """Block somebody, change the block, or lift it."""
        user = self._user(act)
        before, after = user.name in self.blocked, act.how % 3 != 0
        if not before and not after:
            return
        (self.blocked.add if after else self.blocked.discard)(user.name)
        blocks = {"name": act.how % 4 == 1, "email": act.how % 2 == 0, "user_talk": False, "account_create": True, "sitewide": True}
        if act.how % 3 == 1:
            blocks["expiry_dt"] = self.now + timedelta(days=act.how)
        lifted = {"name": False, "email": False, "user_talk": False, "account_create": False}
        event = {"user_text": user.name, "blocks": blocks if after else lifted, "performer": _performer(self.users[0]), "comment": "why"}
        event |= {"user_id": user.id, "user_groups": list(user.groups)} if user.id else {}
        self._tell(BLOCKS, {"database": self.name} | event | ({"prior_state": {"blocks": blocks}} if before else {}))

    def turn(self, act: Act) -> None:
        """Wait until the month turns: what happens next happens in the very instant at which its snapshot ends."""
        self.now = max(self.now, TURN)

    def canary(self, act: Act) -> None:
        """The event that tests whether a stream flows; no page of that name exists."""
        page = Page(1 + act.what, 0, "Canary", [Revision(1 + act.how, 0, self.now, "canary", self.users[0], minor=False)])
        self._tell_page(page, ("create", "edit", "delete", "move")[act.how % 4], self.users[0])
        self.events[-1][1]["meta"]["domain"] = "canary"

    # What the streams say of it.

    def _user(self, act: Act) -> User:
        return self.users[act.who % len(self.users)]

    def _page(self, act: Act, *, deleted: bool = False) -> Page | None:
        found = [page for page in self.pages if page.deleted == deleted and page.revisions]
        return found[act.what % len(found)] if found else None

    def _make(self, namespace: int, title: str, user: User, text: str) -> None:
        self.pages.append(Page(len(self.pages) + 1, namespace, title))
        self._save(self.pages[-1], user, text, "create")

    def _save(self, page: Page, user: User, text: str, kind: str, *, old: tuple[int, str] | None = None, left: Page | None = None) -> None:
        before = page.revisions[-1] if page.revisions else None
        self.revisions += 1
        user.edits += 1
        revision = Revision(self.revisions, before.id if before else 0, self.now, text, replace(user), minor=self.revisions % 3 == 0)
        page.revisions.append(revision)
        page.redirect = text.startswith("#REDIRECT")
        prior: Event = {"revision": _revision(before)} if before else {}
        if old is not None:
            prior["page"] = {"namespace_id": old[0], "page_title": old[1]}
        self._tell_page(page, kind, user, prior=prior or None, left=left)

    def _tell_page(
        self,
        page: Page,
        kind: str,
        user: User,
        *,
        prior: Event | None = None,
        left: Page | None = None,
        count: int | None = None,
        from_page: int | None = None,
    ) -> None:
        revision = page.revisions[-1]
        event: Event = {
            "changelog_kind": {"create": "insert", "undelete": "insert", "delete": "delete"}.get(kind, "update"),
            "page_change_kind": kind,
            "dt": self.now,
            "wiki_id": self.name,
            "page": _page(page) | ({"revision_count": count} if count else {}),
            "performer": _user(user),
            "comment": "because",
            "revision": _revision(revision),
        }
        if not revision.shown["user"] and kind in ("create", "edit"):
            del event["performer"]
        if from_page is not None:
            prior = {"page": {"page_id": from_page, "page_title": page.title}}
        event |= {"prior_state": prior} if prior else {}
        event |= {"created_redirect_page": _page(left)} if left else {}
        self._tell(PAGE_CHANGE, event)

    def _of_revision(self, page: Page, revision: Revision, user: User) -> Event:
        """What the older streams about one revision have in common."""
        return {
            "database": self.name,
            "page_id": page.id,
            "page_title": page.title,
            "page_namespace": page.namespace,
            "page_is_redirect": page.redirect,
            "rev_id": revision.id,
            "rev_timestamp": revision.dt,
            "rev_parent_id": revision.parent,
            "rev_minor_edit": revision.minor,
            "performer": _performer(user),
        }

    def _tell_user(self, user: User, kind: str, performer: User | None, *, old: str | None = None, by_system: bool = False) -> None:
        event: Event = {
            "wiki_id": self.name,
            "dt": self.now,
            "user_change_kind": kind,
            "changelog_kind": "insert" if kind == "create" else "update",
            "user": _user(user),
        }
        event |= {"is_autocreate": by_system} if kind == "create" and (by_system or self.revisions % 2) else {}
        event |= {"performer": _user(performer)} if performer else {}
        event |= {"prior_state": {"user": {"user_text": old}}} if old else {}
        self._tell(USERS, event)

    def _tell(self, stream: str, event: Event) -> None:
        number = len(self.events)
        event["$schema"] = SCHEMAS[stream]
        event["meta"] = {"stream": stream, "dt": self.now, "domain": self.domain, "id": f"00000000-0000-4000-8000-{number:012d}"}
        self.events.append((stream, event))


def _user(user: User) -> Event:
    if user.id is None:
        return {"user_text": user.name, "groups": ["*"], "is_bot": False, "is_system": False, "is_temp": False}
    known = {"registration_dt": user.registered} if user.registered else {}
    return {
        "user_id": user.id,
        "user_central_id": 1000 + user.id,
        "user_text": user.name,
        "groups": ["*", "user", *user.groups],
        "is_bot": "bot" in user.groups,
        "is_system": False,
        "is_temp": user.is_temp,
        "edit_count": user.edits,
    } | known


def _performer(user: User) -> Event:
    """A user as the older schemas tell of one."""
    known = {"user_registration_dt": user.registered} if user.registered else {}
    account = {"user_id": user.id, "user_edit_count": user.edits} | known if user.id else {}
    return {"user_text": user.name, "user_groups": ["*", *user.groups], "user_is_bot": "bot" in user.groups} | account


def _page(page: Page) -> Event:
    return {"page_id": page.id, "page_title": page.title, "namespace_id": page.namespace, "is_redirect": page.redirect}


def _visibility(shown: dict[str, bool]) -> Event:
    return {"is_content_visible": shown["text"], "is_editor_visible": shown["user"], "is_comment_visible": shown["comment"]}


def _revision(revision: Revision) -> Event:
    size = len(revision.text.encode())
    event: Event = {
        "rev_id": revision.id,
        "rev_dt": revision.dt,
        "rev_sha1": f"sha1of{revision.text[:1] or 'nothing'}{size}",
        "rev_size": size,
        "is_minor_edit": revision.minor,
        **_visibility(revision.shown),
    }
    event |= {"rev_parent_id": revision.parent} if revision.id % (7 if revision.parent else 2) else {}
    event |= {"editor": _user(revision.editor)} if revision.shown["user"] else {}
    return event | ({"comment": f"made {revision.id}"} if revision.shown["comment"] else {})


STORIES = (
    ("create",),
    ("edit",),
    ("edit", "edit", "revert"),
    ("edit", "revert", "revert"),
    ("resave", "resave", "edit", "revert"),
    ("revert",),
    ("move",),
    ("move", "edit", "revert"),
    ("delete",),
    ("undelete",),
    ("delete", "edit", "undelete"),
    ("delete", "recreate", "merge", "edit"),
    ("hide",),
    ("edit", "hide", "edit", "hide"),
    ("tag",),
    ("tag", "tag"),
    ("register", "rename"),
    ("rename", "edit"),
    ("block", "block"),
    ("block", "edit", "rename"),
    ("turn", "edit", "hide", "tag"),
    ("turn", "rename", "block", "move"),
    ("canary",),
)


@st.composite
def acts(draw: st.DrawFn, most: int = 16) -> list[Act]:
    """What is done, in the order in which it is done: small stories, each about one page or user of one wiki."""
    small = st.integers(0, 6)
    story = st.tuples(
        st.sampled_from(STORIES),
        st.integers(0, 1),
        small,
        st.lists(st.tuples(st.integers(0, 4), small, st.integers(0, 20)), min_size=4, max_size=4),
    )
    told = draw(st.integers(1, most).flatmap(lambda count: st.lists(story, min_size=count, max_size=count)))
    return [
        Act(kind, wait, wiki, who, what, how)
        for kinds, wiki, what, more in told
        for kind, (wait, who, how) in zip(kinds, more, strict=False)
    ]


def lived(acts: Sequence[Act]) -> tuple[list[Wiki], list[tuple[str, Event]]]:
    """The wikis as they are after these acts, and what the streams said, in the order in which it was said."""
    events: list[tuple[str, Event]] = []
    wikis = [Wiki(name, domain, START, events) for name, domain in WIKIS]
    for wiki in wikis:
        wiki.create(Act("create", 0, 0, 0, 0, 1))
    for act in acts:
        wiki = wikis[act.wiki]
        for each in wikis:
            each.now += WAITS[act.wait]
        method: Callable[[Act], None] = getattr(wiki, act.kind)
        method(act)
    return wikis, events


def delivered(events: Sequence[tuple[str, Event]], chance: random.Random, commits: int) -> list[list[tuple[str, Event]]]:
    """The events as they arrive: late, some twice, some never, some sent anew otherwise, in any order, in so many commits.

    Where `meta.dt` is when an event was received it is the later for it; in the older schemas it is when the change happened.
    """
    arriving = []
    for stream, event in events:
        if chance.random() < 0.05:
            continue
        later = event["meta"]["dt"] + timedelta(seconds=chance.choice((0, 0, 1, 40, 7200)))
        late = event if stream in (VISIBILITY, TAGS, BLOCKS) else event | {"meta": event["meta"] | {"dt": later}}
        arriving += [(stream, late)] * (2 if chance.random() < 0.15 else 1)
        if chance.random() < 0.15:
            arriving.append((stream, strange(stream, late, chance)))
    chance.shuffle(arriving)
    batches: list[list[tuple[str, Event]]] = [[] for _ in range(commits)]
    for one in arriving:
        batches[chance.randrange(commits)].append(one)
    return batches


OMITTED = {
    PAGE_CHANGE: [
        *("performer", "prior_state", "meta.id", "meta.dt", "meta.domain", "page.namespace_id", "performer.user_id", "performer.groups"),
        *("performer.user_text", "revision.editor", "revision.rev_sha1", "revision.rev_size", "revision.rev_parent_id"),
        *("revision.is_minor_edit", "revision.is_content_visible", "revision.is_editor_visible", "revision.is_comment_visible"),
    ],
    VISIBILITY: ["meta.id", "meta.domain"],
    TAGS: ["tags", "meta.id", "meta.domain"],
    BLOCKS: ["performer", "meta.id", "meta.domain", "user_id", "user_groups", "blocks.sitewide"],
    USERS: ["performer", "meta.id", "meta.dt", "meta.domain", "user.groups", "user.is_temp", "performer.user_text", "prior_state"],
}
ALTERED: dict[str, dict[str, Sequence[Any]]] = {
    PAGE_CHANGE: {
        "page.page_id": (1, 2, 3),
        "page.page_title": (":Odd", "A:B:C", "None"),
        "page_change_kind": ("create", "edit", "move", "delete", "undelete", "visibility_change"),
        "revision.rev_id": (1, 2, 3, 4),
        "revision.rev_parent_id": (0, 1, 2, 3),
        "revision.rev_sha1": ("x", "sha1ofa1"),
        "performer": ({"user_id": 0, "user_text": "w>Odd"}, {"user_id": 2}, {"user_text": "Ébot", "groups": ["bot"]}, {}),
        "prior_state": ({"page": {"page_id": 1}}, {"page": {"page_id": 2}}, {"revision": {"rev_id": 1, "rev_dt": START, "rev_size": 7}}),
        "wiki_id": ("privatewiki", "dewiki"),
    },
    VISIBILITY: {"rev_id": (1, 2, 3), "visibility": tuple({"text": n % 2 > 0, "user": n % 3 > 0, "comment": n > 3} for n in range(6))},
    TAGS: {"rev_id": (1, 2, 3), "tags": (["x"], [])},
    BLOCKS: {"user_id": (0, -1, 1, 2), "user_text": ("Renamed", "bot")},
    USERS: {
        "user.user_id": (1, 2, 3),
        "user.user_text": ("Renamed", "bot"),
        "is_autocreate": (True, False),
        "performer": ({"user_id": 2},),
    },
}


def strange(stream: str, event: Event, chance: random.Random) -> Event:
    """The event once more as no producer should send it, until one does: a thing left out or altered, some with the id of another."""
    made = {name: dict(value) if isinstance(value, dict) else value for name, value in event.items()}
    if chance.random() < 0.6:
        made["meta"]["id"] = made["meta"]["id"][:-2] + chance.choice("01234567") + "x"
    if chance.random() < 0.5:
        *parents, last = chance.choice(OMITTED[stream]).split(".")
        made = _with(made, parents, last, None)
    else:
        path, values = chance.choice(list(ALTERED[stream].items()))
        *parents, last = path.split(".")
        made = _with(made, parents, last, chance.choice(values))
    if chance.random() < 0.3:
        moment = timedelta(microseconds=chance.choice((1, 500_000, 1_000_000)))
        for parent, name in (("", "dt"), ("revision", "rev_dt"), ("meta", "dt")):
            within = made.get(parent, {}) if parent else made
            if name in within:
                within[name] += moment
    return made


def _with(event: Event, parents: Sequence[str], name: str, value: Any) -> Event:
    within = event
    for parent in parents:
        if parent not in within:
            return event
        within = within[parent]
    if value is None:
        within.pop(name, None)
    else:
        within[name] = value
    return event
