"""What the environment may say: values that nobody could use are one sentence each, told before anything is asked; no secret is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from platform_resources.addresses import shown_address
from platform_resources.cli.doctor import examine
from platform_resources.config import SOURCE_ROOT, Settings, load_settings
from platform_resources.engines.spark import catalog_conf, jdbc_address, launch_conf
from platform_resources.errors import PlatformError

AWKWARD = ("sec#r3t", "sec/r3t", "sec[r3t", "sec]r3t", "sec?r3t", "sec:r3t", "sec r3t")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_HOME", str(tmp_path / "home"))


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """The sentence for an environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PlatformError) as caught:
        load_settings()
    assert caught.value.code == "settings-invalid"
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SDP_SPARK_CONF", "abc"),
        ("SDP_SPARK_CONF", '["a"]'),
        ("SDP_SPARK_CONF", '{"spark.sql.catalog.x.token": 7}'),
        ("SDP_CONNECTIONS", "{"),
        ("SDP_CATALOG_URI", "foo"),
        ("SDP_CATALOG_URI", "postgresq://u:s3cr3t@h/db"),
        ("SDP_CATALOG_URI", "postgres://u:s3cr3t@h/db"),
        ("SDP_CATALOG_URI", "postgresql+nodriver://u:s3cr3t@h/db"),
        ("SDP_CATALOG_URI", "postgresql://u:s3cr3t@h:x9/db"),
        ("SDP_CATALOG_URI", "mysql://u:s3cr3t@h/db"),
        ("SDP_CATALOG_URI", "https://u:s3cr3t@h/api"),
        ("SDP_S3_ENDPOINT", "localhost:8080"),
        ("SDP_S3_ENDPOINT", "http://"),
        ("SDP_S3_ENDPOINT", "http://h:x"),
        ("SDP_WAREHOUSE", "gs://lake/w"),
        ("SDP_WAREHOUSE", "hdfs://h/w"),
        ("SDP_WAREHOUSE", "s3://"),
        ("SDP_WAREHOUSE", "s3:/lake/w"),
        ("SDP_WAREHOUSE", "file://w"),
        ("SDP_DRAIN_SECONDS", "0"),
        ("SDP_PROFILE", "prod"),
    ],
)
def test_a_value_that_nobody_can_use_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    said = refused(monkeypatch, **{name: value})
    assert said.startswith(f"The environment variable {name} has ") and f" Set {name} to " in said
    assert "s3cr3t" not in said and "pydantic" not in said and ".." not in said


@pytest.mark.parametrize("uri", ["foo", "postgresql://h/db", "https://u:p#s3cr3t@h/", "https://u:12/s3cr3t@h/", "http://[h/"])
def test_a_rest_catalog_has_an_address_of_http(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    said = refused(monkeypatch, SDP_CATALOG_TYPE="rest", SDP_CATALOG_URI=uri)
    assert "SDP_CATALOG_URI" in said and "http(s)://" in said and "s3cr3t" not in said


@pytest.mark.parametrize(("given", "other"), [("ACCESS", "SECRET"), ("SECRET", "ACCESS")])
def test_one_key_without_the_other_is_refused(monkeypatch: pytest.MonkeyPatch, given: str, other: str) -> None:
    said = refused(monkeypatch, **{f"SDP_S3_{given}_KEY": "hunter2"})
    assert said.startswith(f"SDP_S3_{given}_KEY is set without SDP_S3_{other}_KEY.") and "hunter2" not in said


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("/data/w/", "/data/w"),
        ("w", f"{SOURCE_ROOT}/w"),
        ("file:/data/w", "file:///data/w"),
        ("file:///data/w", "file:///data/w"),
        ("s3://lake/w/", "s3://lake/w"),
        ("s3a://lake", "s3a://lake"),
    ],
)
def test_the_root_of_the_tables(given: str, used: str) -> None:
    assert Settings(warehouse=given, project=SOURCE_ROOT).warehouse_uri == used


def test_production_falls_back_to_no_folder() -> None:
    bare = Settings(profile="production")
    for ask, name in ((lambda: bare.warehouse_uri, "SDP_WAREHOUSE"), (lambda: bare.catalog_address, "SDP_CATALOG_URI")):
        with pytest.raises(PlatformError) as caught:
            ask()
        assert caught.value.code == "settings-missing" and name in caught.value.message
    whole = Settings(profile="production", warehouse="s3://lake/w", catalog_uri="postgresql://h/db")
    assert whole.catalog_properties()["uri"] == "postgresql://h/db"
    lacking = {finding.need for finding in examine(bare) if finding.profile == "production" and not finding.ok}
    assert {"catalog", "warehouse"} <= lacking  # the doctor still looks


def test_a_rest_catalog_without_its_address_is_told() -> None:
    with pytest.raises(PlatformError) as caught:
        Settings(catalog_type="rest").catalog_properties()
    assert caught.value.code == "settings-missing" and "SDP_CATALOG_URI" in caught.value.message


@pytest.mark.parametrize("password", AWKWARD)
def test_no_part_of_a_catalogs_password_is_shown(password: str) -> None:
    uri = f"postgresql+psycopg2://me:{password}@127.0.0.1:9/db?sslpassword=other"
    assert make_url(uri).password == password  # SQLAlchemy takes it
    settings = Settings(catalog_uri=uri)
    (catalog,) = [finding for finding in examine(settings) if (finding.profile, finding.need) == ("production", "catalog")]
    assert (catalog.ok, catalog.found) == (True, "postgresql+psycopg2://127.0.0.1:9/db")
    assert jdbc_address(uri.removesuffix("?sslpassword=other")) == ("jdbc:postgresql://127.0.0.1:9/db", "me", password)
    assert password not in repr(settings)


def test_what_an_address_shows() -> None:
    assert shown_address("https://me:p%23w@catalog.example.org:8/api?token=hunter2#x") == "https://catalog.example.org:8/api"
    assert shown_address("sqlite:////data/catalog.db") == "sqlite:////data/catalog.db"
    assert shown_address("postgresql://h/db?user=me&password=hunter2") == "postgresql://h/db"
    assert shown_address("postgresql://me:x@[::1]:9/db") == "postgresql://[::1]:9/db"


@pytest.mark.parametrize(
    ("uri", "jdbc"),
    [
        ("sqlite:////data/catalog.db", ("jdbc:sqlite:/data/catalog.db?busy_timeout=60000", "", "")),
        ("postgresql://h/db", ("jdbc:postgresql://h/db", "", "")),
        ("postgresql://me:p%40ss@[::1]:9/db?sslmode=require", ("jdbc:postgresql://[::1]:9/db?sslmode=require", "me", "p@ss")),
        ("postgresql://h/db?user=me&password=hunter2", ("jdbc:postgresql://h/db", "me", "hunter2")),
    ],
)
def test_user_and_password_are_no_part_of_a_jdbc_address(uri: str, jdbc: tuple[str, str, str]) -> None:
    assert jdbc_address(uri) == jdbc


def test_what_spark_is_told_of_catalogs_is_on_no_command_line() -> None:
    secret = {"spark.sql.catalog.lake.token": "hunter2", "spark.sql.catalog.sdp.uri": "https://other"}
    settings = Settings(spark_conf={**secret, "spark.eventLog.enabled": "true"}, spark_jars="a.jar")
    started, session = launch_conf(settings), catalog_conf(settings)
    assert started["spark.eventLog.enabled"] == "true" and not secret.keys() & started.keys()
    assert secret.items() <= session.items() and "spark.eventLog.enabled" not in session
    assert "hunter2" not in repr(settings)
