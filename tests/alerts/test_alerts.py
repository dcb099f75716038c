"""One mail per incident, to the owner, never lost and never twice: real runs, checks and freshness events, a real SMTP server."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from dagster import AssetCheckEvaluation, DagsterInstance
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from platform_resources.alerts.incidents import RUN, Incident, IncidentBook
from platform_resources.alerts.mail import Alert, UndeliveredError, send
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import publish, stage_empty
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.runs import SAMPLE, failed_tag, transform_tags
from sensors.alerts import alert_sensor

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.{name}
version: 1.0.0
status: draft
description: {{purpose: Sales.}}
slaProperties: [{{property: latency, value: 5, unit: min}}]
{support}
schema:
  - name: {name}
    logicalType: object
    quality:
      - {{name: amount_known, metric: rowCount, mustBeGreaterThan: 1, severity: error}}
      - {{name: amount_small, metric: rowCount, mustBeLessThan: 9, severity: error}}
      - {{name: nice, metric: rowCount, mustBeGreaterThan: 0, severity: warning}}
    properties:
      - {{name: amount, logicalType: integer, description: Money.}}
"""
STREAM = """\
servers:
  - server: events
    type: custom
    customProperties: [{{property: source, value: stream}}, {{property: stream, value: shop.clicks.v1}}]
schema:
  - name: clicks
    quality:
      - {{name: few, metric: rowCount, mustBeLessThan: 9, severity: error}}
    properties:
      - {{name: _schema, logicalType: string, required: true, description: Version of the event's schema.}}
      - name: meta
        logicalType: object
        required: true
        description: Envelope.
        properties:
          - {{name: id, logicalType: string, description: Id.}}
          - {{name: dt, logicalType: timestamp, description: Time.}}
          - {{name: stream, logicalType: string, required: true, description: Stream.}}
      - name: place
        logicalType: string
        description: Where.
        quality:
          - {{name: place_known, description: Every click is somewhere., metric: nullValues, mustBe: 0, severity: error}}
"""
OWN = "support: [{channel: '#sales', tool: slack}, {channel: sales@example.org, tool: email}]"


@dataclass
class Sink:
    """A mail server that keeps what it takes; while `refusing` it takes nothing."""

    mails: list[Message] = field(default_factory=list)
    refusing: bool = False

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refusing:
            return "451 come back later"
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


