"""`sdp status`: rows, freshness, lag, last run and check results of each product, from tables, log and Dagster instance. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from platform_resources.cli.output import Col, Command, answer, draw_table, duration, error_document, json_option
from platform_resources.cli.products import damaged_or, kind_of, raise_damage, read_table, row_count
from platform_resources.cli.showing import inputs_of
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.parts import Parts
from platform_resources.runs import FOREGROUND_TAG, asset_key_parts, drain_tag, transform_tag
from platform_resources.stack.instance import storage_is_made

if TYPE_CHECKING:
    import dagster as dg
    from pyiceberg.table import Table
    from rich.console import Console
    from rich.text import Text

IDLENESS = (
    "Over its promise with nothing waiting: old events prove nothing about now. Once half the promised latency has passed without an "
    "event, a drain says that the stream is idle, and the lag falls."
)
_TOLD_BY_THE_TABLE = (
    "rows", "snapshot_id", "last_event_time", "watermark", "quarantined_rows", "lag_events", "lag_seconds", "promised_seconds", "fresh",
    "blocked_until",
)  # fmt: skip


@click.command("status", cls=Command, reads_tables=True)
@click.argument("products", nargs=-1, metavar="[D/P]...")
@json_option
def status_command(products: tuple[str, ...], as_json: bool) -> None:
    """How fresh and how healthy each product is; without names, all of them.

    The watermark is the time up to which the data is complete; lag_seconds is the wall clock minus it. lag_events are the events on the
    log, the deliveries of the source, or the changed rows of the inputs, that the product has not taken in yet. promised_seconds is the
    latency of its contract, and fresh whether the lag keeps it; null where nothing is promised or nothing is there. quarantined_rows are
    what was put aside of a stream or a source; null where nothing can be. A check that has
    not run yet has "passed": null; skipped_checks are those that the newest rows were published past.
    """
    settings = load_settings()
    found = status_of(settings, products)

    def draw(console: Console) -> None:
        from platform_resources.stack.platform import running

        now = running(settings)
        draw_status(console, found, at_work=now is not None)
        console.print(
            f"UI: {now.url}" if now and now.url else "The platform is not running on this home; `sdp up` starts it.", soft_wrap=True
        )

    answer(found, as_json=as_json, human=draw)
    raise_damage(product["error"] for product in found)


def status_of(settings: Settings, products: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What `sdp status` says of these products, of all without names; one value per product, by key. One whose table is damaged has an
    `error` and nothing that only the table knows.

    Raises:
        PlatformError: `product-unknown`.
    """
    parts = Parts(settings)
    registry = parts.registry
    chosen = [registry.get(key) for key in products] if products else [contract for _, contract in sorted(registry.contracts.items())]
    inputs = inputs_of(settings, registry)
    work = _work(settings, chosen)
    return [
        {
            "product": contract.key,
            "kind": kind_of(contract, registry),
            **_data(contract, parts, inputs.get(contract.key, ())),
            **work[contract.key],
        }
        for contract in chosen
    ]


def _data(contract: Contract, parts: Parts, inputs: Sequence[str]) -> dict[str, Any]:
    from platform_resources.lakehouse.stamp import read_watermark

    read = read_table(parts.lakehouse, contract.identifier)
    if isinstance(read, PlatformError):
        return {**dict.fromkeys(_TOLD_BY_THE_TABLE), "skipped_checks": [], "error": error_document(read)}
    table = read
    head = table.current_snapshot() if table is not None else None
    watermark = read_watermark(table) if table is not None else None
    facts: dict[str, Any] = {
        "rows": row_count(table) if table is not None else 0,
        "snapshot_id": head.snapshot_id if head is not None else None,
        "last_event_time": last_event_time(table, contract, parts.settings) if table is not None else None,
        "watermark": watermark,
        "quarantined_rows": _quarantined(contract, parts),
        "skipped_checks": skipped_checks(table) if table is not None else [],
    }
    events, blocked_until = _waiting(contract, table, inputs, parts)
    seconds = None if watermark is None else max(0.0, (datetime.now(UTC) - watermark).total_seconds())
    promised = contract.sla.latency.total_seconds() if contract.sla.latency else None
    fresh = None if seconds is None or promised is None else seconds <= promised
    lags = {"lag_events": events, "lag_seconds": seconds, "promised_seconds": promised, "fresh": fresh}
    return {**facts, **lags, "blocked_until": blocked_until, "error": None}


def _quarantined(contract: Contract, parts: Parts) -> int | None:
    if not (contract.is_stream or contract.lands):
        return None
    aside = read_table(parts.lakehouse, contract.quarantine_identifier)
    return None if isinstance(aside, PlatformError) else row_count(aside) if aside is not None else 0


def _waiting(contract: Contract, table: Table | None, inputs: Sequence[str], parts: Parts) -> tuple[int | None, datetime | None]:
    """What is still to be taken in, and until when it rests: events, deliveries, or changed rows of the inputs."""
    if contract.is_stream:
        return _stream_lag(contract, parts)
    return _left_to_land(contract, parts) if contract.lands else (_input_lag(table, inputs, parts), None)


