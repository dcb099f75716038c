"""Publishing into a real object store (Swift, S3 API): the same laws as in a folder."""

from __future__ import annotations

import bz2
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.serving import outlets
from platform_resources.serving.outlets import STAGING, Bucket, put
from tests.serving.export_schema import violations
from tests.serving.wikis import Archive, read, revision

pytestmark = pytest.mark.stack
SMALL = "      - {property: fileSize, value: 1 MiB}\n"
BIG = "x" * 400_000


MOMENTS = [
    "publish-after-plan", "publish-before-rename@2", "publish-after-file@2", "publish-after-move@2", "publish-after-companion",
    "publish-before-commit",
]  # fmt: skip


class Public:
    """A prefix of its own that archive/dump is published in; its tables stay in a folder."""

    def __init__(self, settings: Settings, root: Path, prefix: str = "") -> None:
        self.settings, self.store = settings, settings.object_store
        assert self.store is not None
        self.client = self.store.boto3()
        self.name, self.prefix = settings.warehouse_uri.removeprefix("s3://").split("/")[0], prefix or f"public-{uuid4().hex[:8]}"
        self.archive = Archive(root)
        self.outlet = Bucket(self.store, self.name, self.prefix)

    def publish(self, **options: Any) -> Any:
        return self.archive.publish(outlet=self.outlet, **options)

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{self.prefix}/")
        return sorted(entry["Key"].removeprefix(f"{self.prefix}/") for page in pages for entry in page.get("Contents", ()))

    def files(self) -> list[str]:
        return [name for name in self.names() if ".xml" in name and not name.startswith(STAGING)]

    def bytes(self, name: str) -> bytes:
        found = self.outlet.open(name)
        assert found is not None
        return found.read()


@pytest.fixture
def public(stack: Callable[..., Settings], tmp_path: Path) -> Public:
    found = Public(stack("swift").model_copy(update={"profile": "stack"}), tmp_path)
    found.archive.define(server=SMALL)
    return found


def test_a_dump_in_a_bucket_is_what_it_is_in_a_folder(public: Public) -> None:
    public.archive.hold([revision("testwiki", page, page, BIG) for page in range(1, 6)])
    published = public.publish()
    assert public.files() == [one.name for one in published.files]
    assert len(public.names()) == 3 + 4
    for one in published.files:
        data = public.bytes(one.name)
        assert hashlib.sha1(data).hexdigest() == one.sha1
        assert violations(bz2.decompress(data)) == []
    assert [one.id for name in public.files() for one in read(bz2.decompress(public.bytes(name)))] == [1, 2, 3, 4, 5]
    public.archive.hold([revision("testwiki", 1, 1)])
    public.publish()
    assert len(public.files()) == 1
    assert not [name for name in public.names() if name.startswith(STAGING)]


def test_a_run_that_failed_shows_nothing_and_is_taken_up(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    public.archive.hold([revision("testwiki", page, page, BIG) for page in range(1, 6)])
    monkeypatch.setenv("SDP_FAILPOINTS", "publish-before-finish:raise@2")
    with pytest.raises(RuntimeError):
        public.publish()
    assert public.files() == []
    monkeypatch.delenv("SDP_FAILPOINTS")
    published = public.publish()
    assert (published.kept, len(published.files)) == (1, 3)
    assert not [name for name in public.names() if name.startswith(STAGING)]


def _publish(settings: Settings, root: Path, prefix: str, failpoints: str) -> None:
    os.environ["SDP_FAILPOINTS"] = failpoints
    Public(settings, root, prefix).publish(run_id="killed")


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_only_whole_files_are_seen_and_the_next_run_ends_it(public: Public, moment: str) -> None:
    public.archive.hold([revision("testwiki", page, page, f"old {BIG}") for page in range(1, 4)])
    old = {one.name for one in public.publish().files}
    public.archive.hold([revision("testwiki", page, page, f"new {BIG}") for page in range(1, 7)])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["platform_resources.serving.publishing", "tests.serving.wikis"])
    process = context.Process(target=_publish, args=(public.settings, public.archive.root, public.prefix, moment))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    shown = {name: bz2.decompress(public.bytes(name)) for name in public.files()}
    assert shown and all(violations(data) == [] for data in shown.values())
    status = next(name for name in public.names() if name.endswith("dumpstatus.json") and not name.startswith(STAGING))
    if shown.keys() != old or any(b">new" in data for data in shown.values()):
        assert json.loads(public.bytes(status))["status"] == "in-progress" or len(shown) == 3
    published = public.publish()
    assert public.files() == [one.name for one in published.files] and len(published.files) == 3
    for one in published.files:
        data = public.bytes(one.name)
        assert hashlib.sha1(data).hexdigest() == one.sha1 and b">new" in bz2.decompress(data)
    assert json.loads(public.bytes(status))["status"] == "done"
    assert not [name for name in public.names() if name.startswith(STAGING)]


def test_a_large_object_goes_in_parts_and_appears_at_once(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "_PART", 5 * 2**20)
    sink = public.outlet.create("large")
    for _ in range(13):
        sink.write(b"x" * 2**20)
    assert public.names() == []
    sink.finish()
    assert len(public.bytes("large")) == 13 * 2**20
    assert public.outlet.move("large", "there")
    assert public.names() == ["there"]
    assert not public.outlet.move("large", "again")
    left = public.outlet.create(f"{STAGING}half")
    left.write(b"x" * 6 * 2**20)
    public.outlet.sweep(STAGING)
    assert public.client.list_multipart_uploads(Bucket=public.name, Prefix=f"{public.prefix}/{STAGING}").get("Uploads", []) == []


def test_a_bucket_that_is_not_there_is_told(public: Public) -> None:
    assert public.store is not None
    with pytest.raises(PlatformError, match="cannot be written") as refused:
        put(Bucket(public.store, f"none-{uuid4().hex[:8]}", "x"), "a", b"b")
    assert refused.value.code == "outlet-unwritable"


def test_the_connection_leads_to_the_bucket(public: Public, stack: Callable[..., Settings]) -> None:
    settings = stack("swift").model_copy(
        update={"profile": "stack", "connections": {"archive": SecretStr(f"s3://{public.name}/{public.prefix}/")}}
    )
    _, contract, _ = public.archive.load()
    put(outlets.open_outlet(contract, settings), "a/b", b"c")
    assert public.names() == ["a/b"]
