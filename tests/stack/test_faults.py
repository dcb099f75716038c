"""What breaks between a writer and its store or catalog: a write resumes alone or fails with one sentence, and a retry succeeds.

Nothing is half-visible, lost or doubled. Over Swift and PostgreSQL through proxies, and with the servers themselves taken away.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from platform_resources.config import Settings
from platform_resources.engines.duck import session
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.staging import publish, stage_append, stage_merge
from platform_resources.lakehouse.stamp import Stamp, committed_snapshot
from platform_resources.stack.postgresql import PostgreSQL
from platform_resources.stack.swift import Swift
from tests.lakehouse.stores import settings_over
from tests.lakehouse.tables import files_on_disk, orders, read, rows, table_of
from tests.stack.proxies import Fault, HttpProxy, TcpProxy

pytestmark = pytest.mark.stack
ORDERS = orders()
AWAY_SECONDS = 60


@pytest.fixture
def direct(tmp_path: Path, stack: Callable[..., Settings]) -> Settings:
    """Straight to Swift and PostgreSQL."""
    return settings_over("swift-postgresql", tmp_path / "home", stack)


@pytest.fixture
def store(direct: Settings) -> Iterator[HttpProxy]:
    """The proxy in front of Swift."""
    assert direct.object_store is not None
    with HttpProxy(str(direct.object_store.endpoint)) as proxy:
        yield proxy


@pytest.fixture
def database(direct: Settings) -> Iterator[TcpProxy]:
    """The proxy in front of PostgreSQL."""
    url = make_url(direct.catalog_address)
    with TcpProxy(str(url.host), int(url.port or 0)) as proxy:
        yield proxy


def over_store(direct: Settings, proxy: HttpProxy) -> Lakehouse:
    own = direct.object_store
    assert own is not None
    keys = {"s3_access_key": own.access_key, "s3_secret_key": own.secret_key}
    return Lakehouse(direct.model_copy(update={"s3_endpoint": proxy.url, **keys}))


def over_database(direct: Settings, proxy: TcpProxy) -> Lakehouse:
    url = make_url(direct.catalog_address).set(port=proxy.port)
    return Lakehouse(direct.model_copy(update={"catalog_uri": url.render_as_string(hide_password=False)}))


def append(lakehouse: Lakehouse, number: int) -> None:
    """What a run does: look for the own stamp, else write."""
    run = f"r{number}"
    if committed_snapshot(lakehouse.create(ORDERS), run) is None:
        publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (number, "a", number)), Stamp(run)))


def until_done(write: Callable[[], None], tries: int = 12) -> int:
    """Repeat a write that fails with a sentence; how often it did."""
    for failed in range(tries):
        try:
            write()
        except PlatformError as error:
            if error.code not in {"store-unreachable", "catalog-unreachable"}:
                raise
        else:
            return failed
    pytest.fail(f"still failing after {tries} tries")


def seen_by_duckdb(settings: Settings, lakehouse: Lakehouse) -> int:
    with session(settings) as con:
        return int(con.sql(f"SELECT count(DISTINCT id) FROM {duckdb_scan_sql(table_of(lakehouse, ORDERS))}").fetchall()[0][0])


@pytest.mark.parametrize("fault", ["503", "slow", "reset-response", "truncate-upload", "lose-response"])
def test_a_store_that_fails_now_and_then_loses_and_doubles_nothing(direct: Settings, store: HttpProxy, fault: Fault) -> None:
    lakehouse, draw = over_store(direct, store), random.Random(7)
    share = 0.1 if fault == "slow" else 0.25
    store.fault = lambda _method, _path: fault if draw.random() < share else None
    for number in range(8):
        until_done(lambda n=number: append(lakehouse, n))  # type: ignore[misc]
    until_done(lambda: publish(stage_merge(lakehouse, ORDERS, rows(ORDERS, (3, "b", 33)), Stamp("m"), keys=("id",))) and None)
    assert store.faults[fault] >= 3
    before = store.faults[fault]
    for _ in range(3):  # DuckDB, by the same way
        assert seen_by_duckdb(lakehouse.settings, lakehouse) == 8
    assert fault == "slow" or store.faults[fault] > before
    store.fault = lambda _method, _path: None
    expected = [(number, "a", number) for number in range(8) if number != 3]
    assert read(table_of(Lakehouse(direct), ORDERS)) == sorted([*expected, (3, "b", 33)], key=repr)


@pytest.mark.parametrize("what", [".parquet", ".avro", ".metadata.json"])
def test_a_store_that_refuses_one_kind_of_file_for_good_leaves_the_table_as_it_was(direct: Settings, store: HttpProxy, what: str) -> None:
    lakehouse = over_store(direct, store)
    append(lakehouse, 0)
    files = files_on_disk(lakehouse)
    store.fault = lambda method, path: "503" if method == "PUT" and what in path else None
    with pytest.raises(PlatformError) as caught:
        append(lakehouse, 1)
    assert caught.value.code == "store-unreachable" and "503" in caught.value.message
    assert read(table_of(Lakehouse(direct), ORDERS)) == [(0, "a", 0)]
    store.fault = lambda _method, _path: None
    left = files_on_disk(lakehouse) - files
    assert len(left) <= (0 if what == ".parquet" else 3), left  # of a commit in doubt the files stay until orphan removal
    append(lakehouse, 1)
    assert read(table_of(Lakehouse(direct), ORDERS)) == [(0, "a", 0), (1, "a", 1)]


def test_a_read_that_breaks_off_half_way_is_repeated(direct: Settings, store: HttpProxy) -> None:
    append(Lakehouse(direct), 0)
    lakehouse, draw = over_store(direct, store), random.Random(3)
    store.fault = lambda method, path: "reset-response" if method == "GET" and ".parquet" in path and draw.random() < 0.5 else None
    for _ in range(6):
        until_done(lambda: read(table_of(lakehouse, ORDERS)) and None)
    assert store.faults["reset-response"] >= 2


def test_a_store_that_is_away_ends_a_query_of_duckdb_with_the_same_sentence(direct: Settings, store: HttpProxy) -> None:
    lakehouse = over_store(direct, store)
    append(lakehouse, 0)
    store.fault = lambda _method, path: "503" if ".parquet" in path else None
    began = time.monotonic()
    with pytest.raises(PlatformError) as caught:
        seen_by_duckdb(lakehouse.settings, lakehouse)
    assert caught.value.code == "store-unreachable" and "503" in caught.value.message
    assert 12 < time.monotonic() - began < 40


@contextmanager
def away(take: Callable[[], None], give_back: Callable[[], object], seconds: float = AWAY_SECONDS) -> Iterator[None]:
    """A server taken away for some seconds while the block runs, back at its end in any case.

    It is started again by a thread, so it cannot be one that dies with its parent (the kernel means the thread); the session ends it.
    """
    take()
    timer = threading.Timer(seconds, give_back)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def signal_group(state_pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(state_pid, number)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_store_away_for_a_minute(direct: Settings, how: str, stack: Callable[..., Settings]) -> None:
    swift, lakehouse, shared = Swift(), Lakehouse(direct), stack("postgresql", "swift")
    append(lakehouse, 0)
    state = swift.state(shared)
    assert state is not None
    if how == "killed":
        take, give_back = (lambda: swift.kill(shared)), (lambda: swift.up(shared))
    else:
        take, give_back = (lambda: signal_group(state.pid, signal.SIGSTOP)), (lambda: signal_group(state.pid, signal.SIGCONT))
    began = time.monotonic()
    with away(take, give_back):
        failed = until_done(lambda: append(lakehouse, 1))
    assert time.monotonic() - began >= AWAY_SECONDS
    assert failed <= 5
    assert read(table_of(Lakehouse(direct), ORDERS)) == [(0, "a", 0), (1, "a", 1)]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_catalog_away_for_a_minute(direct: Settings, how: str, stack: Callable[..., Settings]) -> None:
    postgresql, lakehouse, shared = PostgreSQL(), Lakehouse(direct), stack("postgresql", "swift")
    append(lakehouse, 0)
    state = postgresql.state(shared)
    assert state is not None
    pids = [state.pid, *children(state.pid)]

    def send(number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    if how == "killed":
        take, give_back = (lambda: postgresql.kill(shared)), (lambda: postgresql.up(shared))
    else:
        take, give_back = (lambda: send(signal.SIGSTOP)), (lambda: send(signal.SIGCONT))
    with away(take, give_back):
        failed = until_done(lambda: append(lakehouse, 1))
    assert failed <= 5
    assert read(table_of(Lakehouse(direct), ORDERS)) == [(0, "a", 0), (1, "a", 1)]


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_catalog_that_is_back_within_seconds_is_not_even_noticed(direct: Settings, database: TcpProxy) -> None:
    lakehouse = over_database(direct, database)
    append(lakehouse, 0)
    with away(database.cut, database.mend, 4):
        append(lakehouse, 1)
    assert read(table_of(lakehouse, ORDERS)) == [(0, "a", 0), (1, "a", 1)]


def test_a_commit_whose_answer_from_postgresql_was_lost_stands_once(direct: Settings, database: TcpProxy) -> None:
    lakehouse = over_database(direct, database)
    append(lakehouse, 0)
    before = database.accepted
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r1"))
    database.cut_once = b"COMMIT"
    staged.commit()
    assert database.cut_once is None and database.accepted > before
    append(lakehouse, 1)  # a retry of the run finds its stamp
    assert read(table_of(lakehouse, ORDERS)) == [(0, "a", 0), (1, "a", 1)]


def test_a_commit_whose_answer_from_a_rest_catalog_was_lost_stands_once(tmp_path: Path, stack: Callable[..., Settings]) -> None:
    direct = settings_over("swift-rest", tmp_path / "home", stack)
    with HttpProxy(direct.catalog_address) as proxy:
        lakehouse = Lakehouse(direct.model_copy(update={"catalog_uri": proxy.url}))
        append(lakehouse, 0)
        lost: list[str] = []

        def lose(method: str, path: str) -> Fault | None:
            if method == "POST" and path.endswith("/tables/orders") and not lost:
                lost.append(path)
                return "lose-response"
            return None

        proxy.fault = lose
        append(lakehouse, 1)
        append(lakehouse, 1)
        assert lost
        assert read(table_of(lakehouse, ORDERS)) == [(0, "a", 0), (1, "a", 1)]
        lakehouse.drop("shop.orders")
