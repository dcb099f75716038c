"""What starts publications: one sensor per code location that looks whether the newest dump of each product is due and not there yet.

Older dates are published when somebody asks for them: a backfill of years must not begin by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.stamp import read_watermark
from platform_resources.parts import Parts
from platform_resources.runs import CODE_TAG, publish_config, run_lock, transform_tag, transform_tags
from platform_resources.serving.publishing import due
from sensors.liveness import active_work, history, keys_of, lock_holders, seconds, transform_failed
from sensors.proposing import Proposal, Transformed, proposing_sensor

INTERVAL_SECONDS = 60


def publishing_sensor(domain: str, products: Sequence[Transformed], parts: Parts) -> dg.SensorDefinition:
    """The sensor of one location's publications."""
    return proposing_sensor(
        domain,
        "publishing",
        (product.contract.key for product in products),
        lambda instance: propose_publications(instance, products, parts),
        description="Publishes the newest dump of a product when its date has come and its inputs are complete up to it.",
        idle="Every dump is published.",
        every=INTERVAL_SECONDS,
    )


def propose_publications(
    instance: dg.DagsterInstance, products: Sequence[Transformed], parts: Parts, *, now: Callable[[], float] = time.time
) -> Proposal:
    """One run for each product whose newest dump is due, and one sentence for each that has to wait."""
    keys = [product.contract.key for product in products]
    working = {key for work in active_work(instance, keys, parts.settings) for key in work.products}
    working |= lock_holders(keys, run_lock, parts.settings).keys()
    requests, reasons = [], []
    for product in products:
        key = product.contract.key
        if key in working:
            continue
        try:
            slice_key = due(product.contract, parts.lakehouse.table(product.contract.identifier), datetime.fromtimestamp(now(), UTC))
            if slice_key is None:
                continue
            reason = _obstacle(instance, product, parts, slice_key, now())
        except Exception as error:  # noqa: BLE001 - one product's fault must not stop the others of the location
            reason = str(error) if isinstance(error, PlatformError) else f"cannot be looked at: {error!r}"
        if reason:
            reasons.append(f"{key}: {reason}")
            continue
        requests.append(
            dg.RunRequest(
                asset_selection=keys_of([key]),
                tags={
                    **transform_tags(key, code_version=product.code_version),
                    ASSET_PARTITION_RANGE_START_TAG: slice_key,
                    ASSET_PARTITION_RANGE_END_TAG: slice_key,
                },
                run_config=publish_config(key),
            )
        )
    return requests, reasons


def _obstacle(instance: dg.DagsterInstance, product: Transformed, parts: Parts, slice_key: str, now: float) -> str | None:
    """Why the dump is not made now, a sentence; None when it may be."""
    publication = product.contract.publication
    start = publication.slices.at(slice_key) if publication is not None else datetime.fromtimestamp(now, UTC)
    for key in product.inputs:
        table = parts.lakehouse.table(key.replace("/", "."))
        if table is None or table.metadata.current_snapshot_id is None:
            return f"waits for the first rows of {key}."
        mark = read_watermark(table)
        lands = parts.registry.get(key).lands  # what lands by slices says the end of its newest slice, which a dump needs not wait for
        if mark is not None and mark < start and not lands:
            return f"{slice_key} waits for {key}, which is complete up to {mark:%Y-%m-%d %H:%M} only."
    past = history(instance, transform_tag(product.contract.key), transform_failed(CODE_TAG, product.code_version))
    wait = past.wait(now) if past.failures else 0.0
    return f"the last {past.failures} runs failed, next try in {seconds(wait)}." if wait else None
