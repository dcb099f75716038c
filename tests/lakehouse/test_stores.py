"""What the whole suite holds over Swift under the marker `stack`, in short for every run: a table's life, its secrets, its requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import text

from platform_resources.config import Settings, load_settings
from platform_resources.engines.duck import connect
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse, PlatformSqlCatalog
from platform_resources.lakehouse.file_io import S3FileIO, StoreError
from platform_resources.lakehouse.reading import arrow_table, duckdb_scan_sql, polars_scan
from platform_resources.lakehouse.staging import PartitionScope, publish, stage_append, stage_merge, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.sourcing import _lock
from tests.lakehouse.tables import files_on_disk, location_of, orders, read, read_by_duckdb, read_by_polars, rows, table_of
from tests.stack.proxies import HttpProxy

ORDERS = orders()
remote = pytest.mark.parametrize("store", ["swift-postgresql", "swift-rest"])
swift = pytest.mark.parametrize("store", ["swift-postgresql"])


def append(lakehouse: Lakehouse, number: int) -> None:
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (number, "a", number)), Stamp(f"r{number}")), lambda now: now.audit_metadata)


@remote
def test_a_tables_life_over_swift(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    for number in range(3):
        append(lakehouse, number)
    publish(stage_merge(lakehouse, ORDERS, rows(ORDERS, (1, "b", 9)), Stamp("m"), keys=("id",)))
    expected = [(0, "a", 0), (1, "b", 9), (2, "a", 2)]
    table = table_of(lakehouse, ORDERS)
    assert read(table) == expected
    assert sorted(tuple(row.values()) for row in read_by_duckdb(con, table).to_pylist()) == expected
    assert sorted(tuple(row.values()) for row in read_by_polars(table).to_pylist()) == expected
    before = table.history()[2].snapshot_id
    assert polars_scan(table, before).collect().height == arrow_table(table, before).num_rows == 2
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (7, "x", 7)), Stamp("no"))
    files = files_on_disk(lakehouse)
    staged.discard()
    assert len(files) - len(files_on_disk(lakehouse)) == 3
    publish(stage_overwrite(lakehouse, ORDERS, rows(ORDERS, (5, "c", 5)), Stamp("o"), partitions=PartitionScope.table()))
    assert read(table_of(lakehouse, ORDERS)) == [(5, "c", 5)]
    lakehouse.drop("shop.orders")
    assert lakehouse.table("shop.orders") is None


@swift
def test_no_key_is_in_what_the_platform_writes(lakehouse: Lakehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lakehouse, 1)
    secrets = [settings.told_by("swift", "s3_secret_key"), settings.told_by("postgresql", "password")]
    assert all(len(secret) > 20 for secret in secrets)
    table = table_of(lakehouse, ORDERS)
    assert isinstance(lakehouse.catalog, PlatformSqlCatalog)
    with lakehouse.catalog.engine.connect() as connection:
        shown = [
            str(connection.execute(text(f"SELECT * FROM {name}")).fetchall()) for name in ("iceberg_tables", "iceberg_namespace_properties")
        ]
    paths = files_on_disk(lakehouse)
    assert len(paths) == 6
    shown += [table.io.new_input(location_of(path)).open().read().decode(errors="replace") for path in paths]
    given = settings.model_copy(update={"s3_secret_key": settings.object_store.secret_key if settings.object_store else None})
    shown += [repr(settings), repr(given), given.model_dump_json(), str(settings.object_store), repr(lakehouse.catalog), repr(table)]
    shown += [polars_scan(table).explain(), duckdb_scan_sql(table)]
    with connect(settings) as con:
        con.execute("CALL enable_logging(level = 'trace')")
        con.sql(f"SELECT * FROM {duckdb_scan_sql(table)}").fetchall()
        shown += [str(con.sql(f"SELECT * FROM {name}").fetchall()) for name in ("duckdb_secrets()", "duckdb_settings()", "duckdb_logs")]
        with pytest.raises(duckdb.Error):
            con.sql("SELECT * FROM duckdb_secrets(redact = false)").fetchall()
    shown += [(settings.stack_path / name / "server.log").read_text(errors="replace") for name in ("postgresql", "swift")]
    for place, found in enumerate(shown):
        assert not any(secret in found for secret in secrets), place
    monkeypatch.setenv("SDP_S3_PATH_STYLE", secrets[0])
    monkeypatch.setenv("SDP_S3_SECRET_KEY", secrets[0])
    with pytest.raises(PlatformError) as caught:
        load_settings()
    assert caught.value.code == "settings-invalid"


@swift
def test_a_locked_session_reads_the_warehouse_and_nothing_else_of_the_store(lakehouse: Lakehouse, settings: Settings) -> None:
    append(lakehouse, 1)
    elsewhere = f"{settings.told_by('swift', 'warehouse')}-other/x.txt"
    with S3FileIO(lakehouse.settings.catalog_properties()).new_output(elsewhere).create() as stream:
        stream.write(b"no product")
    with connect(settings) as con:
        _lock(con, settings)
        assert con.sql(f"SELECT count(*) FROM {duckdb_scan_sql(table_of(lakehouse, ORDERS))}").fetchall() == [(1,)]
        for text_of_user in (f"SELECT * FROM read_text('{elsewhere}')", "SELECT * FROM read_text('/etc/hostname')"):
            with pytest.raises(duckdb.PermissionException):
                con.sql(text_of_user).fetchall()


@swift
def test_requests_of_a_write(settings: Settings, store: str) -> None:
    """Counted at a proxy, so that one more is a choice: a data file, a manifest, a manifest list; then the metadata file."""
    own = settings.object_store
    assert own is not None
    with HttpProxy(str(own.endpoint)) as proxy:
        keys = {"s3_access_key": own.access_key, "s3_secret_key": own.secret_key}
        lakehouse = Lakehouse(settings.model_copy(update={"s3_endpoint": proxy.url, **keys}))
        lakehouse.create(ORDERS)
        assert proxy.counts() == {"PUT": 2}
        for number in range(2):
            proxy.clear()
            staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (number, "a", 1)), Stamp(f"r{number}"))
            assert proxy.counts() == {"PUT": 3}
            staged.commit()
            assert proxy.counts() == {"PUT": 4}
        proxy.clear()
        staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (9, "a", 1)), Stamp("audited"))
        assert staged.audit_metadata
        staged.commit()
        assert proxy.counts() == {"PUT": 5, "POST": 1}  # a delete of many, here of one
        proxy.clear()
        assert len(read(table_of(lakehouse, ORDERS))) == 3
        assert proxy.counts() == {"GET": 3}  # one per data file: the metadata was written here
        proxy.clear()
        lakehouse.drop("shop.orders")
        assert proxy.counts() == {"POST": 1}


@swift
def test_keys_that_the_store_refuses_are_one_sentence(settings: Settings, store: str) -> None:
    own = settings.object_store
    assert own is not None
    wrong = Lakehouse(
        settings.model_copy(update={"s3_endpoint": own.endpoint, "s3_access_key": own.access_key, "s3_secret_key": own.access_key})
    )
    with pytest.raises(StoreError) as caught:
        wrong.create(ORDERS)
    assert caught.value.code == "store-refused" and "SDP_S3_SECRET_KEY" in caught.value.remedy


def test_a_stack_that_was_never_started_is_one_sentence(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, profile="stack")
    for ask in (lambda: settings.warehouse_uri, settings.catalog_properties, lambda: Lakehouse(settings).table("a.b")):
        with pytest.raises(PlatformError) as caught:
            ask()
        assert caught.value.code == "stack-not-started" and "sdp stack up" in caught.value.remedy


@swift
def test_a_file_that_is_not_finished_is_never_seen(lakehouse: Lakehouse, settings: Settings, stack: Callable[..., Settings]) -> None:
    io = S3FileIO(settings.catalog_properties())
    place = f"{settings.warehouse_uri}/large.parquet"
    with pytest.raises(ZeroDivisionError), io.new_output(place).create() as stream:  # noqa: PT012 - the block is the test
        for _ in range(40):
            stream.write(bytes(1 << 20))  # two parts are up
        raise ZeroDivisionError
    forgotten = io.new_output(place).create()
    forgotten.write(b"half")
    del forgotten
    assert not io.new_input(place).exists()
    with io.new_output(place).create() as stream:
        for number in range(40):
            stream.write(bytes([number]) * (1 << 20))
    assert len(io.new_input(place)) == 40 << 20
    reader = io.new_input(place).open()
    reader.seek((7 << 20) - 1)
    assert reader.read(3) == bytes([6, 7, 7])
    reader.seek(0)
    assert b"".join(iter(lambda: reader.read(3_000_001), b"")) == b"".join(bytes([number]) * (1 << 20) for number in range(40))
    io.delete(place)
    io.delete(place)
    with pytest.raises(FileNotFoundError):
        io.new_input(place).open()
