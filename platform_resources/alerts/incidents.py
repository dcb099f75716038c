"""Incidents: what is broken now, since when, and what nobody has been told yet. Pure state; no Dagster, no mail.

A failure opens an incident for its product and cause unless one is open; only opening makes a message. A recovery closes it silently,
and the same failure after that opens the next. What could not be delivered stays pending.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace

RUN, FRESHNESS, CHECK = "run", "freshness", "check:"


@dataclass(frozen=True)
class Incident:
    """Something that fails: `cause` is `run`, `freshness` or `check:NAME`; `since` in seconds since 1970; `what` a sentence; `more`
    what its owner wants to know besides, in lines of their own.
    """

    product: str
    cause: str
    what: str
    since: float
    run_id: str | None = None
    blocking: bool = True
    more: str = ""

    @property
    def id(self) -> str:
        """Names this incident and no later one of the same product and cause."""
        return f"{self.product}|{self.cause}|{self.since:.3f}"


@dataclass
class IncidentBook:
    """The incidents of one domain.

    `horizon` is the time of the newest fact taken in, `seen` the facts within the overlap before it, by time: facts are read again
    over that overlap, since they do not become visible in the order of their times.
    """

    horizon: float
    overlap: float = 60.0
    open: dict[str, Incident] = field(default_factory=dict)
    pending: list[Incident] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)

    def is_new(self, fact: str, when: float) -> bool:
        """Whether a fact is not taken in yet; takes it in."""
        if fact in self.seen or when <= self.horizon - self.overlap:
            return False
        self.seen[fact] = when
        return True

    def turn_page(self) -> None:
        """Move the horizon to the newest fact and forget those before the overlap."""
        self.horizon = max([self.horizon, *self.seen.values()])
        self.seen = {fact: when for fact, when in self.seen.items() if when > self.horizon - self.overlap}

    def fail(self, incident: Incident) -> None:
        """Something fails: opens an incident unless it is open."""
        key = _key(incident.product, incident.cause)
        if key not in self.open:
            self.pending.append(incident)
            self.open[key] = incident
        elif incident.cause.startswith(CHECK):  # it failed again: which run did matters to `published`
            self.open[key] = replace(self.open[key], run_id=incident.run_id)

    def recover(self, product: str, cause: str) -> None:
        """It works again."""
        self.open.pop(_key(product, cause), None)

    def published(self, product: str, run_id: str) -> None:
        """A run of the product ended well: what kept it from being published is over, but for checks that failed in this very run."""
        for incident in list(self.open.values()):
            stopped = incident.cause == RUN or (incident.cause.startswith(CHECK) and incident.blocking)
            if incident.product == product and stopped and incident.run_id != run_id:
                self.recover(product, incident.cause)

    def failed_check_in(self, product: str, run_id: str) -> bool:
        """Whether a check of the product failed in that run: then the run's failure is no incident of its own."""
        return any(i.product == product and i.cause.startswith(CHECK) and i.run_id == run_id for i in (*self.open.values(), *self.pending))

    def delivered(self, ids: Collection[str]) -> None:
        """These incidents have been told."""
        self.pending = [incident for incident in self.pending if incident.id not in ids]

    def to_text(self) -> str:
        """As a sensor's cursor keeps it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> IncidentBook:
        """The book that `to_text` wrote."""
        values = json.loads(text)
        values["open"] = {key: Incident(**incident) for key, incident in values["open"].items()}
        values["pending"] = [Incident(**incident) for incident in values["pending"]]
        return cls(**values)


def _key(product: str, cause: str) -> str:
    return f"{product}|{cause}"
