"""What starts drains: one sensor per code location that looks at the lag of its streams and asks for runs where nobody drains.

A drain run takes all quiet streams of the location at once, so that a hundred small streams cost one process; a loud stream gets a
run of its own. The sensor keeps no cursor: lag is the log's end against the position in the table, so nothing can drift.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.parts import Parts
from platform_resources.runs import drain_lock, drain_tag, drain_tags
from sensors.liveness import active_work, drain_failed, history, keys_of, lock_holders, seconds

INTERVAL_SECONDS = 5


@dataclass(frozen=True)
class Need:
    """Why a stream wants a drain: events that wait, or an idle stream whose heartbeat is due."""

    events: int
    heartbeat: bool

    def __bool__(self) -> bool:
        return self.events > 0 or self.heartbeat

    def __str__(self) -> str:
        return f"{self.events} events wait" if self.events else "heartbeat due"


def need_of(contract: Contract, parts: Parts) -> Need:
    """What the log and the table say of one stream, cheaply."""
    from platform_resources.streams.ingestion import lag

    found = lag(contract, parts.lakehouse, parts.log)
    return Need(found.events, found.heartbeat_due)


def stream_sensor(domain: str, contracts: Sequence[Contract], parts: Parts) -> dg.SensorDefinition:
    """The sensor of one location's streams, running by default."""

    @dg.sensor(
        name=f"{domain}_streams",
        target=dg.AssetSelection.assets(*keys_of(contract.key for contract in contracts)),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a drain when events wait on the log, or when an idle stream owes a heartbeat, and nobody drains.",
        tags={"sdp/domain": domain},
    )
    def _streams(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        requests, reasons = propose_drains(context.instance, domain, contracts, parts)
        for reason in reasons:
            context.log.info(reason)
        return dg.SensorResult(
            run_requests=requests, skip_reason=None if requests else "; ".join(reasons) or "Every stream is drained to its end."
        )

    return _streams


def propose_drains(
    instance: dg.DagsterInstance,
    domain: str,
    contracts: Sequence[Contract],
    parts: Parts,
    *,
    need: Callable[[Contract, Parts], Need] = need_of,
    now: Callable[[], float] = time.time,
) -> tuple[list[dg.RunRequest], list[str]]:
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
            needs[contract.key] = need(contract, parts)
        except PlatformError as error:  # one stream's fault must not stop the others of the location
            reasons.append(f"{contract.key}: {error}")
    wanted = {key: found for key, found in needs.items() if found}
    if not wanted:
        return [], reasons
    rested = _rested(instance, contracts, needs, reasons, now())
    quiet = [contract.key for contract in contracts if not contract.loud and (contract.key in rested or contract.key in working)]
    requests = [_request([contract.key]) for contract in contracts if contract.loud and contract.key in wanted and contract.key in rested]
    if any(key in wanted and key in rested for key in quiet):
        # Streams that a live run has already are asked for too: that run gives way as soon as this one is in the queue.
        requests.append(_request(quiet))
    return requests, reasons


def _rested(
    instance: dg.DagsterInstance, contracts: Sequence[Contract], needs: Mapping[str, Need], reasons: list[str], now: float
) -> frozenset[str]:
    """Streams that may start now: those whose drains did not fail, or whose delay after failures is over."""
    rested = set()
    for contract in contracts:
        if contract.key not in needs:
            continue
        past = history(instance, drain_tag(contract.key), drain_failed(contract.key, contract.fingerprint))
        wait = past.wait(now) if past.failures else 0.0
        if wait:
            reasons.append(f"{contract.key}: {needs[contract.key]}; {past.failures} drains failed in a row, next try in {seconds(wait)}.")
        else:
            rested.add(contract.key)
    return frozenset(rested)


def _request(keys: Sequence[str]) -> dg.RunRequest:
    return dg.RunRequest(asset_selection=keys_of(keys), tags=drain_tags(keys))