@pytest.fixture
def sink() -> Iterator[tuple[Sink, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Sink()
    controller = Controller(found, hostname="127.0.0.1", port=port)
    controller.start()
    yield found, port
    controller.stop()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    project = tmp_path_factory.mktemp("project")
    folder = project / "data_products" / "shop"
    folder.mkdir(parents=True)
    (project / "workspace.yaml").write_text("load_from: []\n")
    (folder / "domain.yaml").write_text(
        "name: shop\ntitle: Shop\nowners: [team:shop]\nsupport: [{channel: shop@example.org, tool: email}]\n"
    )
    for name, support in (("sales", OWN), ("returns", "")):
        (folder / f"{name}.yaml").write_text(CONTRACT.format(name=name, support=support))
        (folder / f"{name}.sql").write_text("select 1::bigint as amount\n")
    (folder / "clicks.yaml").write_text((CONTRACT.partition("schema:\n")[0] + STREAM).format(name="clicks", support=""))
    found = Registry.load(project)
    assert set(found.contracts) == {"shop/sales", "shop/returns", "shop/clicks"}, found.problems
    return found


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> Iterator[DagsterInstance]:
    """An instance of Dagster: in memory, or with the files a real one has where the test asks for `stored`."""
    with dg.instance_for_test() if getattr(request, "param", None) == "stored" else DagsterInstance.ephemeral() as found:
        yield found


over_both_storages = pytest.mark.parametrize("instance", ["memory", "stored"], indirect=True)


class Ticker:
    """Ticks the sensor as the daemon does: each tick starts from the cursor the last one left."""

    def __init__(self, instance: DagsterInstance, registry: Registry, settings: Settings) -> None:
        self.instance, self.registry, self.cursor = instance, registry, None
        self.sensor = alert_sensor("shop", registry, settings=settings)

    def tick(self, *, keep_cursor: bool = True) -> str:
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = self.sensor(context)
            if keep_cursor:
                self.cursor = context.cursor
        assert isinstance(result, dg.SkipReason)
        return result.skip_message or ""


@pytest.fixture
def ticker(instance: DagsterInstance, registry: Registry, sink: tuple[Sink, int], settings: Settings) -> Ticker:
    mailing = {"smtp_host": "127.0.0.1", "smtp_port": sink[1], "base_url": "http://ui.example.org/"}
    return Ticker(instance, registry, settings.model_copy(update=mailing))


@pytest.fixture
def mails(sink: tuple[Sink, int]) -> list[Message]:
    return sink[0].mails


def run(
    instance: DagsterInstance,
    *,
    error: str | None = None,
    checks: dict[str, bool] | None = None,
    product: str = "shop/sales",
    names: tuple[str, ...] = ("amount_known", "amount_small", "nice"),
    tags: dict[str, str] | None = None,
) -> str:
    """A real run of the product: its checks are yielded first, then it fails or materialises; the run's id."""
    outcomes = checks or {}
    key = dg.AssetKey(product.split("/"))
    specs = [dg.AssetCheckSpec(name, asset=key, blocking=name != "nice") for name in names]

    @dg.multi_asset(specs=[dg.AssetSpec(key)], check_specs=specs, can_subset=True)
    def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
        for name, passed in outcomes.items():
            severity = dg.AssetCheckSeverity.WARN if name == "nice" else dg.AssetCheckSeverity.ERROR
            evaluation = AssetCheckEvaluation(
                key,
                name,
                passed,
                {SAMPLE: dg.MetadataValue.text("amount=7\namount=8")},
                severity=severity,
                description="Measured 3 in 10 rows.",
                blocking=name != "nice",
            )
            context.log_event(evaluation)
        if error is not None:
            raise dg.Failure(description=error, allow_retries=False)
        if not all(passed for name, passed in outcomes.items() if name == "amount_known"):
            raise dg.Failure(description="Blocked by amount_known.", allow_retries=False)
        context.log_event(dg.AssetMaterialization(key))
        yield from ()

    all_tags = {**transform_tags(product), **(tags or {})}
    return dg.materialize([compute], instance=instance, raise_on_error=False, tags=all_tags).run_id


def test_a_failed_run_is_one_mail_that_says_what_where_and_since_when(ticker: Ticker, mails: list[Message]) -> None:
    run_id = run(ticker.instance, error="The disk is full.")
    assert ticker.tick() == "1 told, 1 open."
    (mail,) = mails
    assert mail["To"] == "sales@example.org"
    assert mail["Subject"] == "[data platform] shop/sales: run failed"
    text = mail.get_payload()
    assert "The run failed: The disk is full." in text
    assert f"http://ui.example.org/runs/{run_id}" in text and "http://ui.example.org/assets/shop/sales" in text
    assert "data_products/shop/sales.yaml" in text
    assert f"{datetime.now(UTC):%Y-%m-%d}" in text and " UTC" in text
    assert mail["Auto-Submitted"] == "auto-generated"


@over_both_storages
def test_a_failure_that_goes_on_is_told_once_and_again_after_recovery(ticker: Ticker, mails: list[Message]) -> None:
    for _ in range(3):
        run(ticker.instance, error="Still broken.")
        ticker.tick()
        ticker.tick()
    assert len(mails) == 1
    run(ticker.instance)
    assert ticker.tick() == "0 told, 0 open."
    assert len(mails) == 1  # a recovery is silent
    run(ticker.instance, error="Broken again.")
    ticker.tick()
    assert len(mails) == 2 and "Broken again." in mails[1].get_payload()
    assert mails[0]["Message-ID"] != mails[1]["Message-ID"]


def test_a_failure_and_recovery_between_two_ticks_is_still_told(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, error="Short.")
    run(ticker.instance)
    assert ticker.tick() == "1 told, 0 open."
    assert len(mails) == 1


@over_both_storages
def test_a_failed_blocking_check_is_one_mail_though_its_run_failed_too(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, checks={"amount_known": False, "amount_small": True, "nice": False})
    ticker.tick()
    (mail,) = mails
    assert mail["Subject"] == "[data platform] shop/sales: check amount_known failed"
    assert "The check amount_known failed: Measured 3 in 10 rows." in mail.get_payload()
    run(ticker.instance, checks={"amount_known": False})
    ticker.tick()
    assert len(mails) == 1
    run(ticker.instance, checks={"amount_known": True})
    assert ticker.tick() == "0 told, 0 open."
    run(ticker.instance, checks={"amount_known": False})
    ticker.tick()
    assert len(mails) == 2


def test_two_checks_that_fail_in_one_run_share_a_mail(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, checks={"amount_known": False, "amount_small": False})
    ticker.tick()
    (mail,) = mails
    assert "check amount_known failed, check amount_small failed" in mail["Subject"]


def test_the_run_failure_that_follows_its_check_by_a_tick_is_not_told_again(ticker: Ticker, mails: list[Message]) -> None:
    book = IncidentBook(0.0)
    book.fail(Incident("shop/sales", "check:amount_known", "x", 1.0, "run-1"))
    book.delivered([incident.id for incident in book.pending])
    assert book.failed_check_in("shop/sales", "run-1")
    assert not book.failed_check_in("shop/sales", "run-2")


def test_a_warning_is_not_mailed(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, checks={"nice": False})
    assert ticker.tick() == "0 told, 0 open."
    assert mails == []


def test_going_on_past_a_blocking_check_ends_its_incident(ticker: Ticker, mails: list[Message]) -> None:
    """`--skip-check`: the next run publishes without evaluating the check; failing later is a new incident."""
    run(ticker.instance, checks={"amount_known": False})
    ticker.tick()
    run(ticker.instance)
    assert ticker.tick() == "0 told, 0 open."


def test_only_the_products_that_a_run_names_as_failed_are_told(ticker: Ticker, mails: list[Message]) -> None:
    tags = {"sdp/products": "shop/sales,shop/returns", failed_tag("shop/returns"): "f1ngerprint"}
    run(ticker.instance, error="shop/returns: cannot go on.", tags=tags)
    ticker.tick()
    (mail,) = mails
    assert mail["Subject"] == "[data platform] shop/returns: run failed"
    assert mail["To"] == "shop@example.org"  # no address of its own: the domain's


def test_a_run_that_breaks_down_for_several_products_tells_each_owner_once(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, error="Out of memory.", tags={"sdp/products": "shop/sales,shop/returns"})
    ticker.tick()
    assert sorted(mail["To"] for mail in mails) == ["sales@example.org", "shop@example.org"]


def test_other_domains_failures_are_theirs(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, error="Not ours.", product="garden/roses")
    assert ticker.tick() == "0 told, 0 open."


def change(instance: DagsterInstance, state: FreshnessState, before: FreshnessState) -> None:
    """What Dagster's freshness daemon stores."""
    event = FreshnessStateChange(
        key=dg.AssetKey(["shop", "sales"]), new_state=state, previous_state=before, state_change_timestamp=time.time()
    )
    instance._report_runless_asset_event(event)


@over_both_storages
def test_lost_freshness_is_one_mail_until_it_is_back(ticker: Ticker, mails: list[Message]) -> None:
    change(ticker.instance, FreshnessState.PASS, FreshnessState.UNKNOWN)
    ticker.tick()
    assert mails == []
    change(ticker.instance, FreshnessState.FAIL, FreshnessState.PASS)
    ticker.tick()
    ticker.tick()
    (mail,) = mails
    assert mail["Subject"] == "[data platform] shop/sales: not fresh"
    assert mail.get_content().startswith("It is not fresh. It promises data no older than 5 minutes.")
    change(ticker.instance, FreshnessState.PASS, FreshnessState.FAIL)
    ticker.tick()
    change(ticker.instance, FreshnessState.FAIL, FreshnessState.PASS)
    ticker.tick()
    assert len(mails) == 2


def test_a_mail_about_lost_freshness_says_how_old_the_data_is(ticker: Ticker, mails: list[Message], settings: Settings) -> None:
    definition = table_definition(ticker.registry.get("shop/sales"))
    watermark = datetime.now(UTC) - timedelta(minutes=20)
    lakehouse = Lakehouse(settings)
    lakehouse.create(definition)
    publish(stage_empty(lakehouse, definition, Stamp("run-1", watermark=watermark)))
    change(ticker.instance, FreshnessState.FAIL, FreshnessState.PASS)
    ticker.tick()
    told = f"It is not fresh: its data is complete up to {watermark:%Y-%m-%d %H:%M:%S} UTC, 20 minutes ago. It promises data no older than"
    assert mails[0].get_content().startswith(told)


def test_a_mail_about_a_check_shows_the_rows_and_where_they_are(ticker: Ticker, mails: list[Message]) -> None:
    run_id = run(ticker.instance, checks={"amount_known": False})
    ticker.tick()
    text = mails[0].get_content().replace("\r\n", "\n")
    assert "Some of the rows:\n  amount=7\n  amount=8\n" in text
    assert f'sdp query --branch refused/{run_id} "select * from shop.sales"' in text
    assert text.rstrip().endswith(f"http://ui.example.org/runs/{run_id}")


@pytest.mark.parametrize(
    ("check", "way_on"),
    [
        ("few", ["The stream stands still", "--branch refused/", "sdp ingest shop/clicks --skip-check few"]),
        ("place_known", ["Every click is somewhere.", "in quarantine", 'shop.clicks__quarantine limit 20" --include-quarantine']),
    ],
)
def test_a_mail_about_a_streams_check_says_how_it_goes_on(ticker: Ticker, mails: list[Message], check: str, way_on: list[str]) -> None:
    run(ticker.instance, checks={check: False}, product="shop/clicks", names=(check,))
    ticker.tick()
    text = mails[0].get_content()
    assert all(said in text for said in way_on), text


def test_an_alert_waits_for_a_mail_server_that_refuses_and_goes_out_once(
    ticker: Ticker, sink: tuple[Sink, int], mails: list[Message]
) -> None:
    sink[0].refusing = True
    run(ticker.instance, error="Broken.")
    for _ in range(2):
        assert ticker.tick().startswith("0 told; 1 wait for the next tick: The SMTP server 127.0.0.1:")
    run(ticker.instance)  # it recovers meanwhile: the owner is told all the same
    ticker.tick()
    sink[0].refusing = False
    ticker.tick()
    ticker.tick()
    assert len(mails) == 1


def test_an_alert_waits_for_a_mail_server_that_is_down(instance: DagsterInstance, registry: Registry, settings: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        down = Ticker(instance, registry, settings.model_copy(update={"smtp_host": "127.0.0.1", "smtp_port": port}))
        run(instance, error="Broken.")
        assert "1 wait" in down.tick()
        assert [incident.what for incident in IncidentBook.from_text(down.cursor or "").pending] == ["The run failed: Broken."]


def test_a_tick_that_dies_before_its_cursor_is_saved_does_not_send_twice(ticker: Ticker, mails: list[Message]) -> None:
    run(ticker.instance, error="Broken.")
    ticker.tick(keep_cursor=False)
    ticker.tick(keep_cursor=False)
    assert len(mails) == 1


def test_failures_before_the_first_tick_are_told_and_old_ones_are_history() -> None:
    book = IncidentBook(1000.0)
    assert book.is_new("recent", 1001.0) and not book.is_new("recent", 1001.0)
    assert book.is_new("late to appear", 950.0)
    assert not book.is_new("history", 900.0)


def test_the_book_forgets_facts_but_not_incidents() -> None:
    book = IncidentBook(0.0)
    book.fail(Incident("a/b", RUN, "x", 1.0))
    for n in range(500):
        assert book.is_new(str(n), float(n))
        book.turn_page()
        assert len(book.seen) <= 61
    again = IncidentBook.from_text(book.to_text())
    assert again == book and len(again.open) == 1
    assert not again.is_new("499", 499.0) and not again.is_new("3", 3.0)


def test_without_a_mail_server_the_alert_is_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    incident = Incident("shop/sales", RUN, "The run failed: Broken.", 1.0, "run-1")
    send(Alert([incident], ("a@example.org",), {"shop/sales": "data_products/shop/sales.yaml"}), settings)
    assert "shop/sales: run failed" in caplog.text and "1970-01-01 00:00:01 UTC" in caplog.text


def test_an_alert_mail_is_the_same_mail_when_it_is_sent_again(settings: Settings, sink: tuple[Sink, int]) -> None:
    incident = Incident("shop/sales", RUN, "The run failed: ü.", 1.0, "run-1")
    mailing = settings.model_copy(update={"smtp_host": "127.0.0.1", "smtp_port": sink[1]})
    for _ in range(2):
        send(Alert([incident], ("a@example.org", "b@example.org"), {}), mailing)
    first, second = sink[0].mails
    assert first["Message-ID"] == second["Message-ID"] and first["To"] == "a@example.org, b@example.org"
    assert "ü" in first.get_content()
    sink[0].refusing = True
    with pytest.raises(UndeliveredError):
        send(Alert([incident], ("a@example.org",), {}), mailing)


def test_the_sensor_runs_by_default(registry: Registry) -> None:
    assert alert_sensor("shop", registry).default_status == dg.DefaultSensorStatus.RUNNING