def _left_to_land(contract: Contract, parts: Parts) -> tuple[int | None, datetime | None]:
    from platform_resources.landing.pending import outlook

    try:
        found = outlook(contract, parts.lakehouse, parts.settings, now=datetime.now(UTC))
    except PlatformError as error:  # a source that is away must not hide what the tables say
        click.echo(f"{contract.key}: {error}", err=True)
        return None, None
    waiting = [*found.units, *(unit for unit, _ in found.resting)]
    return sum(len(unit.deliveries) for unit in waiting), min((until for _, until in found.resting), default=None)


def _stream_lag(contract: Contract, parts: Parts) -> tuple[int | None, datetime | None]:
    from platform_resources.streams.lagging import lag

    try:
        found = lag(contract, parts.lakehouse, parts.log)
    except PlatformError as error:  # a silent broker must not hide what the tables say
        click.echo(f"{contract.key}: {error}", err=True)
        return None, None
    return found.events, found.blocked_until


def _input_lag(table: Table | None, inputs: Sequence[str], parts: Parts) -> int | None:
    """Rows added to or deleted from the inputs since the snapshots in the product's position; None when a position is no longer in an
    input's history, or an input's table is damaged.
    """
    from platform_resources.lakehouse.stamp import ancestors, read_position, summary_of

    position = (read_position(table) if table is not None else None) or {}
    rows = 0
    for key in inputs:
        source = read_table(parts.lakehouse, key.replace("/", "."))
        if isinstance(source, PlatformError):
            return None
        if source is None:
            continue
        since = position.get(key)
        for snapshot in ancestors(source):
            if snapshot.snapshot_id == since:
                break
            summary = summary_of(snapshot)
            if summary.get("operation") != "replace":
                rows += int(summary.get("added-records", 0)) + int(summary.get("deleted-records", 0))
        else:
            if since is not None:
                return None
    return rows


def skipped_checks(table: Table) -> list[str]:
    """Checks that the newest rows were published past (`sdp ingest --skip-check`)."""
    from platform_resources.lakehouse.stamp import ancestors, summary_of
    from platform_resources.streams.refusals import SKIPPED

    for snapshot in ancestors(table):
        summary = summary_of(snapshot)
        if int(summary.get("added-data-files", 0)):
            return summary[SKIPPED].split(",") if SKIPPED in summary else []
    return []


def last_event_time(table: Table, contract: Contract, settings: Settings) -> datetime | None:
    """The newest event time in the table: from the manifests' upper bounds, else by a query; None when it has no such column."""
    from pyiceberg.conversions import from_bytes
    from pyiceberg.types import TimestampType, TimestamptzType

    from platform_resources.lakehouse.files import live_files

    try:
        field = table.schema().find_field(contract.event_time)
    except ValueError:
        return None
    kind = field.field_type
    if not isinstance(kind, TimestampType | TimestamptzType):
        return None
    newest: int | None = None
    for file in live_files(table.io, table.current_snapshot(), contract.identifier):
        bound = (file.upper_bounds or {}).get(field.field_id)
        if bound is None:
            if (file.null_value_counts or {}).get(field.field_id) == file.record_count:
                continue
            return _queried_event_time(table, contract, settings)
        micros = int(from_bytes(kind, bound))
        newest = micros if newest is None else max(newest, micros)
    return None if newest is None else datetime.fromtimestamp(newest / 1_000_000, UTC)


def _queried_event_time(table: Table, contract: Contract, settings: Settings) -> datetime | None:
    from platform_resources.contracts.quality import quoted
    from platform_resources.engines.duck import session
    from platform_resources.lakehouse.reading import duckdb_scan_sql

    with session(settings) as con:
        row = con.sql(f"select epoch_us(max({quoted(contract.event_time)})) from {duckdb_scan_sql(table)}").fetchone()  # noqa: S608 - names of the contract, quoted
    return datetime.fromtimestamp(row[0] / 1_000_000, UTC) if row and row[0] is not None else None


def _work(settings: Settings, contracts: Sequence[Contract]) -> dict[str, dict[str, Any]]:
    """Last run and check results by product; empty ones before the first run on this home."""
    if not storage_is_made(settings):
        return {contract.key: {"last_run": None, "checks": [_check(check, None) for check in contract.checks]} for contract in contracts}
    import dagster as dg

    from platform_resources.contracts.specs import asset_check_specs

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        found = {}
        for contract in contracts:
            key = dg.AssetKey(asset_key_parts(contract.key))
            names = {
                check.name: dg.AssetCheckKey(key, spec.name)
                for check, spec in zip(contract.checks, asset_check_specs(contract), strict=True)
            }
            records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(names.values())) if names else {}
            found[contract.key] = {
                "last_run": _last_run(instance, contract),
                "checks": [_check(check, _concluded(instance, records.get(names[check.name]))) for check in contract.checks],
            }
    return found


