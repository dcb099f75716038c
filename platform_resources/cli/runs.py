"""`sdp ingest` and `sdp run`: the work of the sensors, in the foreground, for one product. What of it lands is `cli.landing`'s."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from platform_resources.cli.output import Col, Command, answer, draw_table, json_option, progress
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.custom import ENGINES
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.locks import hold, holder
from platform_resources.runs import REPORT, drain_config, drain_lock, drain_op, drain_tags, run_lock, transform_config, transform_tags

if TYPE_CHECKING:
    from rich.console import Console

    from platform_resources.cli.foreground import Outcome


@click.command("ingest", cls=Command, reads_tables=True)
@click.argument("product")
@click.option("--until-idle", is_flag=True, help="Stop at the log's end as it is now (the default).")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, keeping the watermark fresh.")
@click.option("--skip-check", "skip", multiple=True, metavar="NAME", help="Do not stop at this check (recorded); may be repeated.")
@click.option("--partition", metavar="P", help="Land this slice, or KEY..KEY, again; of a product with slices, e.g. 2026-01-01.")
@click.option("--again", is_flag=True, help="Land also what has records in the quarantine, as after the contract was mended.")
@click.option("--recreate", is_flag=True, help="Drop the tables of a draft first and take everything in from the beginning.")
@click.option("--accept-loss", is_flag=True, help="Go on behind events that the log's retention deleted unread (recorded).")
@json_option
def ingest_command(
    product: str,
    until_idle: bool,
    follow: bool,
    skip: tuple[str, ...],
    partition: str | None,
    again: bool,
    recreate: bool,
    accept_loss: bool,
    as_json: bool,
) -> None:
    """Take in what has come for PRODUCT (domain/product): drain its stream, or land its files, dumps, tables or pages. It is what the
    sensor starts, in the foreground, recorded in Dagster.

    Exits 1 when another run of the product is at work, naming it, and when a delivery was refused or a slice is absent.
    """
    from platform_resources.cli.foreground import execute

    if until_idle and follow:
        raise click.UsageError("--until-idle ends and --follow goes on: give one of them.")
    settings = load_settings()
    contract = Registry.load(settings.project).get(product)
    if not (contract.is_stream or contract.lands):
        raise PlatformError(
            "not-a-stream", f"{contract.key} does not come from a stream, so there is nothing to ingest.", f"Use `sdp run {contract.key}`."
        )
    _known_checks(contract, skip)
    _refuse_unfit(contract, follow=follow, accept_loss=accept_loss, partition=partition, again=again)
    lock = drain_lock(contract.key)
    _refuse_if_busy(settings, contract, lock)
    if recreate:
        _drop(settings, contract, lock)
    if contract.lands:
        from platform_resources.cli.landing import land

        outcome, landed = land(settings, contract, partition=partition, again=again, skip=skip)
        answer(landed.shown, as_json=as_json, human=lambda console: landed.draw(console, lambda: _draw_checks(console, outcome)))
        _raise_fault(outcome)
        return
    op = drain_op(contract.domain, contract.key if contract.loud else None)
    config = drain_config(op, until="stopped" if follow else "end", skip_checks=skip, accept_loss=accept_loss)
    with _events_left(settings, contract):
        outcome = execute(settings, contract, tags=drain_tags([contract.key]), config=config)
    report = outcome.observed.get(REPORT)
    if report is None and outcome.fault is None:  # another drain took the lock between our look and our start
        _refuse_if_busy(settings, contract, lock)
        raise PlatformError("already-running", f"{contract.key} was at work in another run.", "Try again.")
    if report is None and not outcome.checks:
        _raise_fault(outcome)  # it failed before it read anything: there is nothing to count
    counts = ("read", "inserted", "duplicates", "quarantined", "late", "commits")
    nothing = {**dict.fromkeys(counts, 0), "position": {}, "superseded": False}
    shown = {**nothing, **(report or {})}
    shown |= {"run_id": outcome.run_id, "status": outcome.status, "checks": list(outcome.checks), "skipped_checks": sorted(set(skip))}
    shown |= {"error": outcome.error, "refused_branch": outcome.refused_branch or shown.get("refused_branch")}

    def draw(console: Console) -> None:
        console.print(f"{contract.key}: " + ", ".join(f"{shown[name]:,} {name}" for name in counts))
        if shown["superseded"]:
            console.print(
                f"It was superseded: a rollback or another drain took {contract.key} over, and the next drain goes on from there.",
                soft_wrap=True,
            )
        if skip:
            console.print(f"Published past {', '.join(shown['skipped_checks'])}; the commits and the run say so.")
        _draw_checks(console, outcome)

    answer(shown, as_json=as_json, human=draw)
    _raise_fault(outcome)


@click.command("run", cls=Command, reads_tables=True)
@click.argument("product")
@click.option("--partition", metavar="P", help="Recompute this partition only, moving no position; or publish this date, KEY..KEY.")
@click.option("--recompute", is_flag=True, help="Compute everything anew from the whole inputs.")
@click.option("--engine", type=click.Choice(ENGINES), help="Run the query on this engine, whatever the contract says.")
@click.option("--recreate", is_flag=True, help="Drop the table of a draft first.")
@json_option
def run_command(product: str, partition: str | None, recompute: bool, engine: str | None, recreate: bool, as_json: bool) -> None:
    """Compute the derived PRODUCT (domain/product) from what changed in its inputs, in the foreground, recorded in Dagster."""
    from platform_resources.cli.foreground import execute

    settings = load_settings()
    registry = Registry.load(settings.project)
    contract = registry.get(product)
    if contract.is_stream or contract.lands:
        origin = "a stream" if contract.is_stream else "outside"
        raise PlatformError(
            "not-derived", f"{contract.key} comes from {origin}, so there is nothing to compute.", f"Use `sdp ingest {contract.key}`."
        )
    if contract.source is not None and contract.source.kind == "platform":
        raise PlatformError(
            "not-derived", f"{contract.key} is what the platform tells of itself; nothing computes it.", "Use `sdp maintain`."
        )
    if contract.publication is not None:
        _publish(settings, contract, partition=partition, anew=recompute, engine=engine, recreate=recreate, as_json=as_json)
        return
    if partition is not None:
        _require_partition(contract, partition)
    lock = run_lock(contract.key)
    _refuse_if_busy(settings, contract, lock)
    if recreate:
        _drop(settings, contract, lock)
    config = transform_config(contract.key, partition=partition, recompute=recompute, engine=engine)
    with progress(f"computing {contract.key}"):
        outcome = execute(settings, contract, tags=transform_tags(contract.key), config=config)
    facts = outcome.facts or outcome.observed  # a recomputed partition is told as an observation
    shown = {
        "run_id": outcome.run_id,
        "status": outcome.status,
        "snapshot_id": facts.get("sdp/snapshot_id"),
        "rows": facts.get("dagster/row_count"),
        "rows_written": facts.get("sdp/rows", 0),
        "plan": facts.get("sdp/plan"),
        "reason": facts.get("sdp/reason"),
        "checks": list(outcome.checks),
        "error": outcome.error,
        "refused_branch": outcome.refused_branch,
    }

    def draw(console: Console) -> None:
        if outcome.status == "success":
            written, rows = shown["rows_written"] or 0, shown["rows"] or 0
            console.print(
                f"{contract.key}: {written:,} rows written, {rows:,} rows in the table ({shown['plan'] or 'done'}: {shown['reason'] or ''})"
            )
        _draw_checks(console, outcome)

    answer(shown, as_json=as_json, human=draw)
    _raise_fault(outcome)


def _publish(
    settings: Settings, contract: Contract, *, partition: str | None, anew: bool, engine: str | None, recreate: bool, as_json: bool
) -> None:
    """`sdp run` of a product that publishes."""
    from platform_resources.cli.publishing import publish

    if engine is not None:
        raise PlatformError("option-unfit", f"{contract.key} publishes files, to which --engine says nothing.", "Leave the option out.")
    lock = run_lock(contract.key)
    _refuse_if_busy(settings, contract, lock)
    if recreate:
        _drop(settings, contract, lock)
    outcome, told = publish(settings, contract, partition=partition, anew=anew)
    answer(told.shown, as_json=as_json, human=lambda console: told.draw(console, lambda: _draw_checks(console, outcome)))
    _raise_fault(outcome)


def _refuse_unfit(contract: Contract, *, follow: bool, accept_loss: bool, partition: str | None, again: bool) -> None:
    """An option that says nothing to this kind of product."""
    if contract.is_stream:
        unfit = (partition is not None and "--partition") or (again and "--again")
    else:
        unfit = (follow and "--follow") or (accept_loss and "--accept-loss")
    if unfit:
        kind = "a stream" if contract.is_stream else "a product that lands"
        raise PlatformError("option-unfit", f"{contract.key} is {kind}, to which {unfit} says nothing.", "Leave the option out.")


def _known_checks(contract: Contract, names: tuple[str, ...]) -> None:
    known = {check.name for check in contract.checks}
    for name in names:
        if name not in known:
            raise PlatformError(
                "check-unknown",
                f"{contract.key} has no check {name}." if known else f"{contract.key} has no checks at all.",
                f"Name one of: {', '.join(sorted(known))}." if known else "Leave the option out.",
            )


def _require_partition(contract: Contract, partition: str) -> None:
    """Refuse a partition that the product cannot have before a run is made of it, whose failure would be mailed."""
    from platform_resources.contracts.iceberg import table_definition
    from platform_resources.lakehouse.partitions import parse_partition

    parse_partition(table_definition(contract), partition)


def _refuse_if_busy(settings: Settings, contract: Contract, lock: str) -> None:
    run_id = holder(settings.locks_path, lock)
    if run_id is not None:
        raise PlatformError(
            "already-running", f"{contract.key} is already at work in run {run_id}.", "Wait for that run to end, or cancel it in the UI."
        )


def _drop(settings: Settings, contract: Contract, lock: str) -> None:
    """Drop a draft's tables while holding its lock, so that no sensor's run writes at the same moment."""
    from platform_resources.lakehouse.catalog import Lakehouse

    if contract.status != "draft":
        raise PlatformError(
            "recreate-refused",
            f"{contract.key} is {contract.status}: its consumers rely on its history.",
            "Only a draft can be recreated; make a new product.",
        )
    with hold(settings.locks_path, lock, "--recreate"):
        lakehouse = Lakehouse(settings)
        lakehouse.drop(contract.identifier)
        if contract.is_stream or contract.lands:
            lakehouse.drop(contract.quarantine_identifier)


@contextmanager
def _events_left(settings: Settings, contract: Contract) -> Iterator[None]:
    """Progress while a drain works: how many events are left, looked up beside it once a second."""
    done = threading.Event()

    def look(advance: Callable[..., None]) -> None:
        from platform_resources.lakehouse.catalog import Lakehouse
        from platform_resources.streams.lagging import lag
        from platform_resources.streams.log import open_log

        lakehouse, log = Lakehouse(settings), open_log(settings)
        while not done.wait(1.0):
            try:
                advance(0, text=f"draining {contract.key}, {lag(contract, lakehouse, log).events:,} events left")
            except Exception:  # noqa: BLE001 - progress must never fail the work it shows
                return
        log.close()

    with progress(f"draining {contract.key}") as advance:
        watcher = None
        if _somebody_looks():
            watcher = threading.Thread(target=look, args=(advance,), daemon=True)
            watcher.start()
        try:
            yield
        finally:
            done.set()
            if watcher is not None:
                watcher.join(timeout=2.0)


def _somebody_looks() -> bool:
    import sys

    return sys.stderr.isatty()


def _draw_checks(console: Console, outcome: Outcome) -> None:
    if not outcome.checks:
        return
    rows: list[tuple[Any, ...]] = [
        (check["name"], "passed" if check["passed"] else "FAILED", check["severity"], check["description"]) for check in outcome.checks
    ]
    draw_table(
        console, [Col("check", keep=True), Col("result", keep=True), Col("severity", keep=True), Col("what was found", wrap=True)], rows
    )


def _raise_fault(outcome: Outcome) -> None:
    if outcome.status == "canceled":
        raise click.Abort(f"{outcome.fault} [{outcome.code}]")
    if outcome.fault is not None:
        raise PlatformError(outcome.code, outcome.fault, outcome.remedy)
