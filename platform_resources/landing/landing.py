"""Landing: what a source has and the table has not becomes rows, each delivery once and whole, in one fenced commit of its own.

The position in the table's stamp says what has landed. What a landing does is the same when it is done twice: a file's rows replace the
rows of that file, a slice's those of the slice, and records put aside those put aside from the same delivery. Before its first commit it
takes over, as a drain does (`streams.takeover`): from then on no commit of an earlier landing counts, to neither table. Deliveries become
rows in `intake`, what is to land is told by `pending`, rows with a validity are compared in `validity`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import MergeRule, table_definition
from platform_resources.contracts.model import Contract
from platform_resources.engines.audit import CheckOutcome
from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.files import live_files
from platform_resources.lakehouse.parquet import Data
from platform_resources.lakehouse.staging import (
    Commit,
    CommitConflict,
    Fence,
    Fenced,
    PartitionScope,
    StagedWrite,
    publish,
    stage_append,
    stage_empty,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import (
    LANDED_AT,
    REFUSED_DELIVERIES,
    Position,
    Stamp,
    format_instant,
    parse_instant,
    read_position,
    read_stamp,
    read_watermark,
    same_position,
)
from platform_resources.landing.intake import Intake
from platform_resources.landing.limits import Limits
from platform_resources.landing.opening import open_source
from platform_resources.landing.pending import (
    Unit,
    idle_due,
    is_late,
    landed_of,
    position_kind,
    rest_of,
    tells_idleness,
    units,
    whole_slices,
)
from platform_resources.landing.quarantine import (
    Aside,
    RefusedDelivery,
    left_behind,
    no_keys,
    quarantine_definition,
    refused_deliveries,
    stamped_refusals,
)
from platform_resources.landing.reports import LandingCommit, LandingReport, Refused
from platform_resources.landing.settled import moved
from platform_resources.landing.source import DeliveryRefused, Filed, RefusedRecord, Source
from platform_resources.landing.validity import compared
from platform_resources.runs import code_version, look_at, refused_branch
from platform_resources.streams.checks import StreamChecks, combined
from platform_resources.streams.refusals import SKIPPED
from platform_resources.streams.takeover import cut_nothing, take_over

MOST_REFUSED = 100
"""Deliveries refused in a run in which none lands, after which it ends: it is the contract then."""
_FORGOTTEN = timedelta(days=1)  # a refused delivery that is still there is tried every hour: who was not for as long has gone
_GONE = "gone"  # the version, in a position, of a file that is none of its slice any more
# Faults of rows that the writer finds: the delivery is at fault, not the platform.
_OF_ROWS = frozenset({"column-null", "column-value", "merge-duplicate-key"})


@dataclass(frozen=True)
class _LateStamp(Stamp):
    """What a write says of itself where that is known only when its rows have been read: the summary is asked for after them."""

    told: Callable[[], Stamp] = field(kw_only=True)

    def summary(self) -> dict[str, str]:
        return self.told().summary()


class _BlockedError(Exception):
    """An error check failed on a staged write."""

    def __init__(self, outcomes: list[CheckOutcome]) -> None:
        super().__init__("blocked")
        self.outcomes = outcomes


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class _State:
    """What the tables say before a unit lands."""

    table: Table | None
    quarantine: Table | None

    @property
    def position(self) -> Position | None:
        return read_position(self.table) if self.table is not None else None

    @property
    def landed_at(self) -> datetime | None:
        told = read_stamp(self.table, LANDED_AT)[0] if self.table is not None else None
        return None if told is None else parse_instant(told)

    @property
    def watermark(self) -> datetime | None:
        return read_watermark(self.table) if self.table is not None else None

    @property
    def refused(self) -> dict[str, RefusedDelivery]:
        return refused_deliveries(self.quarantine)


class Landing:
    """One product's way from its source into its tables. One instance makes one run.

    Args:
        contract: of a landed product.
        lakehouse, settings: where to, how.
        run_id: names the run in stamps, quarantine rows and the branch of a refused write.
        source: where from; default: what the contract says.
        keys: land the slices of these keys only.
        again: land the slices of `keys` also when they have landed.
        aside: land again the deliveries that have records in the quarantine.
        retry: try refused deliveries before their rest is over.
        skip_checks: rules not to evaluate, recorded in the stamp.
        on_commit: called after each commit of the main table.
        clock: the wall clock, for tests.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        lakehouse: Lakehouse,
        settings: Settings,
        run_id: str,
        source: Source | None = None,
        keys: Sequence[str] | None = None,
        again: bool = False,
        aside: bool = False,
        retry: bool = False,
        skip_checks: Sequence[str] = (),
        on_commit: Callable[[LandingCommit], None] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.contract, self.lakehouse, self.settings, self.run_id = contract, lakehouse, settings, run_id
        self.source = source or open_source(contract, settings)
        self.report = LandingReport()
        self._keys, self._again, self._retry, self._clock = keys, again, retry or again, clock
        self._put_aside = aside
        self._skip = tuple(sorted(skip_checks))
        self._on_commit = on_commit
        self._definition, self._quarantine = table_definition(contract), quarantine_definition(contract)
        self._checks, self._limits = StreamChecks(contract, settings, skip=self._skip), Limits(contract)
        self._outcomes: list[CheckOutcome] = []
        self._epoch: int | None = None

    def run(self, *, stop: threading.Event | None = None) -> LandingReport:
        """Land what is pending, oldest first; a refused delivery does not keep the others from landing.

        Args:
            stop: when set, the delivery at hand is finished and the landing ends.

        Raises:
            PlatformError: the source cannot be reached, `schema-breaking` and whatever else keeps the product from going on.
        """
        report = self.report
        try:
            self._land_all(stop or threading.Event())
        except (Fenced, CommitConflict):
            report.superseded = True
        finally:
            self._checks.close()
            self._limits.close()
            state = self._state()
            report.position, report.watermark = state.position or {}, state.watermark
            report.checks = combined(self._outcomes)
        return report

    def _land_all(self, stop: threading.Event) -> None:
        found, listed_at = self._found()
        self._note_absent([unit for unit, _ in found])
        left = 0
        for number, (unit, rests) in enumerate(found):
            if stop.is_set():
                self.report.stopped = True
                return
            if rests:
                self.report.resting += [delivery.name for delivery in unit.deliveries]
            last = number == len(found) - 1 and not left
            landed = not rests and self._landed(unit, listed_at if last and tells_idleness(self.contract) else None)
            left += not landed
            self._require_some()
            if not landed and self.contract.validity and not is_late(self.contract, unit, self._state().watermark):
                return  # those behind it would be the newer ones, and it could never land
        if not found and idle_due(self.contract, self._state().table, listed_at):
            self._say_idle(listed_at)

    def _require_some(self) -> None:
        """Go on only while anything lands, or little was refused: what is refused is remembered in the stamp, one by one.

        Raises:
            PlatformError: `all-refused`.
        """
        refused = self.report.refused
        if len(refused) >= MOST_REFUSED and not self.report.commits:
            raise PlatformError(
                "all-refused",
                f"The first {len(refused)} deliveries of {self.contract.key} were refused and none landed, so the rest was not tried. "
                f"The last, {refused[-1].delivery} ({refused[-1].code}): {refused[-1].message}",
                "Mend the contract, or what delivers.",
                file=self.contract.path,
            )

    def _found(self) -> tuple[list[tuple[Unit, bool]], datetime]:
        """What is to land and whether it rests, and when that was seen; taken over where any of it may be tried now."""
        while True:
            state, listed_at = self._state(), self._clock()
            landed = landed_of(self.contract, state.table, aside=state.quarantine if self._put_aside else None)
            there = units(self.contract, self.source, landed, self._keys, again=self._again)
            found = [(unit, self._rests(unit, state)) for unit in there]
            if self._epoch is None and not all(rests for _, rests in found):
                self._take_over()
            if same_position(self._state().position, state.position):  # else an earlier landing went on until it was taken over
                return found, listed_at

    def _take_over(self) -> None:
        """Become the only landing whose commits count.

        Raises:
            Fenced: another one was faster.
        """
        definition, version = self._definition, self.contract.version
        tenure = take_over(
            self.lakehouse, definition, self._quarantine, lambda *, epoch, **_: Stamp(self.run_id, None, version, epoch=epoch),
            cut_back=cut_nothing,
        )  # fmt: skip
        if tenure is None:
            raise Fenced.by(definition.identifier, "another landing took over at the same time")
        self._epoch = tenure.epoch

    def _rests(self, unit: Unit, state: _State) -> bool:
        """Whether a unit that was refused is not to be tried yet."""
        return not self._retry and rest_of(self.contract, unit, state.refused, self._clock()) is not None

    def _note_absent(self, found: Sequence[Unit]) -> None:
        slices = self.contract.slices
        if self._keys is not None and self._again and slices is not None:
            have = {unit.slice for unit in found}
            self.report.absent = [key for key in self._keys if slices.at(key) not in have]

    # One unit

    def _landed(self, unit: Unit, idle_at: datetime | None) -> bool:
        """Land a unit; False when it was refused. `idle_at`: with it nothing that was there then is left to land."""
        state = self._state()
        landed_at = self._later(state)
        try:
            if self.contract.validity and is_late(self.contract, unit, state.watermark):
                raise self._too_late(unit, state)
            with self._aside(landed_at) as aside:
                self._land(unit, state, aside, landed_at, idle_at)
        except _BlockedError as blocked:
            self._refuse(unit, state, landed_at, *self._why_blocked(blocked.outcomes), checks=_failed(blocked.outcomes))
            return False
        except PlatformError as error:
            if not isinstance(error, DeliveryRefused) and error.code not in _OF_ROWS:
                raise
            self._refuse(unit, state, landed_at, error.code, f"{error.message} {error.remedy}".strip())
            return False
        return True

    def _later(self, state: _State) -> datetime:
        """Now, but later than all that landed: by that what was put aside by a landing that never ended is told from the rest."""
        told = state.landed_at
        return self._clock() if told is None else max(self._clock(), told + timedelta(microseconds=1))

    def _land(self, unit: Unit, state: _State, aside: Aside, landed_at: datetime, idle_at: datetime | None) -> None:
        intake = Intake(
            self.contract, self.source, unit.deliveries, checks=self._checks, limits=self._limits, aside=aside, landed_at=landed_at
        )
        fence = Fence(position=state.position, epoch=self._epoch)
        stamp = _LateStamp(self.run_id, told=lambda: self._stamp_of(unit, state, intake, aside, landed_at, idle_at))
        try:
            staged = self._staged(unit, state, intake, landed_at, stamp, fence)
        except Exception:
            if isinstance(intake.fault, Exception):
                raise intake.fault from None
            raise
        audit = _Audit(self._checks)
        try:
            failpoint("landing-after-stage")
            if self._checks.audits:
                audit(staged)
            failpoint("landing-before-quarantine-commit")
            self._commit_quarantine(unit, state, aside)
            failpoint("landing-before-main-commit")
            commit = publish(staged, audit if self._checks.audits else None)
        except _BlockedError:
            staged.refuse(self._branch())
            raise
        except BaseException:
            staged.discard()
            raise
        failpoint("landing-after-main-commit")
        self._outcomes += [*intake.outcomes, *audit.outcomes]
        self._tell(unit, intake, commit, aside)

    def _staged(self, unit: Unit, state: _State, intake: Intake, landed_at: datetime, stamp: Stamp, fence: Fence) -> StagedWrite:
        """The unit's rows, staged in the way that the contract says; its deliveries are read to their end."""
        contract, house, definition = self.contract, self.lakehouse, self._definition
        if contract.validity:
            at = unit.slice or landed_at
            with compared(contract, state.table, intake.reader(), at, self.settings, full=unit.slice is not None) as changes:
                rule = replace(definition, merge=MergeRule(contract.merge_strategy))
                if state.table is None or not live_files(state.table.io, state.table.current_snapshot(), contract.identifier):
                    return stage_append(house, rule, changes.rows, stamp, fence=fence)  # nothing to merge with, so no key is held in memory
                keys = (*contract.primary_key, "_valid_from")
                return stage_merge(house, rule, changes.rows, stamp, keys=keys, delete_keys=changes.gone, fence=fence)
        if contract.write_mode == "merge":
            return stage_merge(house, definition, intake.reader(), stamp, keys=contract.primary_key, fence=fence)
        if contract.write_mode == "overwrite":
            scope = PartitionScope.listed(self._partitions_of(unit, state.table))
            return stage_overwrite(house, definition, intake.reader(), stamp, partitions=scope, fence=fence)
        landed = landed_of(contract, state.table)
        names = [delivery.name for delivery in unit.deliveries if delivery.name in landed]
        if names and position_kind(contract) != "cursor":  # an increment has the name of those before it
            files = pa.table({"_file_name": pa.array(names, pa.string())})
            return stage_merge(
                house,
                definition,
                intake.reader(),
                stamp,
                keys=("_file_name",),
                delete_keys=files,
                replace_keys=True,
                covered=True,
                fence=fence,
            )
        return stage_append(house, definition, intake.reader(), stamp, fence=fence)

    def _partitions_of(self, unit: Unit, table: Table | None) -> list[Record]:
        """The partitions that hold the slice now; the slice is the first field of each."""
        slices, fields = self.contract.slices, self._definition.partition_spec.fields
        assert slices is not None  # noqa: S101 - the contract's law
        assert unit.slice is not None  # noqa: S101
        value = _physical(slices.cadence, unit.slice)
        if len(fields) == 1:
            return [Record(value)]
        head = table.current_snapshot() if table is not None else None
        files = live_files(table.io, head, self.contract.identifier) if table is not None else []
        spec_id = table.metadata.default_spec_id if table is not None else 0
        return [file.partition for file in files if file.spec_id == spec_id and file.partition[0] == value]

    def _commit_quarantine(self, unit: Unit, state: _State, aside: Aside) -> None:
        """Put bad records aside, in place of those of the same deliveries; nothing to put and nothing to replace needs no commit."""
        refused = {name: one for name, one in state.refused.items() if name not in {delivery.name for delivery in unit.deliveries}}
        self._replace_aside(unit, state, aside.read(), refused)
        failpoint("landing-after-quarantine-commit")

    def _replace_aside(self, unit: Unit, state: _State, rows: pa.Table | None, refused: Mapping[str, RefusedDelivery]) -> None:
        stale = self._stale(unit, state)
        if rows is None and not stale.num_rows and refused == state.refused:
            return
        stamp = Stamp(self.run_id, None, self.contract.version, epoch=self._epoch, extra={REFUSED_DELIVERIES: stamped_refusals(refused)})
        data: Data = rows if rows is not None else Aside.empty(self.contract)
        staged = stage_merge(
            self.lakehouse, self._quarantine, data, stamp,
            keys=("_file_name", "_file_hash"), delete_keys=stale, replace_keys=True, fence=Fence(epoch=self._epoch),
        )  # fmt: skip
        publish(staged)

    def _stale(self, unit: Unit, state: _State) -> pa.Table:
        """Keys of the quarantine rows that this landing replaces: of its deliveries, and of landings of them that never ended."""
        names = () if position_kind(self.contract) == "cursor" else tuple(delivery.name for delivery in unit.deliveries)
        if state.quarantine is None:
            return no_keys()
        since = state.landed_at or datetime.min.replace(tzinfo=UTC)
        return left_behind(state.quarantine, since, names, {delivery.name for delivery in unit.deliveries})

    # What is said of it

    def _stamp_of(self, unit: Unit, state: _State, intake: Intake, aside: Aside, landed_at: datetime, idle_at: datetime | None) -> Stamp:
        table = state.table or self.lakehouse.create(self._definition)
        reached = {name: version for delivery in unit.deliveries for name, version in self.source.reached(delivery).items()}
        reached |= dict.fromkeys(self._gone(unit, state), _GONE)
        return Stamp(
            self.run_id,
            code_version(self.contract.fingerprint),
            self.contract.version,
            partition=self._key(unit),
            position=moved(table, state.position, position_kind(self.contract), reached),
            watermark=self._watermark(unit, state, intake, idle_at),
            counts=_counts(intake, aside),
            epoch=self._epoch,
            extra={**self._notes(), LANDED_AT: format_instant(landed_at)},
        )

    def _gone(self, unit: Unit, state: _State) -> list[str]:
        """Files that landed with the slice and are no longer there: their rows go with this landing, so they must land if they return."""
        if not whole_slices(self.contract) or not isinstance(self.source, Filed):
            return []
        have, landed = {delivery.name for delivery in unit.deliveries}, landed_of(self.contract, state.table)
        return [name for name in landed if name not in have and self.source.slice_of(name) == unit.slice]

    def _watermark(self, unit: Unit, state: _State, intake: Intake | None, idle_at: datetime | None) -> datetime | None:
        slices = self.contract.slices
        new = slices.end(unit.slice) if slices is not None and unit.slice is not None else intake.newest if intake is not None else None
        known = [moment for moment in (state.watermark, new, idle_at) if moment is not None]
        return max(known, default=None)

    def _notes(self) -> dict[str, str]:
        return {SKIPPED: ",".join(self._skip)} if self._skip else {}

    def _key(self, unit: Unit) -> str | None:
        slices = self.contract.slices
        return None if slices is None or unit.slice is None else slices.key(unit.slice)

    def _tell(self, unit: Unit, intake: Intake, commit: Commit, aside: Aside) -> None:
        told = LandingCommit(
            self.contract.key,
            tuple(delivery.name for delivery in unit.deliveries),
            self._key(unit),
            commit.snapshot_id,
            commit.rows,
            commit.table_rows,
            _counts(intake, aside),
            self._state().watermark,
        )
        self.report.add(told)
        if self._on_commit is not None:
            self._on_commit(told)

    def _say_idle(self, at: datetime) -> None:
        """Nothing came: an empty snapshot moves the watermark to when that was seen."""
        state = self._state()
        stamp = Stamp(
            self.run_id, code_version(self.contract.fingerprint), self.contract.version,
            position=state.position or {position_kind(self.contract): {}}, watermark=max(at, state.watermark or at),
        )  # fmt: skip
        publish(stage_empty(self.lakehouse, self._definition, stamp, fence=Fence(position=state.position)))
        self.report.commits += 1

    # What is refused

    def _refuse(self, unit: Unit, state: _State, at: datetime, code: str, message: str, *, checks: tuple[str, ...] = ()) -> None:
        """Remember that a unit was refused whole: a quarantine row without a line for each delivery, the attempt in the stamp."""
        known = state.refused
        refused = {name: one for name, one in known.items() if at - one.at < _FORGOTTEN}
        with self._aside(at) as aside:
            for delivery in unit.deliveries:
                before = known.get(delivery.name)
                attempt = before.attempt + 1 if before is not None and before.holds(delivery, self.contract) else 1
                refused[delivery.name] = RefusedDelivery(delivery.version, self.contract.fingerprint, code, attempt, at)
                aside.put(delivery, [RefusedRecord(None, None, code, "", message)])
            self._replace_aside(unit, state, aside.read(), refused)
        branch = self._branch() if checks else None
        if checks:
            self._branches += 1
        for delivery in unit.deliveries:
            until = refused[delivery.name].until
            self.report.refused.append(Refused(delivery.name, self._key(unit), code, message, until, branch, checks))

    def _why_blocked(self, outcomes: Sequence[CheckOutcome]) -> tuple[str, str]:
        failed = [outcome for outcome in outcomes if outcome.check.blocking and not outcome.passed]
        self._outcomes += outcomes
        said = "; ".join(f"{o.check.name} ({o.error or f'measured {o.measured:g}'})" for o in failed)
        line = look_at(self.contract.identifier, self._branch())
        return f"check:{failed[0].check.name}", f"The check {said} failed. The rows are kept on branch {self._branch()}: `{line}`."

    def _too_late(self, unit: Unit, state: _State) -> DeliveryRefused:
        newest = self.contract.slices.key(state.watermark - timedelta(microseconds=1)) if self.contract.slices and state.watermark else ""
        return DeliveryRefused(
            "slice-late",
            f"The slice {self._key(unit)} came after {newest} had landed, and rows with a validity land in the order of time.",
            f"Recreate the product to land it in its place: `sdp ingest {self.contract.key} --recreate` (of a draft).",
        )

    _branches = 1

    def _branch(self) -> str:
        """A run may refuse several deliveries, each on a branch of its own."""
        return refused_branch(self.run_id) + (f"-{self._branches}" if self._branches > 1 else "")

    def _state(self) -> _State:
        return _State(self.lakehouse.table(self.contract.identifier), self.lakehouse.table(self.contract.quarantine_identifier))

    @contextmanager
    def _aside(self, landed_at: datetime) -> Iterator[Aside]:
        aside = Aside(self.contract, landed_at=landed_at, run_id=self.run_id, folder=self.settings.home / "tmp" / "landing")
        try:
            yield aside
        finally:
            aside.close()


class _Audit:
    """The audit of one write, again for each restaging, never twice for the same."""

    def __init__(self, checks: StreamChecks) -> None:
        self._checks, self._audited = checks, 0
        self.outcomes: list[CheckOutcome] = []

    def __call__(self, staged: StagedWrite) -> None:
        if staged.snapshot_id == self._audited:  # restaging changes it
            return
        self.outcomes = self._checks.whole(staged)
        if _failed(self.outcomes):
            raise _BlockedError(self.outcomes)
        self._audited = staged.snapshot_id


def _failed(outcomes: Sequence[CheckOutcome]) -> tuple[str, ...]:
    return tuple(outcome.check.name for outcome in outcomes if outcome.check.blocking and not outcome.passed)


def _counts(intake: Intake, aside: Aside) -> dict[str, int]:
    return {"read": intake.read, "inserted": intake.inserted, "quarantined": aside.rows}


def _physical(cadence: str, start: datetime) -> int:
    """A slice as its partition's value: hours, or days, since 1970."""
    return int(start.timestamp()) // (3600 if cadence == "hourly" else 86400)