def _last_run(instance: dg.DagsterInstance, contract: Contract) -> dict[str, Any] | None:
    import dagster as dg

    tag = drain_tag(contract.key) if contract.is_stream or contract.lands else transform_tag(contract.key)
    records = instance.get_run_records(dg.RunsFilter(tags={tag: "1"}), limit=1)
    if not records:  # one that was launched by hand in the UI carries no tag of ours
        event = instance.get_latest_materialization_event(dg.AssetKey(asset_key_parts(contract.key)))
        records = instance.get_run_records(dg.RunsFilter(run_ids=[event.run_id]), limit=1) if event else []
    if not records:
        return None
    record = records[0]
    return {
        "run_id": record.dagster_run.run_id,
        "status": record.dagster_run.status.value.lower(),
        "started": _moment(record.start_time),
        "ended": _moment(record.end_time),
        "foreground": FOREGROUND_TAG in record.dagster_run.tags,
    }


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _concluded(instance: dg.DagsterInstance, record: Any) -> Any:
    """The check's record, or the one before it while a run has it merely planned."""
    import dagster as dg
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

    if record is None or isinstance(record.evaluation, dg.AssetCheckEvaluation):
        return record
    history = instance.event_log_storage.get_asset_check_execution_history(record.key, limit=1, status={Status.SUCCEEDED, Status.FAILED})
    return history[0] if history else None


def _check(check: Any, record: Any) -> dict[str, Any]:
    evaluation = record.evaluation if record is not None else None
    metadata: Mapping[str, Any] = evaluation.metadata if evaluation is not None else {}
    return {
        "name": check.name,
        "severity": check.severity,
        "passed": evaluation.passed if evaluation is not None else None,
        "measured": metadata["sdp/measured"].value if "sdp/measured" in metadata else None,
        "time": _moment(record.event.timestamp) if evaluation is not None and record.event is not None else None,
    }


def draw_status(console: Console, found: Sequence[Mapping[str, Any]], *, at_work: bool = True) -> None:
    """The table of `sdp status`, and why a stream may be over its promise though nothing waits, while a platform is `at_work` on it."""
    columns = [
        Col("product", keep=True), Col("rows", right=True, keep=True), Col("last event", keep=True, spare=True),
        Col("lag", right=True, keep=True), Col("waiting", right=True, keep=True), Col("last run", keep=True), Col("checks", keep=True),
    ]  # fmt: skip
    rows = [
        (
            p["product"],
            damaged_or(p, p["rows"] if p["snapshot_id"] is not None else None),
            p["last_event_time"],
            _lag_text(p),
            p["lag_events"],
            _run_text(p),
            _checks_text(p),
        )
        for p in found
    ]
    draw_table(console, columns, rows)
    aside = [p for p in found if p["quarantined_rows"]]
    if aside:
        counts = ", ".join(f"{p['quarantined_rows']:,} of {p['product']}" for p in aside)
        why = f"select reason, count(*) from {aside[0]['product'].replace('/', '.')}__quarantine group by reason"  # noqa: S608 - shown only
        console.print(f'Rows put aside: {counts}. Why: sdp query --include-quarantine "{why}"', style="yellow", soft_wrap=True)
    if at_work and any(p["kind"] == "stream" and p["fresh"] is False and p["lag_events"] == 0 for p in found):
        console.print(IDLENESS, soft_wrap=True)


def _lag_text(product: Mapping[str, Any]) -> Text:
    """The lag, beside the promise that it breaks."""
    from rich.text import Text

    lag = duration(product["lag_seconds"])
    if product["fresh"] is False:
        return Text(f"{lag}, over {duration(product['promised_seconds'])}", style="red")
    return Text(lag)


def _run_text(product: Mapping[str, Any]) -> Text:
    from rich.text import Text

    run = product["last_run"]
    if run is None:
        return Text("-")
    style = {"success": "green", "failure": "red", "canceled": "yellow"}.get(run["status"], "cyan")
    return Text(run["status"], style=style)


def _checks_text(product: Mapping[str, Any]) -> Text:
    """The worst that is known of a product's checks; `-` where none has run."""
    from rich.text import Text

    checks, skipped = product["checks"], product["skipped_checks"]
    failed = [check for check in checks if check["passed"] is False and check["name"] not in skipped]
    passed = sum(check["passed"] is True for check in checks)
    if failed:
        return Text(f"{len(failed)} of {len(checks)} failed", style="red" if any(c["severity"] == "error" for c in failed) else "yellow")
    if skipped:
        return Text(f"{len(skipped)} of {len(checks)} skipped", style="yellow")
    if not passed:
        return Text("-")
    if passed < len(checks):
        return Text(f"{passed} of {len(checks)} ran")  # the others have not yet; none of these failed
    return Text(f"{passed} of {passed} passed", style="green")
