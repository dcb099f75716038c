"""What starts transforms: one sensor per code location that compares the heads of each product's inputs with the position in its stamp.

Dagster's own automation conditions are not used: `eager()` waits while an upstream is in progress, and a stream always is; and a
commit that lands while the downstream runs is lost to them (both tried). A comparison of snapshots can miss nothing: what is not in
the stamp is still to be done, whoever committed it and whenever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import dagster as dg

from platform_resources.errors import PlatformError
from platform_resources.parts import Parts
from platform_resources.runs import CODE_TAG, run_lock, transform_tag, transform_tags
from sensors.liveness import active_work, history, keys_of, last_failed, lock_holders, seconds, transform_failed
from sensors.proposing import Proposal, Transformed, proposing_sensor

INTERVAL_SECONDS = 5


class Derivable(Transformed, Protocol):
    """A derived product as automation sees it."""

    def is_behind(self) -> bool:
        """Whether an input has a snapshot that its own position does not cover."""


def automation_sensor(domain: str, products: Sequence[Derivable], parts: Parts) -> dg.SensorDefinition:
    """The sensor of one location's derived products."""
    return proposing_sensor(
        domain,
        "automation",
        (product.contract.key for product in products),
        lambda instance: propose_transforms(instance, products, parts),
        description="Computes a product when an input has a snapshot that the product's own position does not cover.",
        idle="Every product has seen all of its inputs.",
        every=INTERVAL_SECONDS,
    )


def propose_transforms(
    instance: dg.DagsterInstance, products: Sequence[Derivable], parts: Parts, *, now: Callable[[], float] = time.time
) -> Proposal:
    """One run for each product that is behind and may start, and one sentence for each that has to wait."""
    keys = [product.contract.key for product in products]
    working = {key for work in active_work(instance, keys, parts.settings) for key in work.products}
    working |= lock_holders(keys, run_lock, parts.settings).keys()
    requests, reasons = [], []
    for product in products:
        key = product.contract.key
        if key in working:
            continue
        try:
            reason = _obstacle(instance, product, parts, now())
        except Exception as error:  # noqa: BLE001 - one product's fault, a lost metadata file say, must not stop the others
            reason = str(error) if isinstance(error, PlatformError) else f"cannot be looked at: {error!r}"
        if reason is None:
            requests.append(dg.RunRequest(asset_selection=keys_of([key]), tags=transform_tags(key, code_version=product.code_version)))
        elif reason:
            reasons.append(f"{key}: {reason}")
    return requests, reasons


def _obstacle(instance: dg.DagsterInstance, product: Derivable, parts: Parts, now: float) -> str | None:
    """Why the product does not run now: a sentence, "" when it simply has nothing to do, None when it may run.

    A product whose last run failed, and which is not behind all the same, had a mistake that is reverted: one run more, which changes
    nothing, lets the results of the published rows stand again and ends the incident.
    """
    needed = (key for key in product.inputs if key not in product.contract.optional_inputs)
    absent = [key for key in needed if parts.lakehouse.table(key.replace("/", ".")) is None]
    if absent:
        return f"waits for the first rows of {', '.join(absent)}."
    behind = product.is_behind()
    if not behind and not last_failed(instance, transform_tag(product.contract.key)):
        return ""
    past = history(instance, transform_tag(product.contract.key), transform_failed(CODE_TAG, product.code_version))
    wait = past.wait(now, product.contract.sla.frequency.total_seconds())
    if wait and past.failures:
        failed = "the last run failed" if past.failures == 1 else f"the last {past.failures} runs failed"
        return f"{failed}, next try in {seconds(wait)}."
    what = "is behind, refreshed" if behind else "failed by a mistake that is reverted, confirmed"
    return f"{what} in {seconds(wait)} as its frequency says." if wait else None
