"""Exactly-once ingestion: a drain takes events from the log into a product's table and its quarantine table.

Here live the drain itself and the round over several of them. What a batch is made of lives beside it: `batch` puts it together from
decoding (`codec`), rules (`checks`), duplicates (`dedupe`) and lateness (`watermark`); `takeover` makes a drain the only one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import orjson
from pyiceberg.table import Table

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.engines.audit import CheckOutcome
from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import Commit, CommitConflict, Fence, Fenced, StagedWrite, publish, stage_append, stage_empty
from platform_resources.lakehouse.stamp import (
    EVENT_TIMES,
    TOPIC_IDS,
    Position,
    Stamp,
    compact_json,
    read_position,
    read_stamp,
    read_watermark,
)
from platform_resources.runs import refused_branch
from platform_resources.streams.batch import Batch, Batcher, delay_of, micros, moment
from platform_resources.streams.checks import StreamChecks, combined
from platform_resources.streams.dedupe import DedupeWindow, Keys, inserted_since
from platform_resources.streams.lagging import UNPROMISED_LATENCY, Lag, heartbeat_due, lag, last_commit
from platform_resources.streams.log import EventLog, LogRecord
from platform_resources.streams.offsets import (
    Offsets,
    ends_of,
    lost,
    parse,
    require_continuity,
    require_same_log,
    resume,
    stamped,
    starts_of,
    topic_ids,
)
from platform_resources.streams.quarantine import quarantine_definition, quarantine_rows
from platform_resources.streams.refusals import ATTEMPT, FAILED, FINGERPRINT, REFUSED_AT, SKIPPED, Refusal, forget_refusals, refusal_at_head
from platform_resources.streams.reports import NOTHING, DrainCommit, DrainReport
from platform_resources.streams.takeover import Tenure, take_over
from platform_resources.streams.watermark import Watermark

__all__ = ["Drain", "DrainCommit", "DrainReport", "Lag", "drain_all", "lag"]

LOST = "sdp.lost"

READ_TIMEOUT = 1.0
PAUSE = 0.2
QUIET = 0.5
LOOK_SECONDS = 3.0  # between two looks of an idle drain whether the table is still its own


class _BlockedError(Exception):
    """An aggregate error check failed on a staged batch."""

    def __init__(self, staged: StagedWrite, outcomes: list[CheckOutcome]) -> None:
        super().__init__("blocked")
        self.staged, self.outcomes = staged, outcomes


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Drain:
    """One product's way from the log into its tables. One instance makes one run, in one thread.

    Args:
        contract: a stream's contract.
        lakehouse, log, settings: where to, where from, how.
        run_id: names the run in stamps, quarantine rows and the branch of a refused batch.
        code_version: goes into the stamp.
        skip_checks: rules not to evaluate, recorded in the stamp.
        on_commit: called after each commit of the main table, in the drain's thread.
        on_end: called with the report when the drain has ended, in its thread; others of the same round may go on for minutes.
        clock: the wall clock, for tests.
        accept_loss: go on behind a gap that retention tore, recording it in the stamp, instead of refusing.
        linger: longest time in seconds that a trickle of events is gathered before it is committed; default a twelfth of the promised
            latency, at least 1 and at most 10.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        lakehouse: Lakehouse,
        log: EventLog,
        run_id: str,
        settings: Settings,
        code_version: str | None = None,
        skip_checks: Sequence[str] = (),
        on_commit: Callable[[DrainCommit], None] | None = None,
        on_end: Callable[[DrainReport], None] | None = None,
        clock: Callable[[], datetime] = utc_now,
        accept_loss: bool = False,
        linger: float | None = None,
    ) -> None:
        if not contract.is_stream or contract.source is None:
            raise PlatformError(
                "not-a-stream",
                f"{contract.key} does not come from a stream, so there is nothing to ingest.",
                f"Use `sdp run {contract.key}`.",
                file=contract.path,
            )
        self.contract, self.lakehouse, self.log, self.run_id, self.settings = contract, lakehouse, log, run_id, settings
        self.report = DrainReport()
        self.topics = contract.source.topics
        self.done = False
        self._skip, self._code_version, self._on_commit, self._clock = tuple(sorted(skip_checks)), code_version, on_commit, clock
        self._accept_loss, self._on_end = accept_loss, on_end
        latency = (contract.sla.latency or UNPROMISED_LATENCY).total_seconds()
        self._linger = min(10.0, max(1.0, latency / 12)) if linger is None else linger
        self._definition, self._quarantine = table_definition(contract), quarantine_definition(contract)
        self._checks = StreamChecks(contract, settings, skip=self._skip)
        self._window = DedupeWindow(contract.dedupe_window // timedelta(microseconds=1), self._inserted_since)
        self._batcher = Batcher(contract, self._checks, self._window, self._versions)
        self._tenure: Tenure | None = None
        self._position: Offsets = {}
        self._topic_ids: dict[str, str] = {}
        self._ahead: Offsets = {}  # where reading stands, past the position: behind what is buffered and the holes around it
        self._watermark = Watermark()
        self._attempt = 1
        self._goal: Offsets | None = None
        self._buffer: list[LogRecord] = []
        self._bytes = 0
        self._buffered_at = self._arrived_at = 0.0
        self._last_commit: datetime | None = None
        self._looked_at = time.monotonic()
        self._outcomes: list[CheckOutcome] = []

    def run(self, *, until: Literal["idle", "end"] | float, stop: threading.Event | None = None) -> DrainReport:
        """Take over, then ingest.

        Args:
            until: `end` = up to the log ends seen at the start; `idle` = until nothing is left to read; a number = for that many
                seconds, waiting for new events and keeping the watermark fresh by heartbeats.
            stop: when set, what was read is committed and the drain ends.

        Raises:
            PlatformError: `log-truncated`, `log-rewound`, `log-replaced`, `schema-breaking` and whatever else keeps this product from
                going on.
        """
        if until == "end":
            self._goal = ends_of(self.log, self.topics)
        bounded = not isinstance(until, (int, float))
        drain_all([self], seconds=None if bounded else float(until), idle_seconds=0 if bounded else None, stop=stop)
        report = self.report
        if report.error is not None:
            raise report.error
        if until == "end" and report.stopped_by == "idle":
            report.stopped_by = "end"
        return report

    # The steps that `drain_all` takes turns with.

    def begin(self) -> None:
        """Take over, find the position, make sure that nothing lies between it and the log."""
        table = self.lakehouse.table(self.contract.identifier)
        if table is not None:
            self._recall(table)
        refusal = self._refusal()
        if refusal is not None:
            self._attempt = refusal.attempt + 1
            if refusal.until > self._clock():
                self._blocked(refusal)
                return
        self._tenure = take_over(self.lakehouse, self._definition, self._quarantine, self._stamp)
        if self._tenure is None:
            self.finish("superseded")
            return
        self._recall(self._tenure.table)
        self._know_topics()
        starts = starts_of(self.log, self.topics)
        self._position = resume(self._position, starts)
        gaps = lost(self._position, starts)
        if gaps and self._accept_loss:
            self._position |= {tp: starts[tp] for tp in gaps}
            self._publish_empty(self._watermark, heartbeat=False, extra={LOST: orjson.dumps(stamped(gaps)).decode()})
        require_continuity(self.contract.key, self._position, starts, ends_of(self.log, self.topics))

    def _know_topics(self) -> None:
        """Make sure that the topics are those that the position counts in."""
        now = topic_ids(self.log, self.topics)
        require_same_log(self.contract.key, self._topic_ids, now)
        self._topic_ids |= now

    def _recall(self, table: Table) -> None:
        """What the table says of the drains before."""
        watermark, (seen, _), (ids, _) = read_watermark(table), read_stamp(table, EVENT_TIMES), read_stamp(table, TOPIC_IDS)
        self._topic_ids = {} if ids is None else orjson.loads(ids)
        self._position, self._last_commit = parse(read_position(table)), last_commit(table)
        self._watermark = Watermark.parse(None if watermark is None else micros(watermark), seen)

    def turn(self, *, gather: bool) -> bool:
        """Read once and commit when there is a batch; whether there was anything to do.

        `gather` lets a trickle wait for more company, at most `linger`; without it everything read is committed at once.
        """
        seen_at = self._clock()
        ends = ends_of(self.log, self.topics)
        if ends.keys() - self._position.keys():
            self._know_topics()
            self._position = resume(self._position, starts_of(self.log, self.topics))
        limit = ends if self._goal is None else {tp: min(end, self._goal.get(tp, 0)) for tp, end in ends.items()}
        wanted = self._unread(limit)
        got = self._read(wanted, limit) if wanted and not self._full else []
        more = bool(self._unread(limit))
        if self._buffer and self._ripe(more=more, gather=gather):
            self._commit(ends)
            return True
        if not self._buffer and not self._unread(ends) and ends:
            require_continuity(self.contract.key, self._position, {}, ends)
            self._rest(seen_at)
        return bool(got) or more

    @property
    def waiting(self) -> bool:
        """Whether events were read that are not committed yet."""
        return bool(self._buffer)

    def flush(self) -> None:
        """Commit what was read."""
        if self._buffer and not self.done:
            self._commit(ends_of(self.log, self.topics))

    def finish(self, why: str, error: Exception | None = None) -> None:
        """End the drain for a reason; what was read and not committed is the next drain's."""
        self.done, self._buffer, self._bytes = True, [], 0
        self._checks.close()
        report = self.report
        report.stopped_by, report.superseded, report.error = why, why == "superseded", error
        report.position, report.checks = stamped(self._position), combined(self._outcomes)
        report.watermark = None if self._watermark.value is None else moment(self._watermark.value)
        if self._on_end is not None:
            self._on_end(report)

    # Reading

    def _unread(self, limit: Offsets) -> Offsets:
        """Where to read on, for each partition with something before the limit."""
        reading = self._reading
        return {tp: reading[tp] for tp, end in limit.items() if tp in reading and reading[tp] < end}

    @property
    def _reading(self) -> Offsets:
        return {**self._position, **self._ahead}

    @property
    def _full(self) -> bool:
        return len(self._buffer) >= self.settings.batch_events or self._bytes >= self.settings.batch_bytes

    def _read(self, wanted: Offsets, limit: Offsets) -> list[LogRecord]:
        try:
            got = self.log.read(
                wanted,
                max_events=self.settings.batch_events - len(self._buffer),
                max_bytes=self.settings.batch_bytes - self._bytes,
                timeout=READ_TIMEOUT,
            )
        except PlatformError as error:
            if error.code == "log-truncated":  # told better from here: how many events, and what to do about this product
                require_continuity(self.contract.key, self._position, starts_of(self.log, self.topics), ends_of(self.log, self.topics))
            raise
        came_to = {**{(record.topic, record.partition): record.offset + 1 for record in got}, **self.log.skipped()}
        self._ahead |= {tp: min(offset, limit[tp]) for tp, offset in came_to.items()}
        got = [record for record in got if record.offset < limit[record.topic, record.partition]]
        if got:
            failpoint("drain-after-read")
            now = time.monotonic()
            self._buffered_at = self._buffered_at if self._buffer else now
            self._arrived_at = now
            self._buffer.extend(got)
            self._bytes += sum(len(record.value or b"") for record in got)
        return got

    def _ripe(self, *, more: bool, gather: bool) -> bool:
        now = time.monotonic()
        quiet = not more and (not gather or now - self._arrived_at >= QUIET)
        return self._full or quiet or now - self._buffered_at >= self._linger

    # Committing

    def _commit(self, ends: Offsets) -> None:
        """One batch: quarantine first, then the main table, each conditional on this drain's epoch."""
        records, self._buffer, self._bytes = self._buffer, [], 0
        batch = self._batcher.batch(records, reached=self._reading, watermark=self._watermark, ends=ends, now=self._clock())
        self._outcomes += batch.outcomes
        staged = self._stage(batch)
        try:
            failpoint("drain-after-stage")
            audit = _Audit(self._checks) if self._checks.audits and batch.counts["inserted"] else None
            if audit:
                audit(staged)
            failpoint("drain-before-quarantine-commit")
            self._commit_quarantine(batch)
            failpoint("drain-before-main-commit")
            commit = publish(staged, audit)
        except _BlockedError as blocked:
            blocked.staged.discard()
            self._refuse(batch, blocked.outcomes)
            return
        except BaseException:
            staged.discard()
            raise
        failpoint("drain-after-main-commit")
        self._outcomes += audit.outcomes if audit else []
        self._adopt(batch.position, batch.watermark, batch.counts, commit, heartbeat=False)
        self._window.remember(batch.keys)

    def _stage(self, batch: Batch, extra: dict[str, str] | None = None) -> StagedWrite:
        stamp = self._position_stamp(batch.position, batch.watermark, batch.counts, extra or {})
        if not batch.counts["inserted"]:
            return stage_empty(self.lakehouse, self._definition, stamp, fence=self._fence())
        return stage_append(self.lakehouse, self._definition, batch.rows, stamp, fence=self._fence())

    def _commit_quarantine(self, batch: Batch) -> None:
        """Put the bad events of a batch aside; a batch without any needs no commit, since the quarantine's position only bounds it."""
        if not batch.refused:
            return
        tenure = self._held()
        rows = quarantine_rows(batch.refused, ingested_at=self._clock(), contract_version=self.contract.version, run_id=self.run_id)
        position = stamped(batch.position)
        fence = Fence(position=tenure.quarantine_position, epoch=tenure.epoch)
        publish(stage_append(self.lakehouse, self._quarantine, rows, self._stamp(epoch=tenure.epoch, position=position), fence=fence))
        self._tenure = replace(tenure, quarantine_position=position)
        failpoint("drain-after-quarantine-commit")

    def _rest(self, seen_at: datetime) -> None:
        """Nothing is left to commit: say that all log ends were seen reached at `seen_at`, at most once per half the promise.

        A hole that reading came past moves the position at once, or the log would look unread for as long. A drain that commits nothing
        meets no fence, so it looks: who rolled the table back waits for its end, and nobody may read the events again before that.
        """
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._require_tenure()
        if heartbeat_due(self.contract, self._last_commit, seen_at):
            failpoint("drain-before-heartbeat")
            self._publish_empty(self._watermark.at_end(micros(seen_at), delay_of(self.contract)), heartbeat=True)
        elif self._ahead:
            self._publish_empty(self._watermark, heartbeat=False)

    def _require_tenure(self) -> None:
        """Make sure that nobody took over.

        Raises:
            Fenced: somebody did.
        """
        table = self.lakehouse.table(self.contract.identifier)
        if table is None:
            raise Fenced.by(self.contract.identifier, "it was dropped")
        self._fence().check(table)

    def _publish_empty(self, watermark: Watermark, *, heartbeat: bool, extra: dict[str, str] | None = None) -> None:
        position = self._reading
        stamp = self._position_stamp(position, watermark, NOTHING, extra or {})
        commit = publish(stage_empty(self.lakehouse, self._definition, stamp, fence=self._fence()))
        self._adopt(position, watermark, NOTHING, commit, heartbeat=heartbeat)

    def _adopt(self, position: Offsets, watermark: Watermark, counts: dict[str, int], commit: Commit, *, heartbeat: bool) -> None:
        """What is committed becomes the drain's state."""
        self._position, self._ahead, self._watermark, self._last_commit = position, {}, watermark, self._clock()
        self._tenure = replace(self._held(), position=stamped(position))
        self._attempt = 1
        self.report.add(counts)
        if self._on_commit is not None:
            at = None if watermark.value is None else moment(watermark.value)
            self._on_commit(
                DrainCommit(
                    self.contract.key, commit.snapshot_id, commit.rows, commit.table_rows, counts, stamped(position), at, heartbeat,
                    commit.metadata_location,
                )
            )  # fmt: skip

    def _refuse(self, batch: Batch, outcomes: list[CheckOutcome]) -> None:
        """Keep the batch on a branch for its owner, staged anew with what was wrong in its stamp.

        The tenure ends with it: after a conflict in the last moment the quarantine may be a batch ahead, which only a take-over cuts.
        """
        self._outcomes += outcomes
        failed = ",".join(outcome.check.name for outcome in outcomes if outcome.check.blocking and not outcome.passed)
        at = compact_json(self._held().position)
        facts = {FAILED: failed, FINGERPRINT: self.contract.fingerprint, ATTEMPT: str(self._attempt), REFUSED_AT: at}
        before, branch = self._refusal(), refused_branch(self.run_id)
        self._stage(batch, facts).refuse(branch)
        table = self.lakehouse.table(self.contract.identifier)
        if table is not None and before is not None and before.branch != branch:
            forget_refusals(table, [before.branch])
        self._blocked(self._refusal())

    def _blocked(self, refusal: Refusal | None) -> None:
        """End for now; the refusal is None when its branch went away in the same moment."""
        if refusal is not None:
            self.report.blocked_until, self.report.blocked_by = refusal.until, refusal.checks
            self.report.refused_branch = refusal.branch
        self.finish("blocked")

    def _refusal(self) -> Refusal | None:
        table = self.lakehouse.table(self.contract.identifier)
        return refusal_at_head(table, self.contract, skip=self._skip) if table else None

    # Stamps, fences, the table's rows

    def _held(self) -> Tenure:
        if self._tenure is None:
            raise RuntimeError("a drain commits only after it took over")
        return self._tenure

    def _fence(self) -> Fence:
        tenure = self._held()
        return Fence(position=tenure.position, epoch=tenure.epoch)

    def _stamp(self, *, epoch: int, position: Position | None = None) -> Stamp:
        return Stamp(self.run_id, self._code_version, self.contract.version, epoch=epoch, position=position, extra=self._notes())

    def _notes(self) -> dict[str, str]:
        return {SKIPPED: ",".join(self._skip)} if self._skip else {}

    def _position_stamp(self, position: Offsets, watermark: Watermark, counts: dict[str, int], extra: dict[str, str]) -> Stamp:
        return Stamp(
            self.run_id,
            self._code_version,
            self.contract.version,
            position=stamped(position),
            watermark=None if watermark.value is None else moment(watermark.value),
            counts=counts,
            epoch=self._held().epoch,
            extra={**self._notes(), EVENT_TIMES: watermark.stamped(), TOPIC_IDS: compact_json(self._topic_ids), **extra},
        )

    def _versions(self) -> list[set[str]]:
        table = self.lakehouse.table(self.contract.identifier)
        return [] if table is None else [set(schema.column_names) for schema in table.schemas().values()]

    def _inserted_since(self, since_us: int) -> Keys:
        return inserted_since(self.lakehouse.table(self.contract.identifier), self.contract, since_us)


class _Audit:
    """The audit of one batch, again for each restaging, never twice for the same."""

    def __init__(self, checks: StreamChecks) -> None:
        self._checks = checks
        self._audited: int | None = None
        self.outcomes: list[CheckOutcome] = []

    def __call__(self, staged: StagedWrite) -> None:
        if staged.snapshot_id == self._audited:  # restaging changes it
            return
        self.outcomes = self._checks.whole(staged)
        if any(outcome.check.blocking and not outcome.passed for outcome in self.outcomes):
            raise _BlockedError(staged, self.outcomes)
        self._audited = staged.snapshot_id


def drain_all(
    drains: Sequence[Drain], *, seconds: float | None, idle_seconds: float | None, stop: threading.Event | None = None
) -> dict[str, DrainReport]:
    """Run a set of drains fairly: each in turn reads once and commits at most one batch, with a position and commits of its own.

    Args:
        drains: not begun yet; one that fails, is superseded or blocked ends alone.
        seconds: longest time to run; None = no limit.
        idle_seconds: end when all have had nothing to do for this long; 0 = as soon as nothing is left; None = never.
        stop: when set, what was read is committed and all end.

    Returns:
        The reports by product; a fault is in `error` of its report, not raised.
    """
    stop = stop or threading.Event()
    deadline = None if seconds is None else time.monotonic() + seconds
    gather, idle_since = idle_seconds != 0, time.monotonic()
    try:
        for drain in drains:
            _guarded(drain, drain.begin)
        while alive := [drain for drain in drains if not drain.done]:
            worked = False
            for drain in alive:
                if not stop.is_set() and not _passed(deadline):
                    worked |= _guarded(drain, lambda drain=drain: drain.turn(gather=gather))  # type: ignore[misc]
            now, busy = time.monotonic(), worked or any(drain.waiting for drain in alive)
            idle_since = now if busy else idle_since
            idle = not busy and idle_seconds is not None and now - idle_since >= idle_seconds
            reason = "stop" if stop.is_set() else "time" if _passed(deadline) else "idle" if idle else None
            if reason:
                _wind_up(alive, reason)
            elif not worked:
                stop.wait(PAUSE)
    finally:  # an interrupted Dagster run raises a BaseException: what was read and not committed is simply read again
        for drain in drains:
            if not drain.done:
                drain.finish("stop")
    return {drain.contract.key: drain.report for drain in drains}


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _wind_up(drains: Sequence[Drain], reason: str) -> None:
    for drain in drains:
        _guarded(drain, drain.flush)
        if not drain.done:
            drain.finish(reason)


def _guarded(drain: Drain, step: Callable[[], bool | None]) -> bool:
    """One step of one drain; a fault ends that drain, not its neighbours, and one that was superseded has none."""
    try:
        return bool(step())
    except (Fenced, CommitConflict):
        drain.finish("superseded")
        return False
    except Exception as error:  # noqa: BLE001 - it stands in the report, and whoever runs the set raises or tells it
        drain.finish("error", error)
        return False
