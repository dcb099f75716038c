"""Files under a prefix of a real object store (Swift, S3 API): the same laws as in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from pyiceberg.types import LongType, StringType

from platform_resources.config import Settings
from platform_resources.contracts.model import Column, Contract, SourceSpec
from platform_resources.contracts.sources import FilesOptions
from platform_resources.errors import PlatformError
from platform_resources.landing import files
from platform_resources.landing.files import FileSource
from platform_resources.landing.source import DeliveryRefused
from tests.stack.proxies import HttpProxy

pytestmark = pytest.mark.stack


class Bucket:
    """A prefix of its own, and a source that reads it."""

    def __init__(self, settings: Settings) -> None:
        assert settings.object_store is not None
        self.client = settings.object_store.boto3()
        self.name, self.prefix = settings.warehouse_uri.removeprefix("s3://").split("/")[0], f"drop-{uuid4().hex[:8]}"
        address = SecretStr(f"s3://{self.name}/{self.prefix}")
        self.settings = settings.model_copy(update={"connections": {"shop": address}})

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"{self.prefix}/{name}", Body=data)

    def source(self, path: str = "**", **options: Any) -> FileSource:
        spec = SourceSpec("files", path=path, options=FilesOptions(**options))
        columns = (Column("a", LongType()), Column("b", StringType()))
        return FileSource(Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", columns, source=spec), self.settings)


@pytest.fixture
def bucket(stack: Callable[..., Settings]) -> Bucket:
    settings = stack("swift")
    return Bucket(settings.model_copy(update={"profile": "stack"}))


def rows(source: FileSource, name: str) -> list[dict[str, Any]]:
    [delivery] = [one for one in source.pending({}) if one.name == name]
    return [row for block in source.read(delivery) for row in block.rows.to_pylist()]


def test_objects_are_pending_at_once_and_again_when_they_change(bucket: Bucket) -> None:
    bucket.put("x/a.csv", b"a,b\n1,x\n")
    bucket.put("x/_SUCCESS", b"")
    bucket.put("y/b.csv", b"a,b\n2,y\n")
    source = bucket.source()
    found = {one.name: one.version for one in source.pending({})}
    assert list(found) == ["x/a.csv", "y/b.csv"]
    assert [one.name for one in bucket.source("x/*").pending({})] == ["x/a.csv"]
    assert rows(source, "x/a.csv") == [{"a": 1, "b": "x"}]
    assert not source.pending(found)
    bucket.put("x/a.csv", b"a,b\n1,x\n")  # the same again
    assert not source.pending(found)
    bucket.put("x/a.csv", b"a,b\n3,x\n")
    assert [one.name for one in source.pending(found)] == ["x/a.csv"]
    assert rows(source, "x/a.csv") == [{"a": 3, "b": "x"}]


def test_objects_are_read_as_they_stream_and_parquet_from_its_end(bucket: Bucket) -> None:
    table = pa.table({"a": range(300_000), "b": ["text"] * 300_000})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    bucket.put("p.parquet", sink.getvalue().to_pybytes())
    bucket.put("t.csv.gz", pa.compress(b"a,b\n" + b"".join(b"%d,text\n" % n for n in range(300_000)), "gzip", asbytes=True))
    assert rows(bucket.source(), "p.parquet") == rows(bucket.source(), "t.csv.gz") == table.to_pylist()


def test_an_object_that_changes_while_it_waits_is_refused_for_now(bucket: Bucket) -> None:
    bucket.put("a.csv", b"a,b\n1,x\n")
    source = bucket.source()
    [delivery] = source.pending({})
    bucket.put("a.csv", b"a,b\n2,x\n")
    with pytest.raises(DeliveryRefused, match="changed while it was read"):
        list(source.read(delivery))


def test_an_object_is_read_once_to_be_known(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.csv", b"a,b\n1,x\n")
    time.sleep(3.1)
    [known] = bucket.source().pending({})
    monkeypatch.setattr(files.Hashed, "finish", lambda self: pytest.fail("read again"))
    assert bucket.source().pending({}) == [known]


def test_a_store_that_is_not_there_is_told(bucket: Bucket) -> None:
    for update, says in (
        ({"connections": {"shop": SecretStr("s3://no-such-bucket/x")}}, "NoSuchBucket|Not Found|does not exist"),
        ({"s3_endpoint": "http://127.0.0.1:9", "s3_access_key": SecretStr("a"), "s3_secret_key": SecretStr("secret-b")}, "onnect"),
    ):
        bucket.settings = bucket.settings.model_copy(update=update)
        with pytest.raises(PlatformError, match=says) as error:
            bucket.source().pending({})
        assert error.value.code == "source-unreachable"
        assert "secret-b" not in str(error.value)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.ndjson", "a.parquet"])
def test_a_connection_that_breaks_is_no_fault_of_the_file(bucket: Bucket, name: str) -> None:
    table = pa.table({"a": range(100_000), "b": ["text"] * 100_000})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    text = b"a,b\n" + b"".join(b"%d,text\n" % n for n in range(100_000))
    lines = b"".join(b'{"a": %d, "b": "text"}\n' % n for n in range(100_000))
    data = {
        "a.csv": text,
        "a.csv.gz": pa.compress(text, "gzip", asbytes=True),
        "a.ndjson": lines,
        "a.parquet": sink.getvalue().to_pybytes(),
    }
    bucket.put(name, data[name])
    [delivery] = bucket.source().pending({})
    assert bucket.settings.object_store is not None
    with HttpProxy(str(bucket.settings.object_store.endpoint)) as proxy:
        direct = bucket.settings.object_store
        bucket.settings = bucket.settings.model_copy(
            update={"s3_endpoint": proxy.url, "s3_access_key": direct.access_key, "s3_secret_key": direct.secret_key}
        )
        proxy.fault = lambda method, path: "reset-response" if method == "GET" and path.endswith(name) else None
        with pytest.raises(PlatformError) as error:
            list(bucket.source().read(delivery))
        assert error.value.code == "source-unreachable"
        proxy.fault = lambda _method, _path: None
        assert sum(len(block.rows) for block in bucket.source().read(delivery)) == 100_000
