"""`sdp table`: the history of a product's table, taking it back, and naming its snapshots."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from platform_resources.cli.output import Col, Command, answer, draw_table, json_option, progress
from platform_resources.config import load_settings
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.locks import holder
from platform_resources.parts import Parts
from platform_resources.runs import drain_lock, run_lock

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from rich.console import Console

    from platform_resources.lakehouse.history import HistoryEntry

SHOWN = 20


@click.group("table")
def table_command() -> None:
    """The table behind a product: what was committed to it, taking it back to what it was, naming snapshots to be kept.

    PRODUCT is domain/product. A snapshot is told by its id, by a tag, or by a time (ISO-8601, UTC when it has no zone).
    """


@table_command.command("history", cls=Command, reads_tables=True, writes_home=False)
@click.argument("product")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N snapshots; people see {SHOWN} unless they say otherwise.")
@click.option("--quarantine", is_flag=True, help="Of the stream's quarantine table instead.")
@json_option
def history_command(product: str, limit: int | None, quarantine: bool, as_json: bool) -> None:
    """Which snapshots the table keeps, the newest first: when and by which run, rows added and removed, and why each is kept."""
    from platform_resources.lakehouse.history import history_of

    parts = Parts(load_settings())
    contract = parts.registry.get(product)
    with progress("reading the history"):
        entries = history_of(parts.lakehouse, _table(parts, contract, quarantine=quarantine))
    shown = entries[: limit or (None if as_json else SHOWN)]

    def draw(console: Console) -> None:
        _draw(console, shown)
        if len(shown) < len(entries):
            console.print(f"{len(entries) - len(shown)} older snapshots: --limit {len(entries)} shows them.")

    answer([_document(entry) for entry in shown], as_json=as_json, human=draw)


def _table(parts: Parts, contract: Contract, *, quarantine: bool = False) -> Table:
    from platform_resources.sourcing import not_materialised

    if quarantine and not (contract.is_stream or contract.lands):
        raise PlatformError(
            "quarantine-none", f"{contract.key} has no quarantine: what it is made of was let in before.", "Leave --quarantine out."
        )
    table = parts.lakehouse.table(contract.quarantine_identifier if quarantine else contract.identifier)
    if table is None:
        raise not_materialised(contract)
    return table


def _document(entry: HistoryEntry) -> dict[str, Any]:
    import json

    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(entry).items()}
    return {**facts, "position": None if entry.position is None else json.loads(entry.position)}


def _draw(console: Console, entries: list[HistoryEntry]) -> None:
    columns = [
        Col("snapshot", keep=True), Col("time", keep=True), Col("operation", spare=True), Col("on"), Col("added", right=True),
        Col("removed", right=True), Col("rows", right=True), Col("position", wrap=True), Col("kept by", wrap=True), Col("run", spare=True),
    ]  # fmt: skip
    rows = [
        (
            str(one.snapshot_id), one.time, one.operation, ", ".join(one.refs) or one.line, one.rows_added, one.rows_removed, one.rows,
            _told(one.position), ", ".join(one.kept_by) or "nothing", one.run_id,
        )
        for one in entries
    ]  # fmt: skip
    draw_table(console, columns, rows)


def _told(position: str | None) -> str | None:
    """A position for people: `0:120 1:90` of a stream's partitions, `domain/product@snapshot` of inputs."""
    import json

    if position is None:
        return None
    parts = []
    for name, at in json.loads(position).items():
        parts += [f"{partition}:{offset}" for partition, offset in at.items()] if isinstance(at, dict) else [f"{name}@{at}"]
    return " ".join(parts)


@table_command.command("rollback", cls=Command, reads_tables=True)
@click.argument("product")
@click.option("--to", "when", required=True, metavar="SNAPSHOT|TAG|TIME", help="What main is to show again; `sdp table history` lists it.")
@click.option("--accept-loss", is_flag=True, help="Go back although the log no longer has all events that would have to be read again.")
@json_option
def rollback_command(product: str, when: str, accept_loss: bool, as_json: bool) -> None:
    """Take a table back to what it showed at a former snapshot, in one commit that stands in its history.

    The position goes back with the rows: a stream reads the events again that went with them, once; a derived product computes on from
    there. Products made from it recompute. Whatever is at work on it is superseded and ends; nothing has to be stopped first. But mend
    what was wrong before you roll back: the next run makes the same rows again from the same contract and transform.
    """
    from platform_resources.lakehouse.files import live_rows
    from platform_resources.lakehouse.history import find_target, read_stamp_at, roll_back
    from platform_resources.lakehouse.reading import parse_when

    settings = load_settings()
    parts = Parts(settings)
    contract = parts.registry.get(product)
    target = find_target(_table(parts, contract), parse_when(when))
    again = _events_again(parts, contract, target.snapshot_id, accept_loss=accept_loss) if contract.is_stream else None
    at_work = holder(settings.locks_path, drain_lock(contract.key) if contract.is_stream or contract.lands else run_lock(contract.key))
    with progress(f"taking {contract.key} back"):
        done = roll_back(parts.lakehouse, contract.identifier, target.snapshot_id, run_id=f"rollback-{uuid.uuid4()}")
    table = _table(parts, contract)
    position = read_stamp_at(table, done.snapshot_id)
    head = table.metadata.snapshot_by_id(done.snapshot_id)
    facts = {
        "product": contract.key,
        "to": done.target,
        "from": done.former,
        "snapshot_id": done.snapshot_id,
        "time": datetime.fromtimestamp(target.timestamp_ms / 1000).astimezone(),
        "rows": live_rows(head.summary.additional_properties) if head is not None and head.summary else None,
        "position": position,
        "events_read_again": again,
        "superseded_run": at_work,
    }
    answer(facts, as_json=as_json, human=lambda console: _tell_rollback(console, contract, facts))


