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
from platform_resources.errors import PlatformError
from platform_resources.landing.source import Delivery, Landed


@dataclass(frozen=True, slots=True)
class Increment(Delivery):
    """What came behind a cursor: after the position `after`, None from the beginning."""

    after: str | None = None


def merges(contract: Contract) -> bool:
    """Whether reading a row twice changes nothing."""
    return contract.write_mode == "merge"


def position_of(contract: Contract, cursor: str, landed: Landed) -> str | None:
    """Where the last increment ended; None before the first one, and of merged rows when another cursor took over.

    Raises:
        PlatformError: `cursor-changed`: rows that were appended by another cursor would all be appended again.
    """
    if landed and cursor not in landed and not merges(contract):
        raise PlatformError(
            "cursor-changed",
            f"The rows of {contract.key} were appended by the cursor {', '.join(landed)}, and by {cursor} all of them would come again.",
            "Keep the cursor, or begin anew under another product name (a draft: `sdp ingest --recreate`).",
            file=contract.path,
        )
    return landed.get(cursor)


def takes_newest(contract: Contract, cursor: str, *, overlap: bool) -> bool:
    """Whether rows with the newest value are taken at once: they do no harm twice, or get no company."""
    unique = contract.column(cursor).unique or contract.primary_key == (cursor,)
    return merges(contract) or (unique and not overlap)
