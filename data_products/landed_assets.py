"""Landed products as Dagster assets: a run lands what is pending of one product, or the slices it is asked for, and tells each as it comes.

What a landing does to a table is `platform_resources.landing`'s; here are its life as a run (lock, signals, failure) and its reporting.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from data_products.check_results import check_evaluations, standing_evaluations
from data_products.derived_assets import told_to_users
from data_products.stream_assets import REPORT_SECONDS, stopping_on_signals, tell_commit
from platform_resources.contracts.model import Contract
from platform_resources.contracts.specs import asset_check_specs, asset_spec, partitions_of
from platform_resources.landing.landing import Landing
from platform_resources.landing.reports import LandingCommit, LandingReport
from platform_resources.landing.snapshots import why_absent
from platform_resources.locks import hold
from platform_resources.parts import Parts
from platform_resources.runs import REPORT, asset_key_parts, drain_lock, failed_tag, table_pool, transform_op

OF_DELIVERIES = "deliveries"  # value of the run's `failed_tag` where only deliveries were refused: those rest, not the product


class LandingConfig(dg.Config):
    """What a run lands when it is not simply what is new."""

    again: bool = True
    """Land the run's slices also when they have landed; without slices it says nothing."""
    aside: bool = False
    """Land again what has records in the quarantine, as after the contract was mended."""
    retry: bool = False
    """Try refused deliveries before their rest is over."""
    skip_checks: list[str] = []  # noqa: RUF012 - pydantic copies it
    """Names of checks that do not stop a delivery (recorded)."""


def landed_assets(contracts: Sequence[Contract], parts: Parts) -> list[dg.AssetsDefinition]:
    """One asset for each product; those with slices are partitioned, and one run takes any range of them."""
    return [_landed_asset(contract, parts) for contract in contracts]


def _landed_asset(contract: Contract, parts: Parts) -> dg.AssetsDefinition:
    partitions = partitions_of(contract)
    kind = contract.source.kind if contract.source is not None else ""

    @dg.multi_asset(
        name=transform_op(contract.key),
        specs=[asset_spec(contract, registry=parts.registry, kinds=["iceberg", kind])],
        check_specs=asset_check_specs(contract),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run() if partitions is not None else None,
        can_subset=True,  # also makes the output optional: what a landing did is logged while it runs, not returned
        pool=table_pool(contract.key),
    )
    def _land(context: dg.AssetExecutionContext, config: LandingConfig) -> Iterator[Any]:
        with told_to_users(), hold(parts.settings.locks_path, drain_lock(contract.key), context.run_id):
            _run(context, contract, config, parts, list(context.partition_keys) if partitions is not None else None)
        yield from ()  # a generator, since a plain function would have to return a tuple of outputs

    return _land


def _run(context: dg.AssetExecutionContext, contract: Contract, config: LandingConfig, parts: Parts, keys: Sequence[str] | None) -> None:
    stop, teller = threading.Event(), _Teller(context, contract, parts)
    landing = Landing(
        contract,
        lakehouse=parts.lakehouse,
        settings=parts.settings,
        run_id=context.run_id,
        keys=keys,
        again=config.again and keys is not None,
        aside=config.aside,
        retry=config.retry,
        skip_checks=config.skip_checks,
        on_commit=teller.committed,
    )
    try:
        with stopping_on_signals(stop):
            landing.run(stop=stop)
    finally:
        teller.ended(landing.report, skipped=config.skip_checks)
    _fail_for(context, contract, landing.report)