def _events_again(parts: Parts, contract: Contract, target: int, *, accept_loss: bool) -> int:
    """How many events of the log the next drain reads again.

    Raises:
        PlatformError: `rollback-log-truncated` when the log's retention has deleted some of them.
    """
    import json

    from platform_resources.lakehouse.history import read_stamp_at
    from platform_resources.streams.offsets import distance, parse, starts_of

    table = _table(parts, contract)
    now = parse(json.loads(read_stamp_at(table, table.metadata.current_snapshot_id or 0) or "{}"))
    then = parse(json.loads(read_stamp_at(table, target) or "{}"))
    topics = contract.source.topics if contract.source else ()
    starts = starts_of(parts.log, topics)
    gone = sum(max(0, min(starts.get(tp, 0), end) - then.get(tp, 0)) for tp, end in now.items())
    if gone > 0 and not accept_loss:
        raise PlatformError(
            "rollback-log-truncated",
            f"The log no longer has {gone} of the events that {contract.key} would have to read again: its retention deleted them.",
            "Roll back to a later snapshot, restore the log, or lose their rows with --accept-loss here and at the next `sdp ingest`.",
        )
    return distance(then, now)


def _tell_rollback(console: Console, contract: Contract, facts: dict[str, Any]) -> None:
    lines = [f"{contract.key} shows snapshot {facts['to']} again ({facts['rows']:,} rows)."]
    if facts["superseded_run"]:
        lines.append(f"Run {facts['superseded_run']}, which is at work on it, is superseded: it ends without writing anything more.")
    if contract.is_stream:
        lines.append(f"The next drain reads {facts['events_read_again']:,} events again.")
    elif contract.lands:
        lines.append("The next landing takes in again what came since then.")
    else:
        lines.append("The next run computes on from the inputs as they were read then.")
    lines.append(f"To keep what was rolled back: sdp table tag {contract.key} NAME --snapshot {facts['from']}")
    for line in lines:
        console.print(line, soft_wrap=True)


@table_command.command("tag", cls=Command, reads_tables=True)
@click.argument("product")
@click.argument("name")
@click.option("--snapshot", "when", metavar="SNAPSHOT|TAG|TIME", help="What to name; default what main shows now.")
@click.option("--delete", is_flag=True, help="Take the tag away; what only it kept goes with the next expiry.")
@json_option
def tag_command(product: str, name: str, when: str | None, delete: bool, as_json: bool) -> None:
    """Name a snapshot NAME, which keeps it and its files for as long as the tag is there.

    `sdp query --branch NAME`, `source(PRODUCT).at(NAME)` and `sdp table rollback --to NAME` know it by that name.
    """
    from platform_resources.lakehouse.history import delete_tag, set_tag
    from platform_resources.lakehouse.reading import parse_when

    if delete and when is not None:
        raise click.UsageError("--delete takes a tag away and needs no --snapshot.")
    parts = Parts(load_settings())
    contract = parts.registry.get(product)
    _table(parts, contract)
    if delete:
        snapshot_id = delete_tag(parts.lakehouse, contract.identifier, name)
    else:
        snapshot_id = set_tag(parts.lakehouse, contract.identifier, name, None if when is None else parse_when(when))
    facts = {"product": contract.key, "tag": name, "snapshot_id": snapshot_id, "deleted": delete}
    said = f"{contract.key} has no tag {name} any more." if delete else f"{contract.key} keeps snapshot {snapshot_id} as {name}."
    answer(facts, as_json=as_json, human=lambda console: console.print(said, soft_wrap=True))


@table_command.command("restore", cls=Command, reads_tables=True)
@click.argument("product")
@click.option("--metadata", metavar="LOCATION", help="The metadata file to go on from; default the one before the damaged one.")
@json_option
def restore_command(product: str, metadata: str | None, as_json: bool) -> None:
    """Let a table whose newest metadata file is damaged or gone go on from an earlier one.

    What was committed since is no longer in the table: a stream reads it again, a derived product computes it again.
    """
    from platform_resources.lakehouse.history import restore_metadata

    parts = Parts(load_settings())
    contract = parts.registry.get(product)
    table = restore_metadata(parts.lakehouse, contract.identifier, metadata)
    facts = {"product": contract.key, "metadata": table.metadata_location, "snapshot_id": table.metadata.current_snapshot_id}
    said = f"{contract.key} goes on from snapshot {facts['snapshot_id']} of {facts['metadata']}."
    answer(facts, as_json=as_json, human=lambda console: console.print(said, soft_wrap=True))
