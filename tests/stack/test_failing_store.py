"""What a store on the wire answers when it fails, and what boto3's files and DuckDB make of it: how often they ask, and the sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from platform_resources import object_store
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit_relation
from platform_resources.engines.duck import connect, session, store_fault, store_faults_told
from platform_resources.lakehouse import file_io
from platform_resources.lakehouse.file_io import BODY_ATTEMPTS, S3File, StoreError
from platform_resources.object_store import ATTEMPTS, ObjectStore

CONTENT = bytes(range(256)) * 4096
DATA, METADATA = "s3://lake/w/a.parquet", "s3://lake/w/a.avro"
NO_BUCKET = b"<Error><Code>NoSuchBucket</Code></Error>"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Store:
    """A server that notes who asks for what and answers as `answer` says."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answer: Answer = status(503)
        self.over = threading.Event()
        store = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                store.requests.append(self.command)
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                store.answer(self)

            do_GET = do_HEAD = do_PUT = handle_any  # noqa: N815 - the base class's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """What repeats does so as often as ever, but without waiting; no file is known from another test."""
    monkeypatch.setattr(file_io, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(file_io, "_recent", file_io._Recent())
    monkeypatch.setitem(object_store._PATIENCE, "http_retry_wait_ms", 1)
    found = Store()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.over.set()
    found.server.shutdown()
    found.server.server_close()


def send(handler: BaseHTTPRequestHandler, code: int, content: bytes = b"", *, said: int | None = None, **headers: str) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content) if said is None else said))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(content)


def status(code: int, content: bytes = b"") -> Answer:
    return lambda handler: send(handler, code, content)


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def half(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 206 if handler.command == "GET" else 200, b"PAR1", said=1000, Content_Range="bytes 0-999/1000")
    handler.connection.close()


def span(handler: BaseHTTPRequestHandler) -> tuple[int, int]:
    first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
    size = len(CONTENT)
    return (int(first), min(int(last or size), size - 1)) if first else (max(size - int(last), 0), size - 1)


def ranged(shift: int = 0, short: int = 0) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        first, last = span(handler)
        first, last = first + shift, last - short
        send(handler, 206, CONTENT[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(CONTENT)}")

    return answer


def tail_then(then: Answer) -> Answer:
    """Right for the end of the file, which a reader asks for first."""
    return lambda handler: (ranged() if handler.headers["Range"].startswith("bytes=-") else then)(handler)


def file(store: Store, location: str, attempts: int = 2, *, keys: bool = True) -> S3File:
    given = {"access_key": SecretStr("key"), "secret_key": SecretStr("secret")} if keys else {}
    return S3File(location, ObjectStore(store.url, **given).boto3(attempts=attempts, read_timeout=0.5))


def test_a_range_is_read_where_it_was_asked(store: Store) -> None:
    store.answer = ranged()
    reader = file(store, DATA).open()
    reader.seek(100)
    assert reader.read(4) == CONTENT[100:104]
    reader.seek(-3, 2)
    assert reader.read() == CONTENT[-3:]


def test_a_server_without_ranges_may_give_the_whole_for_the_end(store: Store) -> None:
    store.answer = status(200, CONTENT[:1000])
    reader = file(store, DATA).open()
    reader.seek(100)
    assert reader.read(4) == CONTENT[100:104]


@pytest.mark.parametrize(
    "then",
    [status(200, CONTENT), status(200, CONTENT[:4]), ranged(shift=1), ranged(short=2)],
    ids=["whole", "no place", "shifted", "short"],
)
def test_bytes_of_another_place_than_asked_for_are_no_answer(store: Store, then: Answer) -> None:
    store.answer = tail_then(then)
    reader = file(store, DATA).open()
    store.requests.clear()
    reader.seek(100)
    with pytest.raises(StoreError) as caught:
        reader.read(4)
    assert caught.value.code == "store-wrong-bytes" and "bytes=100-" in caught.value.message
    assert store.requests == ["GET"] * BODY_ATTEMPTS  # repeated: one proxy of many may be at fault


def silent(store: Store) -> Answer:
    return lambda _handler: bool(store.over.wait(20)) or None


@pytest.mark.parametrize("what", ["silent", "503", "reset"])
def test_what_boto3_has_repeated_is_not_repeated_again(store: Store, what: str) -> None:
    store.answer = {"silent": silent(store), "503": status(503), "reset": reset}[what]
    with pytest.raises(StoreError) as caught:
        file(store, METADATA).open()
    assert caught.value.code == "store-unreachable"
    assert store.requests == ["GET"] * 2


def test_an_answer_that_breaks_off_in_its_body_is_repeated(store: Store) -> None:
    answers = iter([half, half, status(200, CONTENT)])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        next(answers)(handler)

    store.answer = answer
    assert file(store, METADATA, attempts=1).open().read() == CONTENT


def test_a_bucket_that_is_not_there_is_told_from_a_file_that_is_not(store: Store) -> None:
    store.answer = status(404, NO_BUCKET)
    with pytest.raises(StoreError) as caught, file(store, METADATA).create() as stream:
        stream.write(b"x")
    assert caught.value.code == "store-bucket-missing" and caught.value.message == "The object store has no bucket lake."
    store.answer = status(404)
    with pytest.raises(FileNotFoundError):
        file(store, "s3://lake/w/b.avro").open()


def test_without_keys_the_settings_are_named(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError) as caught:
        file(store, METADATA, keys=False).open()
    assert caught.value.code == "store-refused" and {"SDP_S3_ACCESS_KEY", "SDP_S3_SECRET_KEY"} <= set(caught.value.remedy.split())
    assert store.requests == []


def read_by_duckdb(store: Store, home: Path, how: str, url: str | None = None) -> None:
    settings = Settings(home=home, warehouse="s3://lake/w", s3_endpoint=url or store.url, s3_access_key="key", s3_secret_key="s3cr3t")
    with session(settings) as con:
        if how == "json":
            con.execute("SET errors_as_json = true")
        found = con.execute(f"SELECT * FROM read_parquet('{DATA}')")
        found.to_arrow_reader().read_all()


@pytest.mark.parametrize("how", ["plain", "json"])
@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (status(503), "store-unreachable", "503"),
        (reset, "store-unreachable", "returned nothing"),
        (half, "store-unreachable", "partial"),
        (status(403), "store-refused", "403"),
    ],
    ids=["503", "reset", "half", "403"],
)
def test_duckdb_asks_as_often_as_boto3_and_its_error_is_the_stores(
    store: Store, tmp_path: Path, answer: Answer, code: str, says: str, how: str
) -> None:
    store.answer = answer
    with pytest.raises(StoreError) as caught:
        read_by_duckdb(store, tmp_path, how)
    assert caught.value.code == code and says in caught.value.message and "/lake/w/a.parquet" in caught.value.message
    if code == "store-unreachable":
        assert max(map(store.requests.count, ("HEAD", "GET"))) == ATTEMPTS


