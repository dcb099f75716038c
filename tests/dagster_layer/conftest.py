"""A small project of two domains: `shop` owns streams, `finance` computes revenue from one of them. Tests bend copies of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from platform_resources.config import Settings
from platform_resources.contracts.registry import Registry
from platform_resources.streams.gate import Gate
from platform_resources.streams.local_log import LocalLog

DOMAIN = """\
name: {name}
title: {title}
description: A team of the test project.
owners: [team:{name}]
on_call: [team:{name}-on-call]
support:
  - {{channel: {name}@example.org, tool: email, scope: notifications}}
"""

ORDER = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.{product}
name: {product}
version: 1.0.0
status: active
description: {{purpose: One row per {product}., usage: Sum amounts., limitations: None known.}}
servers:
  - server: events
    type: custom
    customProperties:
      - {{property: source, value: stream}}
      - {{property: stream, value: shop.{product}.v1}}
schema:
  - name: {product}
    description: One row per {product}.
    customProperties:
      - {{property: loud, value: {loud}}}
    quality:
      - name: amounts_are_not_absurd
        type: sql
        description: The amounts of one batch stay below a million.
        query: select coalesce(sum(amount), 0) from {{object}}
        mustBeLessThan: 1000000
        severity: error
      - name: customers_are_named
        type: sql
        description: Orders name a customer.
        query: select count(*) from {{object}} where customer is null
        severity: warning
        mustBe: 0
    properties:
      - {{name: _schema, logicalType: string, required: true, description: Version of the event's schema.}}
      - name: meta
        logicalType: object
        required: true
        description: Envelope.
        properties:
          - {{name: id, logicalType: string, description: Id of the event.}}
          - {{name: dt, logicalType: timestamp, description: Time of the event.}}
          - {{name: stream, logicalType: string, required: true, description: Stream of the event.}}
      - {{name: customer, logicalType: string, description: Who ordered.}}
      - {{name: amount, logicalType: integer, required: true, description: Price in cents., logicalTypeOptions: {{minimum: 0}}}}
slaProperties:
  - {{property: latency, value: 10, unit: minutes}}
"""

REVENUE = """\
apiVersion: v3.2.0
kind: DataContract
id: finance.revenue
name: Revenue
version: 1.0.0
status: active
description: {purpose: Revenue of each customer., usage: Sum., limitations: None known.}
schema:
  - name: revenue
    description: One row per customer.
    customProperties:
      - {property: writeMode, value: overwrite}
    quality:
      - name: one_row_per_customer
        metric: duplicateValues
        description: A customer occurs once.
        arguments: {properties: [customer]}
        mustBe: 0
        severity: error
      - name: nobody_spends_too_much
        type: sql
        description: No customer spends more than a thousand.
        query: select count(*) from {object} where amount > 1000
        mustBe: 0
        severity: error
    properties:
      - {name: customer, logicalType: string, required: true, description: Who ordered., primaryKey: true, primaryKeyPosition: 1}
      - {name: amount, logicalType: integer, required: true, description: Sum of prices in cents.}
slaProperties:
  - {property: latency, value: 10, unit: minutes}
  - {property: frequency, value: 1, unit: s}
"""

REVENUE_SQL = """\
select customer, sum(amount) as amount
from shop."order"
where customer is not null
group by customer
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of the test project; its workspace.yaml names both domains."""
    root = tmp_path / "project"
    for name, title in (("shop", "Shop"), ("finance", "Finance")):
        folder = root / "data_products" / name
        folder.mkdir(parents=True)
        (folder / "domain.yaml").write_text(DOMAIN.format(name=name, title=title))
        (folder / "__init__.py").write_text('"""A test team."""\n')
        (folder / "definitions.py").write_text(
            '"""A test location."""\n\nfrom data_products.assembly import domain_definitions\n\ndefs = domain_definitions(__package__)\n'
        )
    (root / "data_products/shop/order.yaml").write_text(ORDER.format(product="order", loud="false"))
    (root / "data_products/finance/revenue.yaml").write_text(REVENUE)
    (root / "data_products/finance/revenue.sql").write_text(REVENUE_SQL)
    (root / "workspace.yaml").write_text(
        "load_from:\n"
        + "".join(
            f"  - python_module: {{module_name: data_products.{name}.definitions, location_name: {name}, working_directory: .}}\n"
            for name in ("shop", "finance")
        )
    )
    return root


@pytest.fixture
def settings(project: Path, tmp_path: Path) -> Settings:
    """Settings of the test project with a home of its own; drains that end within a second."""
    return Settings(project=project, home=tmp_path / "home", drain_seconds=20)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A real Dagster instance on disk."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as found:
        yield found


@pytest.fixture
def produce(settings: Settings) -> Callable[..., None]:
    """Put orders through the gate onto the local log: `produce(amount=3, customer="ann")`, or a list of such dictionaries."""

    def put(*orders: dict[str, Any], stream: str = "shop.order.v1") -> None:
        log = LocalLog(settings.log_path)
        start = datetime(2026, 1, 1, tzinfo=UTC)
        lines = [
            json.dumps(
                {
                    "$schema": f"/{stream.replace('.v1', '').replace('.', '/')}/1.0.0",
                    "meta": {"stream": stream, "dt": (start + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")},
                    **order,
                }
            ).encode()
            for number, order in enumerate(orders)
        ]
        report = Gate(Registry.load(settings.project), log, settings).produce(stream, lines)
        log.close()
        assert not report.refusals, report.refusals

    return put


class Location:
    """One loaded location over a real instance: ticks its sensors as the daemon does, and runs what they ask for."""

    def __init__(self, domain: str, settings: Settings, instance: dg.DagsterInstance, **overrides: Any) -> None:
        from data_products.assembly import domain_definitions

        self.domain, self.instance = domain, instance
        self.definitions = domain_definitions(f"data_products.{domain}", settings=settings, overrides=overrides)
        self.repository = self.definitions.get_repository_def()

    def tick(self, sensor: str) -> Any:
        """The result of one tick: `run_requests` and `skip_message`."""
        context = dg.build_sensor_context(instance=self.instance, repository_def=self.repository)
        return self.repository.get_sensor_def(f"{self.domain}_{sensor}").evaluate_tick(context)

    def execute(
        self, request: dg.RunRequest | None = None, *keys: str, run_config: Any = None, tags: Any = None
    ) -> dg.ExecuteInProcessResult:
        """The run a tick asked for, or one of these products as a person starts it."""
        selection = request.asset_selection if request else [dg.AssetKey(key.split("/")) for key in keys]
        return self.definitions.get_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=selection,
            run_config=(request.run_config if request else None) or run_config or {},
            tags=request.tags if request else tags,
            raise_on_error=False,
        )

    def events(self, key: str, kind: dg.DagsterEventType = dg.DagsterEventType.ASSET_MATERIALIZATION) -> list[Any]:
        """What the event log has of an asset, oldest first."""
        records = self.instance.get_event_records(dg.EventRecordsFilter(kind, asset_key=dg.AssetKey(key.split("/"))))
        return [record.event_log_entry for record in reversed(records)]


@pytest.fixture
def location(settings: Settings, instance: dg.DagsterInstance) -> Callable[..., Location]:
    """Load a location of the test project, once: `location("shop")`."""
    loaded: dict[str, Location] = {}

    def load(domain: str, **overrides: Any) -> Location:
        if overrides or domain not in loaded:
            loaded[domain] = Location(domain, settings, instance, **overrides)
        return loaded[domain]

    return load
