"""What starts landings: one sensor per code location that asks each product's source what is there and has not landed.

It keeps no cursor: what has landed stands in the position of the product's own table, so nothing can drift, and what foreground commands
or backfills landed is seen at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import FILE_KINDS
from platform_resources.errors import PlatformError
from platform_resources.landing.pending import Outlook, outlook
from platform_resources.parts import Parts
from platform_resources.runs import drain_lock, drain_tag, land_config, land_tags
from sensors.liveness import active_work, drain_failed, history, keys_of, lock_holders, seconds
from sensors.proposing import Proposal, proposing_sensor

INTERVAL_SECONDS = 15


def outlook_of(contract: Contract, parts: Parts) -> Outlook:
    """What a landing of one product would do now."""
    return outlook(contract, parts.lakehouse, parts.settings, now=datetime.now(UTC))


def landing_sensor(domain: str, contracts: Sequence[Contract], parts: Parts) -> dg.SensorDefinition:
    """The sensor of one location's landed products."""
    looked: dict[str, float] = {}
    return proposing_sensor(
        domain,
        "landing",
        (contract.key for contract in contracts),
        lambda instance: propose_landings(instance, contracts, parts, looked=looked),
        description="Lands what a source has and the table has not: new and changed files, snapshots due, what is behind a cursor.",
        idle="Everything that is there has landed.",
        every=INTERVAL_SECONDS,
    )


def propose_landings(
    instance: dg.DagsterInstance,
    contracts: Sequence[Contract],
    parts: Parts,
    *,
    looked: dict[str, float] | None = None,
    look: Callable[[Contract, Parts], Outlook] = outlook_of,
    now: Callable[[], float] = time.time,
) -> Proposal:
    """One run for each product with something to land, and one sentence for each that has to wait or cannot be looked at.

    `looked` keeps when each database and API was looked at last: another team's server is asked once per `frequency`, not at every tick.
    """
    looked = {} if looked is None else looked
    keys = [contract.key for contract in contracts]
    working = {key for work in active_work(instance, keys, parts.settings) for key in work.products}
    working |= lock_holders(keys, drain_lock, parts.settings).keys()
    requests, reasons = [], []
    for contract in contracts:
        if contract.key in working:
            continue
        past = history(instance, drain_tag(contract.key), drain_failed(contract.key, contract.fingerprint))
        wait = past.wait(now()) if past.failures else 0.0
        if wait:
            failed = "the last landing failed" if past.failures == 1 else f"the last {past.failures} landings failed"
            reasons.append(f"{contract.key}: {failed}, next try in {seconds(wait)}.")
            continue
        if contract.source is not None and contract.source.kind not in FILE_KINDS:
            if now() - looked.get(contract.key, 0.0) < contract.sla.frequency.total_seconds():
                continue
            looked[contract.key] = now()
        try:
            found = look(contract, parts)
        except Exception as error:  # noqa: BLE001 - one source's fault must not stop the others of the location
            reasons.append(f"{contract.key}: {error if isinstance(error, PlatformError) else repr(error)}")
            continue
        if found.resting:
            unit, until = found.resting[0]
            reasons.append(f"{contract.key}: {unit.deliveries[0].name} was refused, next try at {until:%H:%M:%S} UTC.")
        if found:
            requests.append(_request(contract, found))
    return requests, reasons


def _request(contract: Contract, found: Outlook) -> dg.RunRequest:
    """A run for what is pending; of a product with slices for the range that they span, in which it lands only what is new."""
    tags, slices = land_tags(contract.key), contract.slices
    if slices is not None:
        starts = sorted(unit.slice for unit in found.units if unit.slice is not None)
        tags |= {ASSET_PARTITION_RANGE_START_TAG: slices.key(starts[0]), ASSET_PARTITION_RANGE_END_TAG: slices.key(starts[-1])}
    return dg.RunRequest(asset_selection=keys_of([contract.key]), tags=tags, run_config=land_config(contract.key))
