"""Who hears of what failed: one sensor per code location turns failed runs, failed checks and lost freshness into one mail per incident.

What it reads, as facts with a time: ended runs, evaluations of the products' checks, and Dagster's freshness states. What is open and
what nobody was told yet lies in the sensor's cursor (`platform_resources.alerts.incidents`); a mail that the server did not take stays
there and is tried again at the next tick. A stream that an aggregate check stopped is a failed check.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.events import JobFailureData
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from platform_resources.alerts.incidents import CHECK, FRESHNESS, RUN, Incident, IncidentBook
from platform_resources.alerts.mail import Alert, UndeliveredError, send
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.durations import show_duration
from platform_resources.contracts.model import Check, Contract
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import read_watermark
from platform_resources.runs import SAMPLE, asset_key_parts, failed_tag, look_at, refused_branch
from sensors.liveness import products_of

TICK_SECONDS = 30
LOOK_BACK = 3600.0  # at the very first tick: failures this recent are told, older ones are history
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
_MAILED = ("public", "internal")  # whose rows may be shown in a mail
_HISTORY, _RUNS, _LEDGER, _WIDEST = 50, 1000, 500, 200


def alert_sensor(domain: str, registry: Registry, *, settings: Settings | None = None) -> dg.SensorDefinition:
    """The sensor that tells a domain's owners what failed, once per incident."""

    @dg.sensor(
        name=f"alerts_{domain}",
        description=f"Mails the support addresses of {domain}'s products what failed, once per incident.",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        watch = Watch(domain, registry, settings or load_settings(), context.instance)
        book = IncidentBook.from_text(context.cursor) if context.cursor else IncidentBook(time.time() - LOOK_BACK)
        watch.take_in(book)
        told, waiting = watch.tell(book)
        context.update_cursor(book.to_text())
        if waiting:
            return dg.SkipReason(f"{told} told; {len(book.pending)} wait for the next tick: {waiting[0]}")
        return dg.SkipReason(f"{told} told, {len(book.open)} open.")

    return alerts


@dataclass(frozen=True)
class Watch:
    """One look at what the instance knows of a domain's products."""

    domain: str
    registry: Registry
    settings: Settings
    instance: DagsterInstance

    # --- taking in

    def take_in(self, book: IncidentBook) -> None:
        """Bring the book up to date with the instance."""
        facts: list[tuple[float, RunRecord | AssetCheckEvaluation, str]] = [*self._checks(book), *self._runs(book)]
        for when, fact, run_id in sorted(facts, key=lambda each: each[0]):
            if isinstance(fact, RunRecord):
                self._run_ended(book, fact, when)
            else:
                self._check_evaluated(book, fact, run_id, when)
        self._freshness(book)
        book.turn_page()

    def _products(self) -> list[str]:
        return [key for key, contract in self.registry.contracts.items() if contract.domain == self.domain]

    def _checks(self, book: IncidentBook) -> Iterator[tuple[float, AssetCheckEvaluation, str]]:
        """Evaluations not seen yet, with their run."""
        storage = self.instance.event_log_storage
        for product in self._products():
            for check in self.registry.contracts[product].checks:
                key = dg.AssetCheckKey(dg.AssetKey(asset_key_parts(product)), check.name)
                for record in storage.get_asset_check_execution_history(key, limit=_HISTORY, status=_EVALUATED):
                    if record.event is None or record.event.dagster_event is None:
                        continue
                    when = record.event.timestamp
                    evaluation = record.event.dagster_event.event_specific_data
                    if isinstance(evaluation, AssetCheckEvaluation) and book.is_new(f"{record.id}:{when}", when):
                        yield when, evaluation, record.run_id

    def _runs(self, book: IncidentBook) -> Iterator[tuple[float, RunRecord, str]]:
        """Runs of the domain's products that ended and are not seen yet."""
        since = datetime.fromtimestamp(book.horizon - book.overlap, UTC)
        ended = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE]
        records = self.instance.get_run_records(
            RunsFilter(statuses=ended, updated_after=since), limit=_RUNS, order_by="update_timestamp", ascending=True
        )
        for record in records:
            when = record.end_time or record.update_timestamp.timestamp()
            ours = any(product.startswith(f"{self.domain}/") for product in products_of(record.dagster_run))
            if ours and book.is_new(record.dagster_run.run_id, when):
                yield when, record, record.dagster_run.run_id

    def _run_ended(self, book: IncidentBook, record: RunRecord, when: float) -> None:
        run = record.dagster_run
        products = [product for product in products_of(run) if product.startswith(f"{self.domain}/")]
        failed = [product for product in products if failed_tag(product) in run.tags]
        if run.status == DagsterRunStatus.FAILURE:
            failed = failed or products  # no product named: the run as a whole broke down
            reason = _reason(self.instance, run.run_id)
            for product in failed:
                if not book.failed_check_in(product, run.run_id):
                    book.fail(Incident(product, RUN, reason, when, run.run_id))
        for product in products:
            if product not in failed:
                book.published(product, run.run_id)

    def _check_evaluated(self, book: IncidentBook, evaluation: AssetCheckEvaluation, run_id: str, when: float) -> None:
        product, cause = evaluation.asset_key.to_user_string(), CHECK + evaluation.check_name
        if evaluation.passed:
            book.recover(product, cause)
        elif evaluation.severity == dg.AssetCheckSeverity.ERROR:
            said = f": {evaluation.description}" if evaluation.description else "."
            what = f"The check {evaluation.check_name} failed{said}"
            more = self._about_check(product, evaluation, run_id)
            book.fail(Incident(product, cause, what, when, run_id, blocking=evaluation.blocking is not False, more=more))

    def _about_check(self, product: str, evaluation: AssetCheckEvaluation, run_id: str) -> str:
        """What the check is for, which rows break it, where they are now and how to go on."""
        contract = self.registry.contracts.get(product)
        check = next((one for one in contract.checks if one.name == evaluation.check_name), None) if contract else None
        if contract is None or check is None:
            return ""
        sample = evaluation.metadata.get(SAMPLE)
        rows = str(sample.value).splitlines() if sample is not None and contract.classification in _MAILED else []
        some = "\n".join(["Some of the rows:", *(f"  {row[:_WIDEST]}" for row in rows)]) if rows else ""
        return "\n\n".join(filter(None, [check.description, some, _whereabouts(contract, check, refused_branch(run_id))]))

    def _freshness(self, book: IncidentBook) -> None:
        keys = {dg.AssetKey(asset_key_parts(product)): product for product in self._products()}
        for key, record in self.instance.get_freshness_state_records(list(keys)).items():
            product, since = keys[key], record.updated_at.timestamp()
            if record.freshness_state == FreshnessState.FAIL:
                book.fail(Incident(product, FRESHNESS, self._staleness(product), since))
            else:
                book.recover(product, FRESHNESS)

    def _staleness(self, product: str) -> str:
        """How old the data is beside what is promised."""
        contract = self.registry.contracts[product]
        try:
            table = Lakehouse(self.settings).table(contract.identifier)
            watermark = read_watermark(table) if table is not None else None
        except Exception:  # noqa: BLE001 - a lakehouse out of reach, a reason for being late, must not keep the mail back
            watermark = None
        told = f": its data is complete up to {watermark:%Y-%m-%d %H:%M:%S} UTC, {_ago(watermark)}" if watermark else ""
        latency = contract.sla.latency
        return f"It is not fresh{told}." + (f" It promises data no older than {show_duration(latency)}." if latency else "")

    # --- telling

    def tell(self, book: IncidentBook) -> tuple[int, list[str]]:
        """Send what is pending, one mail per owner and run; how many went out, and why the others wait.

        Each mail is entered in a ledger in Dagster's storage as soon as the server took it, so that a process that dies before its
        cursor is saved does not send it again.
        """
        ledger = self._ledger()
        book.delivered(ledger)
        told, waiting = 0, []
        for alert in self._alerts(book.pending):
            try:
                send(alert, self.settings)
            except UndeliveredError as error:
                waiting.append(str(error))
                continue
            ids = [incident.id for incident in alert.incidents]
            ledger = [*ledger, *ids][-_LEDGER:]
            self.instance.daemon_cursor_storage.set_cursor_values({self._ledger_key: json.dumps(ledger)})
            book.delivered(ids)
            told += 1
        return told, waiting

    @property
    def _ledger_key(self) -> str:
        return f"sdp/alerts/{self.domain}"

    def _ledger(self) -> list[str]:
        text = self.instance.daemon_cursor_storage.get_cursor_values({self._ledger_key}).get(self._ledger_key)
        found: list[str] = json.loads(text) if text else []
        return found

    def _alerts(self, pending: list[Incident]) -> list[Alert]:
        groups: dict[tuple[tuple[str, ...], str], list[Incident]] = {}
        for incident in pending:
            group = incident.run_id or f"{incident.product}|{incident.cause}"
            groups.setdefault((self._recipients(incident.product), group), []).append(incident)
        return [Alert(incidents, recipients, self._contracts(incidents)) for (recipients, _), incidents in groups.items()]

    def _recipients(self, product: str) -> tuple[str, ...]:
        """The product's e-mail channels, or the domain's where the product has none or its contract is broken."""
        contract, domain = self.registry.contracts.get(product), self.registry.domains.get(self.domain)
        for support in (contract.support if contract else (), domain.support if domain else ()):
            addresses = tuple(dict.fromkeys(channel.address for channel in support if channel.address))
            if addresses:
                return addresses
        return ()

    def _contracts(self, incidents: list[Incident]) -> Mapping[str, str]:
        found = {}
        for incident in incidents:
            contract = self.registry.contracts.get(incident.product)
            if contract is not None:
                path, project = contract.path, self.registry.project
                found[incident.product] = str(path.relative_to(project) if path.is_relative_to(project) else path)
        return found


