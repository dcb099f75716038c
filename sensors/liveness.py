"""Which runs are really at work, and how long a failing product waits: what sensors ask before they start a run.

A run record says what somebody intended; the lock on this machine says who is alive. Where both disagree for long enough, the
run is dead and is told so, for a record left at STARTED would hold its product for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from platform_resources.config import Settings
from platform_resources.locks import holder
from platform_resources.runs import FAILED_TAGS, PRODUCTS_TAG, drain_lock, failed_tag, run_lock

ACTIVE = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
# Silence after which a run without a lock counts as dead, seconds. Starting a process takes 4 s on an idle machine and was seen to
# take 20 s on a busy one; Dagster's own start time-out (dagster.yaml, 120 s) stays the last resort.
SILENCE = {DagsterRunStatus.STARTED: 30.0, DagsterRunStatus.CANCELING: 30.0, DagsterRunStatus.STARTING: 90.0}
# The first retry of a failed product comes soon, since most failures pass; then doubling up to an hour (DESIGN law 5).
FIRST_DELAY, LONGEST_DELAY = 15.0, 3600.0
REMEMBERED_RUNS = 12  # enough failures in a row to reach the longest delay


@dataclass(frozen=True)
class Work:
    """A run that is queued or at work, and the products it takes."""

    run_id: str
    queued: bool
    products: frozenset[str]


def active_work(instance: DagsterInstance, products: Iterable[str], settings: Settings) -> list[Work]:
    """Runs that are queued or at work on any of `products`; runs whose process died are reported as failed and left out."""
    wanted = frozenset(products)
    work = []
    for record in instance.get_run_records(RunsFilter(statuses=list(ACTIVE)), limit=200):
        run = record.dagster_run
        taken = products_of(run)
        if not taken & wanted or _failed_as_dead(instance, record, taken, settings):
            continue
        work.append(Work(run.run_id, run.status == DagsterRunStatus.QUEUED, taken))
    return work


def products_of(run: DagsterRun) -> frozenset[str]:
    """Keys of the products a run takes: its asset selection, or what its tags say."""
    if run.asset_selection:
        return frozenset(key.to_user_string() for key in run.asset_selection)
    return frozenset(filter(None, run.tags.get(PRODUCTS_TAG, "").split(",")))


def _failed_as_dead(instance: DagsterInstance, record: RunRecord, products: Iterable[str], settings: Settings) -> bool:
    """Report the run as ended when its process is gone; whether it was."""
    run = record.dagster_run
    silence = SILENCE.get(run.status)
    if silence is None or settings.profile == "production":  # pods share no lock file; there Dagster's run monitoring asks Kubernetes
        return False
    if time.time() - (record.start_time or record.update_timestamp.timestamp()) < silence:
        return False
    if any(holder(settings.locks_path, lock(key)) == run.run_id for key in products for lock in (drain_lock, run_lock)):
        return False
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    if newest and time.time() - newest[0].event_log_entry.timestamp < silence:
        return False  # between two steps of a run that computes several products
    message = (
        f"The process of this run is gone: it holds no lock and has said nothing for {silence:.0f} s. "
        "Nothing is lost; the sensor starts the next run."
    )
    if run.status == DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message=message)
    else:
        instance.report_run_failed(run, message=message)
    return True


def lock_holders(products: Iterable[str], lock: Callable[[str], str], settings: Settings) -> dict[str, str]:
    """Run ids at work on products on this machine, by product; foreground commands included."""
    found = {key: holder(settings.locks_path, lock(key)) for key in products}
    return {key: run_id for key, run_id in found.items() if run_id}


@dataclass(frozen=True)
class History:
    """What a product's last runs tell: when the newest was asked for, and how many have failed in a row until now."""

    last_start: float | None
    last_end: float | None
    failures: int

    def wait(self, now: float, frequency: float = 0.0) -> float:
        """Seconds until the next run may start: `frequency` after the last start, and after failures a doubling delay from the last end."""
        due = 0.0
        if self.last_start is not None:
            due = self.last_start + frequency
        if self.failures:
            due = max(due, (self.last_end or self.last_start or now) + min(FIRST_DELAY * 2 ** (self.failures - 1), LONGEST_DELAY))
        return max(0.0, due - now)


def history(instance: DagsterInstance, tag: str, failed: Callable[[DagsterRun], bool | None]) -> History:
    """The newest runs carrying `tag`. `failed` says True or False of an ended run, None when it proves nothing either way."""
    records = instance.get_run_records(RunsFilter(tags={tag: "1"}), limit=REMEMBERED_RUNS)
    last = records[0] if records else None
    failures, last_end = 0, None
    for record in records:
        verdict = failed(record.dagster_run)
        if verdict is False:
            break
        if verdict:
            failures += 1
            last_end = last_end or record.end_time or record.update_timestamp.timestamp()
    started = last.start_time or last.create_timestamp.timestamp() if last else None
    return History(started, last_end, failures)


def last_failed(instance: DagsterInstance, tag: str) -> bool:
    """Whether the newest run carrying `tag` failed, whatever its code was."""
    records = instance.get_run_records(RunsFilter(tags={tag: "1"}), limit=1)
    return bool(records) and records[0].dagster_run.status == DagsterRunStatus.FAILURE


def drain_failed(key: str, fingerprint: str) -> Callable[[DagsterRun], bool | None]:
    """Judge of drain runs for one product. A failure under another contract than today's proves nothing: it may be mended."""

    def judge(run: DagsterRun) -> bool | None:
        fault = run.tags.get(failed_tag(key))
        if fault is not None:
            return fault == fingerprint
        if run.status == DagsterRunStatus.SUCCESS:
            return False
        # A run that failed without naming a product died as a whole; one that named others went well for this one.
        named = any(tag.startswith(FAILED_TAGS) for tag in run.tags)
        return not named if run.status == DagsterRunStatus.FAILURE else None

    return judge


def transform_failed(code_tag: str, code_version: str) -> Callable[[DagsterRun], bool | None]:
    """Judge of a derived product's runs; a failure of other code than today's ends the counting, so that a mended product runs at once."""

    def judge(run: DagsterRun) -> bool | None:
        if run.tags.get(code_tag, code_version) != code_version or run.status == DagsterRunStatus.SUCCESS:
            return False
        return True if run.status == DagsterRunStatus.FAILURE else None

    return judge


def keys_of(products: Iterable[str]) -> list[dg.AssetKey]:
    """Asset keys of products."""
    return [dg.AssetKey(key.split("/")) for key in products]


def seconds(duration: float) -> str:
    """A waiting time for people."""
    return f"{duration:.0f} s" if duration < 120 else f"{duration / 60:.0f} min"
