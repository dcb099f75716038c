"""Stream products as Dagster assets: a bounded run drains a set of streams and tells what it commits while it runs.

What a drain does to a table is `platform_resources.streams.ingestion`'s; here are its life as a run (locks, signals, giving way to a
successor) and its reporting.
"""

import math
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import dagster as dg
from dagster import DagsterExecutionInterruptedError, DagsterRunStatus, RunsFilter

from data_products.check_results import check_evaluations, standing_evaluations
from data_products.derived_assets import told_to_users
from io_managers.iceberg import data_version, table_facts
from platform_resources.contracts.model import Contract
from platform_resources.contracts.specs import asset_check_specs, asset_spec
from platform_resources.errors import PlatformError
from platform_resources.locks import hold
from platform_resources.parts import Parts
from platform_resources.runs import (
    DOMAIN_TAG,
    DRAIN,
    KIND_TAG,
    REPORT,
    asset_key_parts,
    code_version,
    drain_lock,
    drain_op,
    failed_tag,
    look_at,
    refused_branch,
)
from platform_resources.streams.ingestion import Drain, DrainCommit, DrainReport, drain_all

REPORT_SECONDS = 15.0  # at most one materialisation per product in this time: each is a row of the event log, whatever the commit rate
IDLE_SECONDS = 10.0  # a drain ends after this long without events; the sensor starts the next within 5 s of the next event
YIELD_SECONDS = 5.0  # how often a drain looks for a successor in the queue


class DrainConfig(dg.Config):
    """How long a drain lives and which checks it does not stop at."""

    until: str = "idle"
    """`idle`: bounded, and ends when nothing comes. `end`: up to the log end seen at start. `stopped`: until it is stopped."""
    seconds: float | None = None
    """Bound of an `idle` drain, seconds; default: the setting drain_seconds."""
    skip_checks: list[str] = []  # noqa: RUF012 - pydantic copies it
    """Names of aggregate checks that do not stop the drain (recorded)."""
    accept_loss: bool = False
    """Go on behind events that the log's retention deleted unread (recorded)."""


def stream_assets(contracts: Sequence[Contract], parts: Parts) -> list[dg.AssetsDefinition]:
    """One multi-asset for the quiet streams of a location, one more for each loud stream."""
    quiet = [contract for contract in contracts if not contract.loud]
    assets = [_drain_asset(drain_op(quiet[0].domain), quiet, parts)] if quiet else []
    return assets + [_drain_asset(drain_op(contract.domain, contract.key), [contract], parts) for contract in contracts if contract.loud]


def _drain_asset(name: str, contracts: Sequence[Contract], parts: Parts) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=name,
        specs=[
            asset_spec(
                contract,
                registry=parts.registry,
                kinds=["iceberg", "kafka" if parts.settings.log_kind == "kafka" else "stream"],
            )
            for contract in contracts
        ],
        check_specs=[spec for contract in contracts for spec in asset_check_specs(contract)],
        can_subset=True,  # also makes every output optional: what a drain did is logged while it runs, not returned
        pool=name,
    )
    def _drain(context: dg.AssetExecutionContext, config: DrainConfig) -> Iterator[Any]:
        selected = [contract for contract in contracts if dg.AssetKey(asset_key_parts(contract.key)) in context.selected_asset_keys]
        with told_to_users():
            drain_streams(context, config, selected, parts)
        yield from ()  # a generator, since a plain function would have to return a tuple of outputs

    return _drain


def drain_streams(
    context: dg.AssetExecutionContext, config: DrainConfig, contracts: Sequence[Contract], parts: Parts
) -> dict[str, DrainReport]:
    """Drain these streams in this run, whole: take their locks, ingest, report, and fail in the end for those that could not go on."""
    stop, settings = threading.Event(), parts.settings
    with ExitStack() as stack:
        own = [contract for contract in contracts if _taken(stack, context, contract, parts)]
        reporters = {contract.key: Reporter(context, contract, parts, skipped=config.skip_checks) for contract in own}
        drains = [
            Drain(
                contract,
                lakehouse=parts.lakehouse,
                log=parts.log,
                run_id=context.run_id,
                settings=settings,
                code_version=code_version(contract.fingerprint),
                skip_checks=config.skip_checks,
                accept_loss=config.accept_loss,
                on_commit=reporters[contract.key].committed,
                on_end=reporters[contract.key].ended,
            )
            for contract in own
        ]
        interrupted = stack.enter_context(stopping_on_signals(stop))
        if config.until == "idle" and own:
            stack.enter_context(giving_way(context, own[0].domain, stop))
        reports = _run(drains, config, settings.drain_seconds, stop)
    _fail_for(context, own, reports)
    if interrupted.is_set():
        _end_stopped(context)
    return reports


