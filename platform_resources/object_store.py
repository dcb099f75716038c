"""How clients reach the object store behind the S3 API: one set of values, in the words of PyIceberg, DuckDB, Polars, Spark and boto3.

The keys are secrets: they are handed to a client's session and stand in no repr, log, table or text. Where no keys are given each
client finds the machine's own (the AWS default chain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

if TYPE_CHECKING:
    import duckdb

# A store that answers 503 or refuses connections is asked six times with delays that double, some 15 s in all: who waits at a terminal
# gets his sentence, a run is repeated by Dagster. One that accepts a connection and then says nothing is given up after READ_SECONDS and
# asked again. What asks so, boto3 or DuckDB, is not asked again by us: times six twice would be ten minutes.
ATTEMPTS = 6
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0


@dataclass(frozen=True)
class ObjectStore:
    """An S3 endpoint (`http(s)://host:port`; None: AWS itself), its region and keys (None: the machine's own)."""

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    path_style: bool = True

    def file_io(self) -> dict[str, str]:
        """Properties of PyIceberg's FileIO, in Iceberg's names."""
        known = {
            "s3.endpoint": self.endpoint,
            "s3.region": self.region,
            "s3.access-key-id": _shown(self.access_key),
            "s3.secret-access-key": _shown(self.secret_key),
            "s3.force-virtual-addressing": None if self.path_style else "true",
            "s3.connect-timeout": f"{CONNECT_SECONDS:g}",
            "s3.request-timeout": f"{READ_SECONDS:g}",
        }
        return {name: value for name, value in known.items() if value is not None}

    def polars(self) -> dict[str, str]:
        """`storage_options` of Polars."""
        known = {
            "aws_endpoint_url": self.endpoint,
            "aws_region": self.region,
            "aws_access_key_id": _shown(self.access_key),
            "aws_secret_access_key": _shown(self.secret_key),
            "aws_virtual_hosted_style_request": "false" if self.path_style else "true",
            "aws_allow_http": "true" if (self.endpoint or "").startswith("http:") else None,
        }
        return {name: value for name, value in known.items() if value is not None}

    def spark(self, catalog: str) -> dict[str, str]:
        """Spark configuration of Iceberg's S3FileIO for the catalog of that name."""
        prefix = f"spark.sql.catalog.{catalog}"
        known = {
            f"{prefix}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            f"{prefix}.client.region": self.region,
            f"{prefix}.s3.endpoint": self.endpoint,
            f"{prefix}.s3.access-key-id": _shown(self.access_key),
            f"{prefix}.s3.secret-access-key": _shown(self.secret_key),
            f"{prefix}.s3.path-style-access": "true" if self.path_style else "false",
        }
        return {name: value for name, value in known.items() if value is not None}

    def give_to(self, con: duckdb.DuckDBPyConnection, scope: str) -> None:
        """Hand the keys to a DuckDB session that has httpfs loaded, for what is under `scope` (`s3://bucket/folder`).

        They lie in the session's memory only, and come as parameters, so that they are in no text of a statement. The session is as patient
        from here as boto3 is: by itself it would ask four times within half a second.
        """
        for name, value in _PATIENCE.items():
            con.execute(f"SET {name} = {value}")
        host, options = self.endpoint, {"REGION": self.region, "URL_STYLE": "path" if self.path_style else "vhost"}
        if host is not None:
            options["ENDPOINT"] = host.partition("://")[2].rstrip("/")
            options["USE_SSL"] = str(not host.startswith("http:")).lower()
        if self.access_key is not None and self.secret_key is not None:
            options["KEY_ID"], options["SECRET"] = self.access_key.get_secret_value(), self.secret_key.get_secret_value()
        else:
            options.update(_own_keys())
        options["SCOPE"] = scope
        words = ", ".join(f"{name} ?" for name in options)
        con.execute(f"CREATE OR REPLACE TEMPORARY SECRET {_IN_DUCKDB} (TYPE s3, {words})", list(options.values()))

    def boto3(self, *, attempts: int = ATTEMPTS, read_timeout: float = READ_SECONDS) -> Any:
        """A boto3 S3 client; it may be used by many threads."""
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=read_timeout,
            s3={"addressing_style": "path" if self.path_style else "virtual"},
            max_pool_connections=32,
        )
        keys = {"aws_access_key_id": _shown(self.access_key), "aws_secret_access_key": _shown(self.secret_key)}
        session = boto3.session.Session(**keys, region_name=self.region)
        return session.client("s3", endpoint_url=self.endpoint, config=config)


_IN_DUCKDB = "sdp_object_store"
_PATIENCE = {  # repeated at once, then after 1, 2, 4 and 8 s
    "http_retries": ATTEMPTS - 1,
    "http_retry_wait_ms": 1000,
    "http_retry_backoff": 2,
    "http_timeout": int(READ_SECONDS),
}


def _shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _own_keys() -> dict[str, str]:
    """The machine's keys for a DuckDB session, found by botocore: DuckDB's own search is in an extension that would be downloaded."""
    import boto3

    found = boto3.session.Session().get_credentials()
    if found is None:
        return {}
    frozen = found.get_frozen_credentials()
    known = {"KEY_ID": frozen.access_key, "SECRET": frozen.secret_key, "SESSION_TOKEN": frozen.token}
    return {name: value for name, value in known.items() if value}