class _Teller:
    """Tells Dagster what lands: each slice when it has landed; without slices at most once in `REPORT_SECONDS`, and the rest at the end."""

    def __init__(
        self, context: dg.AssetExecutionContext, contract: Contract, parts: Parts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._context, self._contract, self._parts, self._clock = context, contract, parts, clock
        self._told_at, self._untold = -math.inf, 0
        self._last: LandingCommit | None = None
        self._rows, self._counts = 0, Counter[str]()

    def committed(self, commit: LandingCommit) -> None:
        """Take note of a commit and tell it when the time has come."""
        self._last, self._untold, self._rows = commit, self._untold + len(commit.deliveries), self._rows + commit.rows
        self._counts.update(commit.counts)
        if commit.slice is not None or self._clock() - self._told_at >= REPORT_SECONDS:
            self._tell(commit)

    def ended(self, report: LandingReport, *, skipped: Sequence[str]) -> None:
        """Tell what is not told yet, the check results, and the totals as an observation: they are no new version of the data."""
        if self._last is not None and self._untold:
            self._tell(self._last)
        context, contract = self._context, self._contract
        told = {outcome.check.name for outcome in report.checks}
        for evaluation in (*check_evaluations(contract, report.checks), *standing_evaluations(context, contract, told)):
            context.log_event(evaluation)
        metadata: dict[str, Any] = {REPORT: dg.MetadataValue.json(totals(report))}
        metadata |= {"sdp/skipped_checks": sorted(skipped)} if skipped else {}
        context.log_event(dg.AssetObservation(asset_key=asset_key_parts(contract.key), description="The landing ended.", metadata=metadata))

    def _tell(self, commit: LandingCommit) -> None:
        facts: dict[str, Any] = {
            "dagster/row_count": commit.table_rows,
            "sdp/snapshot_id": commit.snapshot_id,
            "sdp/rows": self._rows,
            "sdp/deliveries": self._untold,
            "sdp/delivery": commit.deliveries[-1],
            "sdp/counts": dg.MetadataValue.json(dict(self._counts)),
        }
        if commit.slice is not None:
            facts["dagster/partition_row_count"] = self._rows
        if commit.watermark is not None:
            facts["sdp/watermark"] = dg.MetadataValue.timestamp(commit.watermark)
        tell_commit(self._context, self._contract, self._parts, facts, partition=commit.slice)
        self._told_at, self._untold, self._rows, self._counts = self._clock(), 0, 0, Counter()


def totals(report: LandingReport) -> dict[str, Any]:
    """The stable JSON form of `sdp ingest` for what lands."""
    names = ("read", "inserted", "quarantined", "commits", "deliveries", "slices", "resting", "absent")
    refused = [
        {"delivery": one.delivery, "slice": one.slice, "code": one.code, "message": one.message, "next_try": one.until.isoformat()}
        for one in report.refused
    ]
    branches = [one.branch for one in report.refused if one.branch is not None]
    return {**{name: getattr(report, name) for name in names}, "refused": refused, "refused_branch": branches[0] if branches else None}


def _fail_for(context: dg.AssetExecutionContext, contract: Contract, report: LandingReport) -> None:
    """Fail the run for refused deliveries and for slices that it was asked for and nobody has delivered; what landed stands."""
    if report.superseded:
        context.log.info(f"{contract.key}: another landing took over, this one ended without a further commit.")
    if not report.refused and not report.absent:
        return
    context.instance.add_run_tags(context.run_id, {failed_tag(contract.key): OF_DELIVERIES})
    said = [f"{one.delivery} was refused ({one.code}): {one.message} Next try at {one.until:%H:%M:%S} UTC." for one in report.refused[:5]]
    if len(report.refused) > len(said):
        said.append(f"{len(report.refused) - len(said)} more deliveries were refused; `{contract.quarantine_identifier}` tells why.")
    if report.absent:
        shown = ", ".join(report.absent[:5]) + (f" and {len(report.absent) - 5} more" if len(report.absent) > 5 else "")
        said.append(f"Nothing was delivered for {shown}.{why_absent(contract)}")
    checks = {name for one in report.refused for name in one.checks}
    raise dg.Failure(
        description=f"{contract.key}: " + " ".join(said),
        metadata={"sdp/code": "check-failed" if checks else "delivery-refused" if report.refused else "slice-absent"},
        allow_retries=False,
    )
