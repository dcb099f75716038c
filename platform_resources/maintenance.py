"""Maintenance of every table of the platform: which there are, what their contracts ask for, doing what their facts name, and the facts.

The single actions are the lakehouse's. This module knows no Dagster: the job in `data_products.maintenance_assets` and `sdp maintain` both
call it. What was seen and done goes to the products `platform/table_health` and `platform/table_maintenance`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from platform_resources.contracts.iceberg import aging_columns, table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.compaction import compact
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.files import live_tasks, read_task
from platform_resources.lakehouse.health import ACTIONS, HISTORY, Health, Need, Policy, drop_refusals, look_at_table
from platform_resources.lakehouse.manifests import rewrite_manifests
from platform_resources.lakehouse.orphans import remove_orphans
from platform_resources.lakehouse.retention import Term, forget, sorted_by_age
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.locks import hold
from platform_resources.runs import REFUSED, code_version, maintain_lock
from platform_resources.streams.quarantine import RETENTION_DAYS

HEALTH, MAINTENANCE = "platform/table_health", "platform/table_maintenance"
LISTED_EVERY = timedelta(days=1)  # looking for orphans lists a whole folder, which no metadata can spare
NOT_LISTED = "no listing of its folder in the last day"


@dataclass(frozen=True)
class Maintained:
    """A table under maintenance: the product it belongs to, its identifier (a quarantine's is its own), its policy."""

    product: str
    identifier: str
    policy: Policy


@dataclass(frozen=True)
class Look:
    """One table at one look: its facts, or why it could not be looked at."""

    target: Maintained
    health: Health | None
    error: str | None = None

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the facts call for."""
        return self.health.needs if self.health is not None else ()


@dataclass(frozen=True)
class Fact:
    """One action on one table. `outcome`: `done`, `nothing` (there was nothing after all), `lost` (to writers, in part or whole),
    `waits` (for readers, or another maintenance), `postponed` (out of time) or `failed`.
    """

    product: str
    identifier: str
    action: str
    reason: str
    started_at: datetime
    outcome: str = "done"
    seconds: float = 0.0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows_removed: int = 0
    snapshots_removed: int = 0
    error: str | None = None


@dataclass
class Maintenance:
    """What one run of maintenance works with.

    Attributes:
        lakehouse, registry: the tables and their contracts.
        run_id: stands in the snapshots and the facts.
        clock: the time, UTC.
        deadline: on the clock of `time.monotonic`; what is not begun by then is postponed.
    """

    lakehouse: Lakehouse
    registry: Registry
    run_id: str
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    deadline: float | None = None

    def look(self, targets: Sequence[Maintained]) -> list[Look]:
        """The facts of each table that exists. One that cannot be looked at says why and stops nobody."""
        found = []
        for target in targets:
            try:
                health = look_at_table(self.lakehouse, target.identifier, target.policy, now=self.clock())
            except Exception as error:  # noqa: BLE001 - one table's fault, a lost metadata file say, must not hide the others
                found.append(Look(target, None, _told(error)))
            else:
                found += [Look(target, health)] if health is not None else []
        return found

    def maintain(self, target: Maintained, *, orphans: str | None = None) -> Iterator[Fact]:
        """Do what the facts of one table name, as they are now; a fact for each action.

        Args:
            target: the table.
            orphans: why to list its folder, too, for files that belong to nothing; None: not to.
        """
        try:
            with hold(self.lakehouse.settings.locks_path, maintain_lock(target.identifier), self.run_id):
                yield from self._maintain(target, orphans=orphans)
        except PlatformError as busy:
            if busy.code != "already-running":
                raise
            yield self._fact(target, Need("compact", str(busy)), "waits")

    def _maintain(self, target: Maintained, *, orphans: str | None) -> Iterator[Fact]:
        (look,) = self.look([target]) or [Look(target, None)]
        if look.error is not None:
            yield replace(self._fact(target, Need("compact", "the table was looked at"), "failed"), action="look", error=look.error)
        waiting = list(look.needs)
        if orphans is not None and look.health is not None:
            waiting.append(Need("orphans", orphans))
        begun = set[str]()
        while waiting:
            need = waiting.pop(0)
            begun.add(need.action)
            if self.deadline is not None and time.monotonic() >= self.deadline:
                yield self._fact(target, need, "postponed")
                continue
            started, began = self.clock(), time.monotonic()
            failpoint(f"maintain-{need.action}")
            try:
                fact = self._act(target, need)
            except Exception as error:  # noqa: BLE001 - told as a fact; the other tables go on
                fact = replace(self._fact(target, need, "failed"), error=_told(error))
            yield replace(fact, started_at=started, seconds=round(time.monotonic() - began, 3))
            if fact.outcome == "failed":
                return
            if need.action in ("compact", "retention"):  # what they leave behind is seen only now
                new = [one for one in self._needs_now(target) if one.action not in {*begun, *(known.action for known in waiting)}]
                waiting = sorted([*new, *waiting], key=lambda one: ACTIONS.index(one.action))

    def _needs_now(self, target: Maintained) -> tuple[Need, ...]:
        return tuple(need for look in self.look([target]) for need in look.needs)

    def _act(self, target: Maintained, need: Need) -> Fact:
        done = self._fact(target, need, "done")
        lakehouse, name, now = self.lakehouse, target.identifier, self.clock()
        if need.action == "compact":
            packed = compact(lakehouse, name, run_id=self.run_id, now=now, deadline=self.deadline)
            outcome = "lost" if packed.lost else "postponed" if not packed.complete else "done" if packed.files_before else "nothing"
            return replace(
                done, outcome=outcome, files_before=packed.files_before, files_after=packed.files_after, bytes_before=packed.bytes_before,
                bytes_after=packed.bytes_after,
            )  # fmt: skip
        if need.action == "retention":
            term = target.policy.term(now) or Term((), now)
            left = forget(lakehouse, name, term, run_id=self.run_id, now=now)
            outcome = "waits" if left.waits_for else "done" if left.rows or left.files or left.expired.snapshots else "nothing"
            waits = f"{need.reason}; its history waits for {', '.join(left.waits_for)}" if left.waits_for else need.reason
            return replace(
                done, outcome=outcome, reason=waits, rows_removed=left.rows, files_before=left.files + left.expired.files,
                bytes_before=left.bytes + left.expired.bytes, snapshots_removed=left.expired.snapshots,
            )  # fmt: skip
        if need.action == "manifests":
            counts = rewrite_manifests(lakehouse, name, run_id=self.run_id)
            return replace(
                done, outcome="done" if counts else "lost", files_before=(counts or (0, 0))[0], files_after=(counts or (0, 0))[1]
            )
        if need.action == "refused":
            dropped = drop_refusals(lakehouse, name, target.policy, now=now)
            return replace(done, outcome="done" if dropped else "nothing", snapshots_removed=len(dropped))
        if need.action == "expire":
            gone = expire_snapshots(lakehouse, name, keep=1, older_than=now - target.policy.history, now=now)
            outcome = "done" if gone.snapshots else "nothing"
            return replace(done, outcome=outcome, snapshots_removed=gone.snapshots, files_before=gone.files, bytes_before=gone.bytes)
        removed = remove_orphans(lakehouse, name, now=now)
        return replace(done, files_before=removed.files, bytes_before=removed.bytes)

    def _fact(self, target: Maintained, need: Need, outcome: str) -> Fact:
        return Fact(target.product, target.identifier, need.action, need.reason, self.clock(), outcome)

    def record_looks(self, looks: Sequence[Look]) -> int | None:
        """Append a row per table to `platform/table_health`; the snapshot, None where the project has no such product."""
        at = self.clock()
        return self._append(HEALTH, [_health_row(look, at) for look in looks], at)

    def record(self, facts: Sequence[Fact]) -> int | None:
        """Append what was done to `platform/table_maintenance`; a commit even without facts, which says that nothing was needed."""
        return self._append(MAINTENANCE, [_fact_row(fact, self.run_id) for fact in facts], self.clock())

    def _append(self, key: str, rows: list[dict[str, Any]], at: datetime) -> int | None:
        if key not in self.registry.contracts:
            return None
        contract = self.registry.get(key)
        definition = table_definition(contract)
        data = pa.Table.from_pylist(rows, schema=arrow_schema_of(definition.schema))
        stamp = Stamp(self.run_id, code_version(contract.fingerprint), contract.version, watermark=at)
        return publish(stage_append(self.lakehouse, definition, data, stamp)).snapshot_id

    def chosen(self, targets: Sequence[Maintained], tables: Sequence[str] = ()) -> Iterator[tuple[Maintained, str | None]]:
        """The tables to maintain, and why their folders are due to be listed for orphans, None where they are not.

        Args:
            targets: all tables there are.
            tables: identifiers to maintain; none: those that the newest rows of `platform/table_health` say need it.

        Raises:
            PlatformError: `table-unknown` when a table named is none of them.
        """
        for name in tables:
            if name not in {target.identifier for target in targets}:
                raise PlatformError("table-unknown", f"There is no table {name}.", "Name tables as platform.table_health does.")
        listed = self._listed_lately()
        health = self._rows_since(HEALTH, "looked_at", self.clock() - LISTED_EVERY)
        newest = max((row["looked_at"] for row in health), default=None)
        seen = {row["table_name"]: row for row in health if row["looked_at"] == newest}
        for target in targets:
            row = seen.get(target.identifier)
            if target.identifier in tables or (not tables and row is not None and (row["needs"] or target.identifier not in listed)):
                yield target, None if target.identifier in listed else NOT_LISTED

    def listings(self, looks: Sequence[Look], *, asked: bool) -> list[str | None]:
        """For each look why the table's folder is due to be listed for orphans, None where it is not."""
        if asked:
            return ["maintenance of this table was asked for"] * len(looks)
        listed = self._listed_lately()
        return [None if look.target.identifier in listed else NOT_LISTED for look in looks]

    def _listed_lately(self) -> set[str]:
        rows = self._rows_since(MAINTENANCE, "started_at", self.clock() - LISTED_EVERY)
        return {row["table_name"] for row in rows if row["action"] == "orphans" and row["outcome"] == "done"}

    def _rows_since(self, key: str, column: str, since: datetime) -> list[dict[str, Any]]:
        """The young rows of a product of facts; only files that may hold some are read."""
        table = self.lakehouse.table(key.replace("/", "."))
        if table is None:
            return []
        name = ".".join(table.name())
        tasks = live_tasks(table.io, table.current_snapshot(), name)
        past, _ = sorted_by_age(table, tasks, Term((column,), since))
        gone = {task.path for task in past}
        rows = [
            row
            for task in tasks
            if task.path not in gone
            for block in read_task(table.io, task, table.schema(), name)
            for row in block.to_pylist()
        ]
        return [row for row in rows if row[column] >= since]


def maintained_tables(registry: Registry, product: str | None = None) -> list[Maintained]:
    """The tables of all products, or of one, with what their contracts ask for; a quarantine follows its product.

    Raises:
        PlatformError: `product-unknown` and the like, when `product` names none.
    """
    contracts = [registry.get(product)] if product is not None else list(registry.contracts.values())
    found = []
    for contract in contracts:
        found.append(Maintained(contract.key, contract.identifier, policy_of(contract)))
        if contract.is_stream or contract.lands:
            ages_by = "_log_time" if contract.is_stream else "_landed_at"
            kept = Policy(timedelta(days=RETENTION_DAYS), (ages_by,), refused_prefix=REFUSED)
            found.append(Maintained(contract.key, contract.quarantine_identifier, kept))
    return found


def policy_of(contract: Contract) -> Policy:
    """What a contract asks of maintenance."""
    history = contract.time_travel or HISTORY
    if contract.sla.retention is not None:
        history = min(history, contract.sla.retention)
    return Policy(contract.sla.retention, aging_columns(contract), history, refused_prefix=REFUSED)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"


def _health_row(look: Look, at: datetime) -> dict[str, Any]:
    health = look.health
    facts = {} if health is None else {
        name: getattr(health, name)
        for name in (
            "snapshot_id", "rows", "files", "small_files", "bytes", "target_bytes", "delete_files", "deleted_share", "manifests",
            "snapshots", "metadata_bytes", "branches", "refused", "oldest_row", "oldest_snapshot", "maintained_at",
        )
    }  # fmt: skip
    needs = [{"action": need.action, "reason": need.reason, "files": need.files, "bytes": need.bytes} for need in look.needs]
    return {
        "looked_at": at,
        "product": look.target.product,
        "table_name": look.target.identifier,
        **facts,
        "needs": needs,
        "error": look.error,
    }


def _fact_row(fact: Fact, run_id: str) -> dict[str, Any]:
    names = (
        "started_at", "product", "action", "outcome", "reason", "seconds", "files_before", "files_after", "bytes_before", "bytes_after",
        "rows_removed", "snapshots_removed", "error",
    )  # fmt: skip
    return {"table_name": fact.identifier, "run_id": run_id, **{name: getattr(fact, name) for name in names}}