def _whereabouts(contract: Contract, check: Check, branch: str) -> str:
    """Where the rows are that broke a blocking check, and what the owner can do."""
    look = f"  {look_at(contract.identifier, branch)}"
    if not contract.is_stream and not (contract.lands and check.row_wise):
        return f"Nothing was published: readers go on with the last good data. The refused state is on a branch:\n{look}"
    if check.row_wise:
        look = f'  sdp query "select * from {contract.quarantine_identifier} limit 20" --include-quarantine'  # noqa: S608 - a line to paste
        return f"These rows are in quarantine, the others were published:\n{look}"
    return (
        "The stream stands still: nothing of this batch was published, and it is tried again ever more rarely. It is on a branch:\n"
        f"{look}\nMend the contract, or go on past the check:\n  sdp ingest {contract.key} --skip-check {check.name}"
    )


def _ago(when: datetime) -> str:
    """How long ago, in the unit that people would say."""
    passed = max(0.0, (datetime.now(UTC) - when).total_seconds())
    size = next((size for size in (86_400, 3_600, 60) if passed >= 2 * size), 1)
    return f"{show_duration(timedelta(seconds=passed // size * size))} ago"


def _reason(instance: DagsterInstance, run_id: str) -> str:
    """Why a run failed, in the words of its failed step, else of the run."""
    for kind in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run_id, of_type=kind, limit=1).records:
            event = record.event_log_entry.dagster_event
            data = event.event_specific_data if event else None
            if isinstance(data, StepFailureData):
                if data.user_failure_data and data.user_failure_data.description:
                    return f"The run failed: {data.user_failure_data.description}"
                if data.error:
                    inner = data.error.cause or data.error
                    return f"The run failed: {inner.message.strip()}"
            elif isinstance(data, JobFailureData) and data.error:
                return f"The run failed: {data.error.message.strip()}"
            elif event and event.message:
                return f"The run failed: {event.message}"
    return "The run failed."
