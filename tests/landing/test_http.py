"""APIs by a real server that misbehaves on command: all pages or what is new, tried again within a budget, no secret in any sentence."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.landing import http_pages, snapshots
from platform_resources.landing.http import HttpSource
from platform_resources.landing.source import Block, DeliveryRefused
from tests.landing.server_contracts import server_contract

ID = "name: id, logicalType: integer, primaryKey: true, required: true"
FREE_ID = "name: id, logicalType: integer"
AT = "name: changed_at, logicalType: timestamp"
DAILY = {"cadence": "daily", "start": "2026-01-01"}
PAGES = {"style": "page", "parameter": "page", "size": 2, "sizeParameter": "per_page"}


@dataclass
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class Reply:
    """What to answer: JSON, or `body` as it is; `cut` bytes are missing at the end though the length says they come."""

    value: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int = 0
    hang_up: bool = False


class Api:
    """A server on loopback; `answer` says what it does, `asked` what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Reply] = lambda _: Reply([])
        self.asked: list[Request] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, else each answer waits for an acknowledgement
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                request = Request(parts.path, dict(parse_qsl(parts.query)), {name.lower(): value for name, value in self.headers.items()})
                api.asked.append(request)
                reply = api.answer(request)
                self.close_connection = bool(reply.cut or reply.hang_up)
                if reply.hang_up:
                    return
                body = json.dumps(reply.value).encode() if reply.body is None else reply.body
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) - reply.cut])

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(0.01), daemon=True)
        self.thread.start()

    def source(
        self, *properties: str, uri: str | None = None, product: dict[str, Any] | None = None, looking: bool = False, **server: Any
    ) -> HttpSource:
        contract = server_contract("http", *properties, product=product, path="orders", **server)
        return HttpSource(contract, Settings(connections={"shop": uri or f"http://127.0.0.1:{self.port}/v1"}), looking=looking)

    def serve(self, records: list[dict[str, Any]], size: int = 2) -> None:
        """Pages of `size` by number, those behind `since` only."""

        def answer(request: Request) -> Reply:
            found = [one for one in records if one.get("changed_at", "") >= request.query.get("since", "")]
            start = (int(request.query["page"]) - 1) * size
            return Reply(found[start : start + size])

        self.answer = answer


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have been waited; nobody waits here."""
    found: list[float] = []
    # in this module alone: threads that others left behind sleep too
    monkeypatch.setattr(http_pages, "time", SimpleNamespace(monotonic=time.monotonic, sleep=found.append))
    return found


def rows_of(blocks: Iterator[Block]) -> list[dict[str, Any]]:
    found = list(blocks)
    assert not any(block.refused for block in found)
    return [row for block in found for row in block.rows.to_pylist()]


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def all_of(source: HttpSource) -> list[int]:
    return ids(rows_of(source.read(source.pending({})[0])))


def refusal(source: HttpSource, *secrets: str) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        all_of(source)
    said = str(caught.value)
    assert caught.value.remedy and "\n" not in said
    assert not any(secret in said for secret in secrets)
    return caught.value


# --- pages


def orders(count: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(1, count + 1)]


def by_page(request: Request) -> Reply:
    start = (int(request.query["page"]) - 1) * int(request.query["per_page"])
    return Reply(orders(5)[start : start + int(request.query["per_page"])])


def by_offset(request: Request) -> Reply:
    start = int(request.query["skip"])
    return Reply({"data": {"items": orders(5)[start : start + 2]}})


def by_cursor(request: Request) -> Reply:
    start = int(request.query.get("after", 0))
    return Reply({"items": orders(5)[start : start + 2], "meta": {"next": start + 2 if start + 2 < 5 else None}})


def by_header(request: Request) -> Reply:
    start = int(request.query.get("from", 0))
    more = {"Link": f'</v1/orders?from={start + 2}>; rel="next", </v1/orders>; rel="first"'} if start + 2 < 5 else {}
    return Reply(orders(5)[start : start + 2], headers=more)


def by_address(request: Request) -> Reply:
    start = int(request.query.get("from", 0))
    return Reply({"items": orders(5)[start : start + 2], "next": f"?from={start + 2}" if start + 2 < 5 else ""})


@pytest.mark.parametrize(
    ("answer", "server", "requests"),
    [
        (by_page, {"paging": PAGES}, 4),
        (by_offset, {"paging": {"style": "offset", "parameter": "skip"}, "records": "data.items"}, 4),
        (by_cursor, {"paging": {"style": "cursor", "parameter": "after", "next": "meta.next"}, "records": "items"}, 3),
        (by_header, {"paging": {"style": "link"}}, 3),
        (by_address, {"paging": {"style": "link", "next": "next"}, "records": "items"}, 3),
        (lambda _: Reply(orders(5)), {}, 1),
    ],
    ids=["page", "offset", "cursor", "link header", "link in the body", "one page"],
)
def test_every_style_of_paging_gives_every_record_once(
    api: Api, answer: Callable[[Request], Reply], server: dict[str, Any], requests: int
) -> None:
    api.answer = answer
    source = api.source(ID, **DAILY, **server)
    blocks = list(source.read(source.pending({})[0]))
    assert [row["id"] for block in blocks for row in block.rows.to_pylist()] == [1, 2, 3, 4, 5]
    assert [line for block in blocks for line in block.lines.to_pylist()] == [1, 2, 3, 4, 5]
    assert len(api.asked) == requests and {one.path for one in api.asked} == {"/v1/orders"}


def test_a_page_behind_the_last_that_does_not_exist_is_the_end_only_after_a_short_one(api: Api) -> None:
    def answer(request: Request) -> Reply:
        reply = by_page(request)
        return reply if reply.value else Reply(status=404)

    api.answer = answer
    assert all_of(api.source(ID, paging=PAGES, **DAILY)) == [1, 2, 3, 4, 5]
    api.answer = lambda request: Reply(orders(2)) if request.query["page"] == "1" else Reply(status=404)
    assert refusal(api.source(ID, paging=PAGES, **DAILY)).code == "http-not-found"  # the end, or a server that lost its pages: nobody knows


@pytest.mark.parametrize(
    ("answer", "server"),
    [
        (lambda _: Reply(orders(2)), {"paging": {"style": "page", "parameter": "seite"}}),
        (lambda _: Reply(orders(2)), {"paging": {"style": "offset"}}),
        (lambda r: Reply([{"id": int(r.query["page"]) % 3}]), {"paging": PAGES}),
        (
            lambda r: Reply({"items": [{"id": len(r.query)}], "next": "same"}),
            {"paging": {"style": "cursor", "parameter": "c", "next": "next"}, "records": "items"},
        ),
        (lambda _: Reply([], headers={"Link": '</v1/orders>; rel="next"'}), {"paging": {"style": "link"}}),
    ],
    ids=["page", "offset", "page by turns", "cursor", "link"],
)
def test_a_list_without_an_end_is_refused(api: Api, answer: Callable[[Request], Reply], server: dict[str, Any]) -> None:
    api.answer = answer
    error = refusal(api.source(ID, **DAILY, **server))
    assert isinstance(error, DeliveryRefused) and error.code == "http-paging-loop" and len(api.asked) < 8


def test_one_page_at_a_time_is_asked_for(api: Api) -> None:
    api.answer = by_page
    source = api.source(ID, paging=PAGES, **DAILY)
    blocks = source.read(source.pending({})[0])
    assert api.asked == []
    next(blocks)
    assert len(api.asked) == 1


def test_a_record_that_is_no_row_is_refused_with_its_number(api: Api) -> None:
    pages = [[{"id": 1}, {"id": "two"}], ["three", {"id": 4}], []]
    api.answer = lambda request: Reply(pages[int(request.query["page"]) - 1])
    source = api.source(ID, paging=PAGES, **DAILY)
    blocks = list(source.read(source.pending({})[0]))
    assert [row["id"] for block in blocks for row in block.rows.to_pylist()] == [1, 4]
    refused = [(one.line, one.raw, one.reason) for block in blocks for one in block.refused]
    assert refused == [(2, b'{"id":"two"}', "schema-violation"), (3, b'"three"', "not-an-object")]


def test_decimals_keep_every_digit_that_was_sent(api: Api) -> None:
    numbers = ["12345678901234567.89", "0.1", "7", "1e2", "-0.30", "123456789012345678901234567890", "null", '"5.50"']
    api.answer = lambda _: Reply(body=('{"items": [' + ", ".join(f'{{"amount": {one}, "share": 0.1}}' for one in numbers) + "]}").encode())
    amount = 'name: amount, logicalType: number, physicalType: "decimal(38,2)"'
    source = api.source(amount, "name: share, logicalType: number", records="items", **DAILY)
    rows = rows_of(source.read(source.pending({})[0]))
    assert [row["amount"] and str(row["amount"]) for row in rows] == [
        "12345678901234567.89", "0.10", "7.00", "100.00", "-0.30", "123456789012345678901234567890.00", None, "5.50",
    ]  # fmt: skip
    assert {row["share"] for row in rows} == {0.1}


# --- secrets


@pytest.mark.parametrize(
    ("uri", "headers"),
    [
        ("http://us%40er:hunter2@{}/v1", {"authorization": "Basic " + base64.b64encode(b"us@er:hunter2").decode()}),
        ("http://:hunter2@{}/v1", {"authorization": "Bearer hunter2"}),
        ("http://{}/v1#X-Api-Key=hunter2&X-Tenant=wiki", {"x-api-key": "hunter2", "x-tenant": "wiki"}),
    ],
)
def test_secrets_go_to_the_server_and_into_no_sentence(api: Api, waits: list[float], uri: str, headers: dict[str, str]) -> None:
    api.answer = by_header
    address = uri.format(f"127.0.0.1:{api.port}")
    source = api.source(ID, uri=address, paging={"style": "link"}, **DAILY)
    assert all_of(source) == [1, 2, 3, 4, 5]
    assert all(one.headers.get(name) == value for one in api.asked for name, value in headers.items())
    assert all("hunter2" not in json.dumps(one.query) + one.path for one in api.asked)
    for status in (401, 404, 400, 302, 503):
        api.answer = lambda _, status=status: Reply(status=status, headers={"Location": "http://127.0.0.1:1/"})
        refusal(api.source(ID, uri=address, budget="1 second", **DAILY), "hunter2", "us%40er")
    refusal(api.source(ID, uri=uri.format("127.0.0.1:1"), budget="1 second", **DAILY), "hunter2")
    with pytest.raises(PlatformError) as caught:
        api.source(ID, uri=address.replace("http:", "gopher:"), **DAILY)
    assert caught.value.code == "connection-scheme" and "hunter2" not in str(caught.value)


def test_secrets_are_not_taken_to_another_server(api: Api) -> None:
    api.answer = lambda _: Reply(orders(1), headers={"Link": '<http://localhost:9/v1/orders>; rel="next"'})
    error = refusal(api.source(ID, uri=f"http://:hunter2@127.0.0.1:{api.port}/v1", paging={"style": "link"}, **DAILY), "hunter2")
    assert error.code == "http-paging-elsewhere" and "localhost" in error.message


# --- faults


@pytest.mark.parametrize(
    "fault",
    [Reply(status=503), Reply(status=500), Reply(status=429), Reply([{"id": 1}] * 50, cut=20), Reply(hang_up=True)],
    ids=["503", "500", "429", "cut", "hang up"],
)
def test_what_may_pass_is_tried_again_and_nothing_comes_twice(api: Api, waits: list[float], fault: Reply) -> None:
    def answer(request: Request) -> Reply:
        return fault if len(api.asked) in (2, 3, 5) else by_page(request)

    api.answer = answer
    assert all_of(api.source(ID, paging=PAGES, **DAILY)) == [1, 2, 3, 4, 5]
    assert len(api.asked) == 7 and len(waits) == 3
    assert 0.25 <= waits[0] <= 0.5 and 0.5 <= waits[1] <= 1.0 and 0.25 <= waits[2] <= 0.5


def test_the_wait_that_a_server_asks_for_is_kept(api: Api, waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)

    def answer(request: Request) -> Reply:
        header = {1: "7", 2: later}.get(len(api.asked))
        return by_page(request) if header is None else Reply(status=429, headers={"Retry-After": header})

    api.answer = answer
    assert all_of(api.source(ID, paging=PAGES, **DAILY)) == [1, 2, 3, 4, 5]
    assert waits[0] == 7 and 30 < waits[1] <= 40


def test_a_budget_ends_the_trying_and_says_what_went_wrong_last(api: Api, waits: list[float]) -> None:
    api.answer = lambda _: Reply(status=503)
    error = refusal(api.source(ID, budget="10 seconds", **DAILY))
    assert error.code == "http-unreachable" and "answers 503" in error.message and "of the 10 s" in error.message
    assert sum(waits) <= 10 and len(waits) > 2
    api.answer = lambda _: Reply(status=429, headers={"Retry-After": "3600"})
    before = len(api.asked)
    error = refusal(api.source(ID, budget="10 seconds", **DAILY))
    assert "asks to wait 3600 s" in error.message and len(api.asked) == before + 1
    error = refusal(api.source(ID, uri="http://127.0.0.1:1/v1", budget="1 second", **DAILY))
    assert error.code == "http-unreachable" and "is not reached" in error.message
    error = refusal(api.source(ID, uri=f"https://127.0.0.1:{api.port}/v1", **DAILY))
    assert error.code == "http-refused" and "TLS" in error.message


def test_a_look_for_what_is_new_keeps_nobody_waiting(api: Api, waits: list[float]) -> None:
    api.answer = lambda _: Reply(status=503)
    source = api.source(ID, product={"writeMode": "merge"}, cursor="id", budget="1 hour", looking=True)
    with pytest.raises(PlatformError) as caught:
        source.pending({})
    assert caught.value.code == "http-unreachable" and 0 < sum(waits) <= 5


def test_a_run_waits_within_its_one_budget_also_while_it_sees_what_is_new(api: Api, waits: list[float]) -> None:
    busy = Reply(status=429, headers={"Retry-After": "7"})
    api.answer = lambda _: busy if len(api.asked) in (1, 3) else Reply([{"id": 1}])
    source = api.source(ID, product={"writeMode": "merge"}, cursor="id", budget="20 seconds")
    (delivery,) = source.pending({})
    assert ids(rows_of(source.read(delivery))) == [1] and waits == [7, 7]
    api.answer = lambda _: busy
    with pytest.raises(PlatformError) as caught:
        source.pending({})
    assert caught.value.code == "http-unreachable" and waits == [7, 7]


def test_a_server_that_says_nothing_is_given_up(api: Api, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(http_pages, "_SILENCE_SECONDS", 0.2)
    api.answer = lambda _: Reply([released.wait(10)])
    error = refusal(api.source(ID, budget="1 second", **DAILY))
    released.set()
    assert error.code == "http-unreachable" and "in time" in error.message


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(status=401), "http-login-refused"),
        (Reply(status=403), "http-login-refused"),
        (Reply(status=404), "http-not-found"),
        (Reply(status=400), "http-refused"),
        (Reply(status=301, headers={"Location": "/v2"}), "http-redirected"),
        (Reply(body=b"<html>"), "http-malformed"),
        (Reply(body=b'[{"id": NaN}]'), "http-malformed"),
        (Reply(body=b"\xff"), "http-malformed"),
        (Reply({"items": []}), "http-malformed"),
    ],
)
def test_what_will_not_pass_is_told_at_once(api: Api, waits: list[float], reply: Reply, code: str) -> None:
    api.answer = lambda _: reply
    assert refusal(api.source(ID, **DAILY)).code == code
    assert len(api.asked) == 1 and waits == []


def test_a_page_beyond_all_bounds_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pages, "_PAGE_BYTES", 1000)
    api.answer = lambda _: Reply(orders(1000))
    assert refusal(api.source(ID, **DAILY)).code == "http-too-large"


# --- increments and slices


def take(source: HttpSource, landed: dict[str, str]) -> list[int]:
    taken: list[int] = []
    for delivery in source.pending(landed):
        taken += ids(rows_of(source.read(delivery)))
        landed |= source.reached(delivery)
    return taken


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def test_a_cursor_is_said_in_the_words_of_the_api(api: Api) -> None:
    template = '{"conditions":[["changed_at","gt","{cursor}"]]}'
    source = api.source(
        ID, AT, product={"writeMode": "merge"}, cursor="changed_at", cursorParameter="filter", cursorTemplate=template, paging=PAGES
    )
    api.serve([{"id": 1, "changed_at": at(1)}])
    landed = dict[str, str]()
    assert take(source, landed) == [1] and "filter" not in api.asked[-1].query
    source.pending(landed)
    assert json.loads(api.asked[-1].query["filter"]) == {"conditions": [["changed_at", "gt", at(1)]]}


def test_an_api_may_leave_out_the_list_behind_the_last_page(api: Api) -> None:
    def answer(request: Request) -> Reply:
        return Reply({"records": {"order": orders(2)} if request.query["page"] == "1" else {}})

    api.answer = answer
    source = api.source(ID, records="records.order", paging=PAGES, **DAILY)
    assert all_of(source) == [1, 2]
    for nothing in ({"records": {"orders": []}}, {"error": "gone"}, {}):  # a list under another name, and no records at all
        api.answer = lambda _, nothing=nothing: Reply(nothing)
        assert refusal(source).code == "http-malformed"


def test_an_increment_asks_behind_what_has_landed(api: Api) -> None:
    records = [{"id": n, "changed_at": at(n)} for n in range(1, 6)]
    api.serve(records)
    server = {"paging": PAGES, "cursor": "changed_at", "cursorParameter": "since"}
    merging, landed = api.source(ID, AT, product={"writeMode": "merge"}, **server), dict[str, str]()
    assert take(merging, landed) == [1, 2, 3, 4, 5] and landed == {"changed_at": at(5)}
    assert merging.pending(landed) == []
    records.append({"id": 1, "changed_at": at(7)})
    assert take(merging, landed) == [5, 1] and landed == {"changed_at": at(7)}
    assert api.asked[-1].query["since"] == at(5)
    overlapping = api.source(ID, AT, product={"writeMode": "merge"}, overlap="3 seconds", **server)
    records.append({"id": 9, "changed_at": at(8)})
    assert take(overlapping, landed) == [4, 5, 1, 9]


def test_an_api_that_ignores_the_cursor_lands_nothing_twice(api: Api) -> None:
    records = [{"id": n} for n in (3, 1, 2)]
    api.answer = lambda _: Reply(records)
    source, landed = api.source(ID, product={"writeMode": "append"}, cursor="id"), dict[str, str]()
    assert take(source, landed) == [3, 1, 2] and landed == {"id": "3"} and take(source, landed) == []
    records += [{"id": 4}]
    assert take(source, landed) == [4]


def test_another_cursor_appends_nothing_twice(api: Api) -> None:
    api.answer = lambda _: Reply([{"id": 1, "changed_at": at(1)}])
    with pytest.raises(PlatformError) as caught:
        api.source(ID, AT, product={"writeMode": "append"}, cursor="changed_at").pending({"id": "1"})
    assert caught.value.code == "cursor-changed" and "by the cursor id" in caught.value.message
    assert len(api.source(ID, AT, product={"writeMode": "merge"}, cursor="changed_at").pending({"id": "1"})) == 1


def test_a_record_without_the_cursor_is_told(api: Api) -> None:
    api.answer = lambda _: Reply([{"id": 1, "changed_at": at(1)}, {"id": 2}])
    error = refusal(api.source(ID, AT, product={"writeMode": "merge"}, cursor="changed_at"))
    assert isinstance(error, DeliveryRefused) and error.code == "cursor-null"
    with pytest.raises(PlatformError) as caught:
        api.source(FREE_ID, AT, product={"writeMode": "append"}, cursor="changed_at", overlap="1 minute")
    assert caught.value.code == "http-overlap"


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=5), data=st.data())
def test_appended_increments_lose_none_and_double_none_whatever_order_the_api_has(
    api: Api, batches: list[list[int]], data: st.DataObject
) -> None:
    source = api.source(FREE_ID, AT, product={"writeMode": "append"}, paging=PAGES, cursor="changed_at", cursorParameter="since")
    records: list[dict[str, Any]] = []
    landed, taken, second = dict[str, str](), list[int](), 0
    for batch in batches:
        for step in batch:
            second += step
            records.append({"id": len(records) + 1, "changed_at": at(second)})
        api.serve(data.draw(st.permutations(records)))
        taken += take(source, landed)
    api.serve([*records, {"id": 0, "changed_at": at(second + 1)}])
    taken += take(source, landed)
    assert sorted(taken) == list(range(1, len(records) + 1))


def test_a_snapshot_belongs_to_the_present_slice(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answer = lambda _: Reply(orders(1))
    source = api.source(ID, cadence="monthly", start="2026-01-01")
    monkeypatch.setattr(snapshots, "now", lambda: datetime(2026, 3, 5, 4, 30, tzinfo=UTC))
    (delivery,) = source.pending({"2026-02": "2026-02-04T04:00:00+00:00"})
    assert delivery.name == "2026-03" and source.reached(delivery) == {"2026-03": "2026-03-05T04:30:00+00:00"}
    assert source.pending(source.reached(delivery)) == []
    monkeypatch.setattr(snapshots, "now", lambda: datetime(2026, 4, 1, tzinfo=UTC))
    with pytest.raises(DeliveryRefused) as caught:
        list(source.read(delivery))
    assert caught.value.code == "slice-past" and api.asked == []
