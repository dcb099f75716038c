"""A contract drafted from what a server shows lands that very table or list, exactly, without anybody touching it."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.landing.landing import Landing
from platform_resources.landing.sampling import draft_from_file
from platform_resources.landing.server_samples import draft_from_server, server_sample
from tests.landing.test_database import Server, server
from tests.landing.test_http import Api, Reply, api

__all__ = ["api", "server"]  # fixtures

TABLES = {
    "postgresql": """CREATE TABLE TABLE_NAME (id bigint, "Order No" varchar(20) NOT NULL, price numeric(12,2), free numeric, paid boolean,
        at timestamptz, local timestamp, day date, raw bytea, extra jsonb, tags text[], state inet, PRIMARY KEY ("Order No", id))""",
    "mariadb": """CREATE TABLE TABLE_NAME (id bigint, `Order No` varchar(20) NOT NULL, price decimal(12,2),
        free bigint unsigned, paid boolean, at timestamp NULL, local datetime, day date, raw varbinary(9),
        extra json, tags text, state enum('a', '::1'),
        touched binary(14), title varbinary(255), PRIMARY KEY (`Order No`, id))""",
}
ROW = {
    "postgresql": """INSERT INTO TABLE_NAME VALUES (1, 'A-1', 1.50, 99999999999999999999.5, true,
        '2026-01-01T00:00:00Z', '2026-01-01 00:00:00', '2026-01-01', '\\xff', '{"a": 1}', '{a,b}', '::1')""",
    "mariadb": """INSERT INTO TABLE_NAME VALUES (1, 'A-1', 1.50, 18446744073709551615, true,
        '2026-01-01 00:00:00', '2026-01-01 00:00:00', '2026-01-01', 0xff, '{"a": 1}', 'b', '::1', '20260101000000', 'Main_Page')""",
}  # fmt: skip
TYPES = {
    "id": "long", "order_no": "string", "price": "decimal(12, 2)", "paid": "boolean", "at": "timestamptz", "local": "timestamp",
    "day": "date", "raw": "binary", "extra": "string", "tags": "string", "state": "string",
}  # fmt: skip
MEDIAWIKI = {"touched": "timestamptz", "title": "string"}
FREE = {"postgresql": ("string", "99999999999999999999.5"), "mariadb": ("decimal(20, 0)", Decimal(18446744073709551615))}


def _read(settings: Settings, text: str) -> Contract:
    folder = settings.project / "data_products" / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    domain = Domain("shop", folder, owners=("team:shop",))
    contract, problems = read_contract(folder / "things.yaml", domain=domain, project=settings.project, text=text)
    assert contract is not None, problems
    return contract


def _rows(settings: Settings, contract: Contract) -> list[dict[str, Any]]:
    lakehouse = Lakehouse(settings)
    report = Landing(contract, lakehouse=lakehouse, settings=settings, run_id="r").run()
    assert (report.refused, report.quarantined) == ([], 0)
    table = lakehouse.table(contract.identifier)
    assert table is not None
    return arrow_table(table).to_pylist()


def _with(settings: Settings, uri: str) -> Settings:
    return settings.model_copy(update={"connections": Settings(connections={"shop": uri}).connections})


@pytest.mark.stack
def test_a_table_lands_by_its_own_draft(settings: Settings, server: Server) -> None:
    server.run(TABLES[server.kind], ROW[server.kind])
    settings = _with(settings, server.uri())
    contract = _read(settings, draft_from_server("shop", server.table, domain="shop", product="things", settings=settings))
    kinds = {column.name: str(column.type) for column in contract.columns}
    assert kinds == {**TYPES, "free": FREE[server.kind][0], **(MEDIAWIKI if server.kind == "mariadb" else {})}
    assert contract.primary_key == ("order_no", "id")
    assert [column.name for column in contract.columns if column.required] == ["id", "order_no"]
    (row,) = _rows(settings, contract)
    assert (row["order_no"], row["price"], row["free"]) == ("A-1", Decimal("1.50"), FREE[server.kind][1])
    assert (row["day"], row["raw"], json.loads(row["extra"])) == (date(2026, 1, 1), b"\xff", {"a": 1})


@pytest.mark.stack
def test_a_table_that_is_not_there_is_told(settings: Settings, server: Server) -> None:
    settings = _with(settings, server.uri())
    with pytest.raises(PlatformError) as caught:
        draft_from_server("shop", "no'such\\table", domain="shop", product="things", settings=settings)
    assert caught.value.code == "database-table-missing"
    assert server.password not in str(caught.value)


def test_a_list_of_an_api_lands_by_its_own_draft(settings: Settings, api: Api) -> None:
    first = {"data": {"count": 2, "grants": [{"id": 1, "paid_at": "2026-01-01T00:00:00Z"}], "tags": []}}
    api.answer = lambda request: (
        Reply(first, headers={"Link": '</grants?page=2>; rel="next"'}) if not request.query else Reply({"data": {"grants": [{"id": 2}]}})
    )
    settings = _with(settings, f"http://:hunter2@127.0.0.1:{api.port}")
    text = draft_from_server("shop", "/grants", domain="shop", product="things", settings=settings)
    assert "hunter2" not in text
    contract = _read(settings, text)
    assert contract.source is not None
    assert (contract.source.path, contract.source.options.records) == ("/grants", "data.grants")  # type: ignore[union-attr]
    assert [(row["id"], row["paid_at"] is not None) for row in _rows(settings, contract)] == [(1, True), (2, False)]


def test_an_api_that_shows_no_next_page_is_drafted_with_a_word_about_it(settings: Settings, api: Api) -> None:
    api.answer = lambda _: Reply([{"id": 1}])
    settings = _with(settings, f"http://127.0.0.1:{api.port}")
    assert "# Name its paging" in draft_from_server("shop", "grants", domain="shop", product="things", settings=settings)


@pytest.mark.parametrize(
    ("uri", "value", "code"),
    [
        ("http", {"error": "down"}, "sample-malformed"),
        ("http", [], "sample-empty"),
        ("/folder", None, "connection-scheme"),
        (None, None, "connection-unknown"),
    ],
)
def test_a_server_that_shows_no_records_is_told(settings: Settings, api: Api, uri: str | None, value: Any, code: str) -> None:
    api.answer = lambda _: Reply(value)
    settings = _with(settings, f"http://127.0.0.1:{api.port}" if uri == "http" else uri) if uri else settings
    with pytest.raises(PlatformError) as caught:
        draft_from_server("shop", "grants", domain="shop", product="things", settings=settings)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("document", "records"),
    [
        ({"page": {"items": [{"id": 1}, {"id": 2}], "links": [{"id": 9}]}}, "page.items"),
        ([{"id": 1, "parts": [{"id": 9}]}], None),
        ({"a.b": [{"id": 9}, {"id": 8}], "c": [{"id": 1}]}, "c"),
    ],
)
def test_the_list_of_a_json_file_is_found_where_it_lies(settings: Settings, tmp_path: Path, document: Any, records: str | None) -> None:
    (tmp_path / "answer.json").write_text(json.dumps(document))
    contract = _read(settings, draft_from_file(tmp_path / "answer.json", domain="shop", product="things"))
    assert contract.source is not None
    assert contract.source.options.records == records  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("shop:public.orders", ("shop", "public.orders")),
        ("grants:/api/v2/grants?state=open", ("grants", "/api/v2/grants?state=open")),
        ("orders.csv", None),
        ("days/2026-01-01T05:00.csv", None),
    ],
)
def test_what_names_a_server_and_what_a_file(text: str, found: tuple[str, str] | None) -> None:
    assert server_sample(text) == found