def _end_stopped(context: dg.AssetExecutionContext) -> None:
    """End a drain that a signal stopped: cancelled if that was asked for in Dagster. Else (Ctrl-C in `sdp ingest`, the platform goes
    down) it ends well: Dagster would count the exception as a failure, and somebody would get a mail for a restart.
    """
    context.log.info("The drain was asked to stop and has stopped after its last commit.")
    run = context.instance.get_run_by_id(context.run_id)
    if run is not None and run.status == DagsterRunStatus.CANCELING:
        raise DagsterExecutionInterruptedError("Cancelled after the last commit.")


def _taken(stack: ExitStack, context: dg.AssetExecutionContext, contract: Contract, parts: Parts) -> bool:
    """Take the product's lock; False, with a word in the log, when another drain on this machine has it."""
    try:
        stack.enter_context(hold(parts.settings.locks_path, drain_lock(contract.key), context.run_id))
    except PlatformError as busy:
        context.log.warning(f"{contract.key} is left to the drain that has it: {busy}")
        return False
    return True


def _run(drains: Sequence[Drain], config: DrainConfig, drain_seconds: float, stop: threading.Event) -> dict[str, DrainReport]:
    if config.until == "idle":
        return drain_all(drains, seconds=config.seconds or drain_seconds, idle_seconds=IDLE_SECONDS, stop=stop)
    if config.until == "stopped":
        return drain_all(drains, seconds=None, idle_seconds=None, stop=stop)
    if config.until == "end":
        return {drain.contract.key: drain.run(until="end", stop=stop) for drain in drains}
    raise PlatformError("drain-until-unknown", f"A drain cannot run until {config.until!r}.", "Use idle, end or stopped.")


class Reporter:
    """Tells Dagster what a drain commits: at most one materialisation per product in `REPORT_SECONDS`, and one for the rest at the end.

    Its end is told at once, not with the run's: a stream that a check stopped would else wait for its neighbours, and its owner for
    the mail. `skipped` are the checks that the drain was told not to stop at.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        contract: Contract,
        parts: Parts,
        *,
        skipped: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._contract, self._parts, self._clock = context, contract, parts, clock
        self._skipped = {"sdp/skipped_checks": sorted(skipped)} if skipped else {}
        self._told_at = -math.inf
        self._untold: DrainCommit | None = None
        self._rows = 0
        self._counts: Counter[str] = Counter()

    def committed(self, commit: DrainCommit) -> None:
        """Take note of a commit and tell it when the time has come."""
        self._untold = commit
        self._rows += commit.rows
        self._counts.update(commit.counts)
        if self._clock() - self._told_at >= REPORT_SECONDS:
            self._tell(commit)

    def ended(self, report: DrainReport) -> None:
        """Tell what is not told yet, the check results, and the totals as an observation: they are no new version of the data."""
        if self._untold is not None:
            self._tell(self._untold)
        context, contract = self._context, self._contract
        told = {outcome.check.name for outcome in report.checks}
        for evaluation in (*check_evaluations(contract, report.checks), *standing_evaluations(context, contract, told)):
            context.log_event(evaluation)
        if report.superseded:
            context.log.info(f"{contract.key}: another drain took over, this one ended without a further commit.")
        context.log_event(
            dg.AssetObservation(
                asset_key=asset_key_parts(contract.key),
                description=f"Drain ended: {report.stopped_by or 'done'}.",
                metadata={REPORT: dg.MetadataValue.json(totals(report)), **self._skipped},
            )
        )

    def _tell(self, commit: DrainCommit) -> None:
        facts = {
            "dagster/row_count": commit.table_rows,
            "sdp/snapshot_id": commit.snapshot_id,
            "sdp/rows": self._rows,
            "sdp/counts": dg.MetadataValue.json(dict(self._counts)),
            "sdp/position": dg.MetadataValue.json(commit.position),
            **self._skipped,
        }
        if commit.watermark is not None:
            facts["sdp/watermark"] = dg.MetadataValue.timestamp(commit.watermark)
        tell_commit(self._context, self._contract, self._parts, facts)
        self._told_at, self._untold, self._rows, self._counts = self._clock(), None, 0, Counter()


def tell_commit(
    context: dg.AssetExecutionContext, contract: Contract, parts: Parts, facts: Mapping[str, Any], *, partition: str | None = None
) -> None:
    """Log a materialisation while the run goes on, with the table's facts and the version of its data."""
    table = parts.lakehouse.table(contract.identifier)
    known = table_facts(contract, table.location()) if table is not None else {}
    version = data_version(table) if table is not None else None
    tags = {"dagster/data_version": version, "dagster/data_version_is_user_provided": "true"} if version else {}
    context.log_event(
        dg.AssetMaterialization(asset_key=asset_key_parts(contract.key), metadata={**known, **facts}, tags=tags, partition=partition)
    )


