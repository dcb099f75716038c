"""Products that publish files as Dagster assets: a run publishes the slices it is asked for, one after the other, and tells each.

What becomes of a slice is `platform_resources.serving`'s; here are its life as a run (lock, signals, failure) and its reporting.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from data_products.check_results import check_evaluations
from data_products.derived_assets import TransformedProduct, told_to_users
from data_products.stream_assets import stopping_on_signals, tell_commit
from io_managers.iceberg import refusal
from platform_resources.contracts.specs import asset_check_specs, asset_spec, partitions_of
from platform_resources.locks import hold
from platform_resources.runs import asset_key_parts, run_lock, table_pool, transform_op
from platform_resources.serving.publishing import Blocked, DumpFile, Published, Publishing, Stopped


class PublishConfig(dg.Config):
    """How a run publishes its slices."""

    anew: bool = False
    """Begin from the inputs as they are now, also where an earlier run left part of a slice."""


def published_assets(products: Sequence[TransformedProduct]) -> list[dg.AssetsDefinition]:
    """One partitioned asset for each product; one run takes any range of its slices."""
    return [_published_asset(product) for product in products]


def _published_asset(product: TransformedProduct) -> dg.AssetsDefinition:
    contract, parts = product.contract, product.parts
    publishes = contract.publication.kind if contract.publication is not None else ""

    @dg.multi_asset(
        name=transform_op(contract.key),
        specs=[
            asset_spec(
                contract,
                registry=parts.registry,
                deps=[dg.AssetKey(asset_key_parts(key)) for key in product.inputs],
                kinds=["iceberg", "sql", publishes],
                code_version=product.code_version,
            )
        ],
        check_specs=asset_check_specs(contract),
        partitions_def=partitions_of(contract),
        backfill_policy=dg.BackfillPolicy.single_run(),
        can_subset=True,  # also makes the output optional: each slice is logged when it is published, not returned
        pool=table_pool(contract.key),
    )
    def _publish(context: dg.AssetExecutionContext, config: PublishConfig) -> Iterator[Any]:
        with told_to_users(), hold(parts.settings.locks_path, run_lock(contract.key), context.run_id):
            _run(context, product, config, list(context.partition_keys))
        yield from ()  # a generator, since a plain function would have to return a tuple of outputs

    return _publish


def _run(context: dg.AssetExecutionContext, product: TransformedProduct, config: PublishConfig, keys: Sequence[str]) -> None:
    contract, parts, stop = product.contract, product.parts, threading.Event()

    def tell(file: DumpFile) -> None:
        context.log.info(f"{file.name}: {file.page_count:,} pages, {file.revision_count:,} revisions, {file.bytes:,} bytes")

    publishing = Publishing(
        contract,
        product.transform,
        lakehouse=parts.lakehouse,
        registry=parts.registry,
        settings=parts.settings,
        run_id=context.run_id,
        anew=config.anew,
        on_file=tell,
        stop=stop,
    )
    with stopping_on_signals(stop):
        for key in keys:
            try:
                published = publishing.publish(key)
            except Blocked as blocked:
                for evaluation in check_evaluations(contract, blocked.outcomes):
                    context.log_event(evaluation)
                raise refusal(
                    contract, context.run_id, [one for one in blocked.outcomes if one.check.blocking and not one.passed]
                ) from None
            except Stopped:
                raise dg.DagsterExecutionInterruptedError("Stopped between two revisions; the next run goes on from there.") from None
            if published is not None:
                _tell(context, product, published)


def _tell(context: dg.AssetExecutionContext, product: TransformedProduct, published: Published) -> None:
    """Log the slice as a materialisation, and its checks."""
    files = published.files
    facts: dict[str, Any] = {
        "dagster/row_count": published.commit.table_rows,
        "dagster/partition_row_count": len(files),
        "sdp/snapshot_id": published.commit.snapshot_id,
        "sdp/rows": published.commit.rows,
        "sdp/files": len(files),
        "sdp/files_kept": published.kept,
        "sdp/files_removed": len(published.removed),
        "sdp/published_bytes": sum(one.bytes for one in files),
        "sdp/pages": sum(one.page_count for one in files),
        "sdp/revisions": sum(one.revision_count for one in files),
        "sdp/position": dg.MetadataValue.json(dict(published.position)),
    }
    tell_commit(context, product.contract, product.parts, facts, partition=published.slice)
    for evaluation in check_evaluations(product.contract, published.outcomes):
        context.log_event(evaluation)
