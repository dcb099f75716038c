"""Increments behind a cursor: the law by which a source that shows its rows in no fixed deliveries loses none and doubles none.

| product | an increment takes, after position P with newest value M | because |
|---|---|---|
| merge | P - overlap <= cursor <= M | a row that is read twice changes nothing |
| append, cursor unique | P < cursor <= M | |
| append, else | P <= cursor < M - overlap | rows with the newest value may still get company: they wait until there is a newer one |
"""

from __future__ import annotations

from dataclasses import dataclass

from platform_resources.contracts.model import Contract
from platform_resources.landing.source import Delivery


@dataclass(frozen=True, slots=True)
class Increment(Delivery):
    """What came behind a cursor: after the position `after`, None from the beginning."""

    after: str | None = None


def merges(contract: Contract) -> bool:
    """Whether reading a row twice changes nothing."""
    return contract.write_mode == "merge"


def takes_newest(contract: Contract, cursor: str, *, overlap: bool) -> bool:
    """Whether rows with the newest value are taken at once: they do no harm twice, or get no company."""
    unique = contract.column(cursor).unique or contract.primary_key == (cursor,)
    return merges(contract) or (unique and not overlap)