def test_a_store_that_is_away_while_a_check_is_measured_fails_no_check(store: Store, tmp_path: Path) -> None:
    """The run is repeated. A check that had failed would refuse the write, and its owner would get a mail."""
    contracts = Registry.load(SOURCE_ROOT).contracts.values()
    contract, check = next((one, check) for one in contracts for check in one.checks if check.metric != "sql")
    with pa.BufferOutputStream() as out:
        pq.write_table(pa.table({"n": [1, 2]}), out)
        content = out.getvalue().to_pybytes()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(store.requests) <= ATTEMPTS:
            send(handler, 503)
        elif handler.command == "HEAD" or "Range" not in handler.headers:
            send(handler, 200, content)
        else:
            first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1]
            send(handler, 206, part, Content_Range=f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")

    store.answer = answer
    settings = Settings(home=tmp_path, warehouse="s3://lake/w", s3_endpoint=store.url, s3_access_key="key", s3_secret_key="s3cr3t")
    with session(settings) as con:
        with pytest.raises(StoreError) as caught, store_faults_told():
            audit_relation(con, f"read_parquet('{DATA}')", [check], contract)
        assert con.execute(f"SELECT count(*) FROM read_parquet('{DATA}')").fetchall() == [(2,)]  # it is back
    assert caught.value.code == "store-unreachable"


def test_duckdb_without_a_server_is_told_as_one_that_is_away(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        read_by_duckdb(store, tmp_path, "plain", "http://127.0.0.1:1")
    assert caught.value.code == "store-unreachable" and "connect" in caught.value.message


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [(status(503), "store-unreachable", "503"), (status(403), "store-refused", "403"), (reset, "store-unreachable", "error sending")],
    ids=["503", "403", "reset"],
)
def test_an_error_of_polars_is_the_stores(store: Store, answer: Answer, code: str, says: str) -> None:
    store.answer = answer
    options: dict[str, Any] = {**ObjectStore(store.url, access_key=SecretStr("k"), secret_key=SecretStr("s")).polars(), "max_retries": 1}
    with pytest.raises(Exception, match="object-store error") as caught:
        pl.scan_parquet(DATA, storage_options=options).collect()
    told = store_fault(caught.value)
    assert told is not None and told.code == code and says in told.message and "/lake/w/a.parquet" in told.message


def test_duckdb_waits_as_long_as_boto3(store: Store, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, warehouse="s3://lake/w", s3_endpoint=store.url, s3_access_key="key", s3_secret_key="s3cr3t")
    with connect(settings) as con:
        told = dict(con.execute("SELECT name, value FROM duckdb_settings() WHERE starts_with(name, 'http_')").fetchall())
    assert (told["http_retries"], told["http_retry_backoff"], told["http_timeout"]) == (str(ATTEMPTS - 1), "2.0", "20")


def test_only_errors_about_the_store_are_the_stores() -> None:
    away = "IO Error: Could not connect to server error for HTTP GET to 'http://h:1/lake/a?x=secret'\n\nLINE 1: select"
    told = store_fault(pa.ArrowInvalid(away))
    assert told is not None and told.code == "store-unreachable" and "secret" not in told.message
    others = [
        duckdb.BinderException('Binder Error: Referenced column "HTTP" not found'),
        duckdb.HTTPException("HTTP Error: HTTP GET error reading 's3://lake/a' in region 'r' (HTTP 404 Not Found)"),
        duckdb.IOException('IO Error: No files found that match the pattern "/x"'),
        duckdb.ConversionException("Conversion Error: Could not convert string 'HTTP 503' to INT32"),
        OSError("error for HTTP GET to 'http://h/x'"),
        ValueError(away),
    ]
    assert [error for error in others if store_fault(error) is not None] == []
