"""Tables and APIs on their whole way: from the server into the product's table, the position in its stamp, refusals in the quarantine."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.model import Contract
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.stamp import read_position
from platform_resources.landing import snapshots
from platform_resources.landing.landing import Landing
from platform_resources.landing.reports import LandingReport
from platform_resources.parts import Parts
from sensors.landing import propose_landings
from tests.landing.server_contracts import server_contract
from tests.landing.test_database import AT, DAILY, ID, NAME, Server, server
from tests.landing.test_http import Api, Reply, api

__all__ = ["api", "server"]  # fixtures

CODES = r'"((?:database|http|connection|cursor|slice)-[a-z-]+)"'
NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


class Product:
    """A product of a server's rows, landed run by run."""

    def __init__(self, contract: Contract, settings: Settings, uri: str) -> None:
        self.contract = contract
        self.settings = settings.model_copy(update={"connections": Settings(connections={"shop": uri}).connections})
        self.lakehouse, self.now = Lakehouse(self.settings), NOW

    def land(self, **options: Any) -> LandingReport:
        self.now += timedelta(seconds=1)
        landing = Landing(
            self.contract, lakehouse=self.lakehouse, settings=self.settings, run_id=self.now.isoformat(), clock=lambda: self.now, **options
        )
        return landing.run()

    def rows(self, *columns: str, identifier: str | None = None) -> list[tuple[Any, ...]]:
        table = self.lakehouse.table(identifier or self.contract.identifier)
        return [] if table is None else sorted(tuple(row[name] for name in columns) for row in arrow_table(table).to_pylist())

    def position(self) -> Any:
        table = self.lakehouse.table(self.contract.identifier)
        return None if table is None else read_position(table)


def test_a_table_lands_by_increments_as_it_changes(settings: Settings, server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, name text, changed_at timestamp(6) NULL)")
    contract = server.contract(ID, NAME, AT, cursor="changed_at", product={"writeMode": "merge"})
    product = Product(contract, settings, server.uri())
    assert product.land().deliveries == 0
    server.run("INSERT INTO TABLE_NAME VALUES (1, 'a', '2026-01-01 00:00:01'), (2, 'b', '2026-01-01 00:00:02')")
    product.land()
    server.run("UPDATE TABLE_NAME SET name = 'A', changed_at = '2026-01-01 00:00:03' WHERE id = 1")
    product.land()
    assert product.rows("id", "name") == [(1, "A"), (2, "b")]
    (value,) = product.position()["cursor"].values()
    assert value.startswith("2026-01-01 00:00:03") and product.land().deliveries == 0


def test_a_table_lands_as_a_snapshot_in_its_slice(settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, name text)", "INSERT INTO TABLE_NAME VALUES (1, 'a'), (2, 'b')")
    product = Product(server.contract(ID, NAME, **DAILY), settings, server.uri())
    for day in (5, 6):
        monkeypatch.setattr(snapshots, "now", lambda day=day: datetime(2026, 3, day, 12, tzinfo=UTC))
        assert product.land().deliveries == 1 and product.land().deliveries == 0
        server.run("DELETE FROM TABLE_NAME WHERE id = 1")
    assert [(str(day), number) for day, number in product.rows("_slice", "id")] == [("2026-03-05", 1), ("2026-03-05", 2), ("2026-03-06", 2)]
    assert product.land(keys=["2026-03-05"], again=True).absent == ["2026-03-05"]
    assert "only the present, which is 2026-03-06" in snapshots.why_absent(product.contract)
    assert len(product.rows("id")) == 3


def test_records_of_an_api_land_and_bad_ones_lie_in_the_quarantine(settings: Settings, api: Api) -> None:
    records: list[Any] = [{"id": 1, "name": "a"}, {"id": "two"}]
    api.answer = lambda _: Reply(records)
    contract = server_contract("http", ID, NAME, path="orders", cursor="id", product={"writeMode": "append"})
    product = Product(contract, settings, f"http://:hunter2@127.0.0.1:{api.port}")
    report = product.land()
    assert (report.inserted, report.quarantined) == (1, 1) and product.position() == {"cursor": {"id": "1"}}
    assert product.rows("_line", "raw", "reason", identifier=contract.quarantine_identifier) == [(2, b'{"id":"two"}', "schema-violation")]
    records[1] = {"id": 2, "name": "b"}
    product.land()
    product.land()
    assert product.rows("id", "name", "_line") == [(1, "a", 1), (2, "b", 2)]
    for identifier in (contract.identifier, contract.quarantine_identifier):
        assert "hunter2" not in str(product.lakehouse.table(identifier).metadata)  # type: ignore[union-attr]


def test_a_refused_snapshot_rests_before_all_of_it_is_asked_for_again(
    settings: Settings, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answer = lambda _: Reply({"error": "maintenance"})
    moment = [NOW]
    monkeypatch.setattr(snapshots, "now", lambda: moment[0])
    product = Product(server_contract("http", ID, path="orders", **DAILY), settings, f"http://127.0.0.1:{api.port}")
    assert [one.code for one in product.land().refused] == ["http-malformed"]
    moment[0] += timedelta(seconds=30)
    report = product.land()
    assert report.resting == ["2026-03-05"] and not report.refused and len(api.asked) == 1
    product.now += timedelta(minutes=2)
    api.answer = lambda _: Reply([{"id": 1}])
    assert product.land().deliveries == 1 and product.rows("id") == [(1,)]


def test_a_sensor_asks_anothers_server_once_per_frequency(settings: Settings, api: Api) -> None:
    api.answer = lambda _: Reply([])
    contract = server_contract("http", ID, path="orders", cursor="id", product={"writeMode": "append"})
    product = Product(contract, settings, f"http://127.0.0.1:{api.port}")
    parts, looked, clock = Parts(product.settings), dict[str, float](), [1e9]
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(8):
            requests, reasons = propose_landings(instance, [contract], parts, looked=looked, now=lambda: clock[0])
            assert not requests and not reasons
            clock[0] += 15
        assert len(api.asked) == 2  # in two minutes; the default frequency is one
        api.answer = lambda _: Reply([{"id": 1}])
        requests, _ = propose_landings(instance, [contract], parts, looked=looked, now=lambda: clock[0])
        assert len(requests) == 1


def test_the_page_tells_codes_that_exist_and_all_of_them() -> None:
    landing = SOURCE_ROOT / "platform_resources" / "landing"
    page = (SOURCE_ROOT / "docs" / "how-to" / "land-tables.md").read_text(encoding="utf-8")
    mine = ("database", "http", "http_pages", "snapshots", "connections", "postgresql_tables", "mysql_tables", "cursors")
    said = {code for name in mine for code in re.findall(CODES, (landing / f"{name}.py").read_text(encoding="utf-8"))}
    told = set(re.findall(r"`((?:database|http|connection|cursor|slice)-[a-z-]+)`", page))
    assert told - said == set() and said - told <= {"database-failed", "database-writes"}  # these say all there is to say
