"""What starts drains: one sensor per code location that looks at the lag of its streams and asks for runs where nobody drains.

A drain run takes all quiet streams of the location at once, so that a hundred small streams cost one process; a loud stream gets a
run of its own. The sensor keeps no cursor: lag is the log's end against the position in the table, so nothing can drift.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.parts import Parts
from platform_resources.runs import drain_lock, drain_tag, drain_tags
from platform_resources.streams.lagging import lag
from sensors.liveness import active_work, drain_failed, history, keys_of, lock_holders, seconds
from sensors.proposing import Proposal, proposing_sensor

INTERVAL_SECONDS = 5


@dataclass(frozen=True)
class Need:
    """Why a stream wants a drain (events that wait, an idle stream whose heartbeat is due), or until when a refused batch lets it rest."""

    events: int
    heartbeat: bool
    blocked_until: datetime | None = None

    def __bool__(self) -> bool:
        return self.blocked_until is None and (self.events > 0 or self.heartbeat)

    def __str__(self) -> str:
        return f"{self.events} events wait" if self.events else "its heartbeat is due"


def need_of(contract: Contract, parts: Parts) -> Need:
    """What the log and the table say of one stream, cheaply."""
    found = lag(contract, parts.lakehouse, parts.log)
    return Need(found.events, found.heartbeat_due, found.blocked_until)


def stream_sensor(domain: str, contracts: Sequence[Contract], parts: Parts) -> dg.SensorDefinition:
    """The sensor of one location's streams."""
    return proposing_sensor(
        domain,
        "streams",
        (contract.key for contract in contracts),
        lambda instance: propose_drains(instance, domain, contracts, parts),
        description="Starts a drain when events wait on the log, or when an idle stream owes a heartbeat, and nobody drains.",
        idle="Every stream is drained to its end.",
        every=INTERVAL_SECONDS,
    )


def propose_drains(
    instance: dg.DagsterInstance,
    domain: str,
    contracts: Sequence[Contract],
    parts: Parts,
    *,
    need: Callable[[Contract, Parts], Need] = need_of,
    now: Callable[[], float] = time.time,
) -> Proposal:
    """Runs to start, and one sentence for each stream that has to wait or cannot be looked at."""
    keys = [contract.key for contract in contracts]
    working = {key: work.run_id for work in active_work(instance, keys, parts.settings) for key in work.products}
    foreground = lock_holders(keys, drain_lock, parts.settings)
    reasons: list[str] = []
    needs: dict[str, Need] = {}
    for contract in contracts:
        if contract.key in working or contract.key in foreground:
            continue
        try:
            found = need(contract, parts)
        except Exception as error:  # noqa: BLE001 - one stream's fault must not stop the others of the location
            reasons.append(f"{contract.key}: {error if isinstance(error, PlatformError) else repr(error)}")
            continue
        if found.blocked_until is not None:
            reasons.append(f"{contract.key}: a batch was refused by a check, next try at {found.blocked_until:%H:%M:%S} UTC.")
            continue
        needs[contract.key] = found
    if not any(needs.values()):
        return [], reasons
    resting = _resting(instance, contracts, needs, reasons, now())
    free = [contract for contract in contracts if contract.key in needs and contract.key not in resting]
    requests = [_request([contract.key]) for contract in free if contract.loud and needs[contract.key]]
    if any(needs[contract.key] for contract in free if not contract.loud):
        # Streams that a live run has already are asked for too: that run gives way as soon as this one is in the queue.
        takes = {contract.key for contract in free} | working.keys()
        requests.append(_request([contract.key for contract in contracts if not contract.loud and contract.key in takes]))
    return requests, reasons


def _resting(
    instance: dg.DagsterInstance, contracts: Sequence[Contract], needs: Mapping[str, Need], reasons: list[str], now: float
) -> frozenset[str]:
    """Streams whose delay after failed drains is not over."""
    resting = set()
    for contract in contracts:
        if contract.key not in needs:
            continue
        past = history(instance, drain_tag(contract.key), drain_failed(contract.key, contract.fingerprint))
        wait = past.wait(now) if past.failures else 0.0
        if wait:
            resting.add(contract.key)
            if needs[contract.key]:
                failed = "the last drain failed" if past.failures == 1 else f"the last {past.failures} drains failed"
                reasons.append(f"{contract.key}: {needs[contract.key]}; {failed}, next try in {seconds(wait)}.")
    return frozenset(resting)


def _request(keys: Sequence[str]) -> dg.RunRequest:
    return dg.RunRequest(asset_selection=keys_of(keys), tags=drain_tags(keys))