def totals(report: DrainReport) -> dict[str, Any]:
    """The stable JSON form of `sdp ingest`."""
    names = ("read", "inserted", "duplicates", "quarantined", "late", "skewed", "commits", "position", "superseded")
    return {name: getattr(report, name) for name in names}


def _fail_for(context: dg.AssetExecutionContext, contracts: Sequence[Contract], reports: Mapping[str, DrainReport]) -> None:
    """Fail the run for the products that could not go on; the others' commits stand. Each is tagged with the contract at fault, so that
    the sensor lets just these wait, and lets them go on at once when the contract is mended.
    """
    faults: dict[str, Exception | str] = {}
    for contract in contracts:
        report = reports[contract.key]
        if report.error is not None:
            faults[contract.key] = report.error
        elif report.stopped_by == "blocked":
            faults[contract.key] = _blocked(contract, report, context.run_id)
    if not faults:
        return
    marks = {failed_tag(contract.key): contract.fingerprint for contract in contracts if contract.key in faults}
    context.instance.add_run_tags(context.run_id, marks)
    unexpected = [error for error in faults.values() if isinstance(error, Exception) and not isinstance(error, PlatformError)]
    if unexpected and len(faults) == 1:
        raise unexpected[0]  # a fault of the platform keeps its trace
    for error in unexpected:
        context.log.error("".join(traceback.format_exception(error)))
    codes = {getattr(error, "code", "check-failed" if isinstance(error, str) else type(error).__name__) for error in faults.values()}
    raise dg.Failure(
        description=" ".join(f"{key}: {error}" for key, error in faults.items()),
        metadata={"sdp/code": ", ".join(sorted(codes))},
        allow_retries=False,
    )


def _blocked(contract: Contract, report: DrainReport, run_id: str) -> str:
    failed = ", ".join(report.blocked_by)
    again = f", next try at {report.blocked_until:%H:%M:%S} UTC" if report.blocked_until is not None else ""
    branch = report.refused_branch or refused_branch(run_id)
    return (
        f"stopped by the check {failed}{again}. Its position has not moved; the batch is kept on branch {branch}. "
        f"Look at it with `{look_at(contract.identifier, branch)}`. "
        f"Mend the contract, or go on with `sdp ingest {contract.key} --skip-check {failed}`."
    )


@contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[threading.Event]:
    """SIGTERM and SIGINT set `stop`, so that the batch at hand is finished; yields an event that says whether one came.

    Dagster's own handlers raise a BaseException wherever the code happens to be, which skips PyIceberg's clean-up of a half-made
    commit. They come back when the block ends.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # Python gives signals to the main thread only: a run started inside another program
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        interrupted.set()
        stop.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def giving_way(context: dg.AssetExecutionContext, domain: str, stop: threading.Event) -> Iterator[None]:
    """Set `stop` when another drain of this domain waits in the queue.

    The sensor asks for one when a stream has come that this run does not know; without giving way it would wait for `drain_seconds`.
    """
    done = threading.Event()
    queued = RunsFilter(tags={KIND_TAG: DRAIN, DOMAIN_TAG: domain}, statuses=[DagsterRunStatus.QUEUED])

    def watch() -> None:
        while not done.wait(YIELD_SECONDS):
            if context.instance.get_runs_count(queued):
                context.log.info("A drain with a newer set of streams is queued; this one gives way.")
                stop.set()
                return

    watcher = threading.Thread(target=watch, name="giving-way", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
