"""Connections to a catalog that is a server, PostgreSQL or Iceberg REST: bounded in time, repeated while it is away, and with one
sentence when it stays away. What is asked of a catalog is in `catalog`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, ServerError
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from requests.adapters import HTTPAdapter
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from urllib3.util import Retry

from platform_resources.errors import PlatformError

_CONNECT_SECONDS, _ANSWER_SECONDS = 5, 60
_DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between tries to connect: a server that is started again is back within them
_MAKING_TABLES = 0x5D9  # key of the advisory lock; any number that nobody else uses in this database


class CatalogUnreachable(PlatformError):  # noqa: N818 - what it says, not what it is
    """The catalog's server did not answer, after every repetition. A commit that was on its way may stand or not."""

    @classmethod
    def at(cls, place: str, reason: str) -> CatalogUnreachable:
        """The sentence for one server; `place` is host and port."""
        return cls(
            "catalog-unreachable",
            f"The catalog at {place} did not answer: {reason.rstrip('.')}.",
            "See that it runs (`sdp stack status`) and repeat the command; a write is published whole or not at all.",
        )


def postgresql_engine(uri: str) -> Engine:
    """An engine for the SQL catalog: connections are proved before use, and a silent server is given up.

    Raises (at use):
        CatalogUnreachable: after some 15 s of tries.
    """
    url = make_url(uri)
    place = f"{url.host or 'localhost'}:{url.port or 5432}"
    options = {
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _ANSWER_SECONDS * 1000,
        "application_name": "shared-data-platform",
    }
    engine = create_engine(url, pool_pre_ping=True, pool_recycle=600, connect_args=options)

    @event.listens_for(engine, "do_connect")
    def _patient(dialect: Any, _record: Any, arguments: Any, keywords: Any) -> Any:
        for delay in _DELAYS:
            try:
                return dialect.connect(*arguments, **keywords)
            except dialect.loaded_dbapi.OperationalError as error:
                if "authentication failed" in str(error) or "does not exist" in str(error):
                    raise  # an answer: nothing to wait for
                time.sleep(delay)
        return dialect.connect(*arguments, **keywords)

    @event.listens_for(engine, "handle_error")
    def _told(context: ExceptionContext) -> None:
        if context.is_pre_ping or not (context.is_disconnect or context.connection is None):
            return
        reason = next(iter(str(context.original_exception).rpartition("failed: ")[2].splitlines()), "")  # a question to the user follows
        raise CatalogUnreachable.at(place, reason) from None

    return engine


@contextmanager
def one_maker(engine: Engine) -> Iterator[None]:
    """Of processes that open a new catalog at once, one makes its tables; CREATE TABLE IF NOT EXISTS does not wait for another's."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING_TABLES})
        yield


class PatientRestCatalog(RestCatalog):
    """PyIceberg's REST catalog with time-outs, which it has none of: a server that hangs would hang a run for ever.

    Reads are repeated. A commit is not, unless the connection was never made: whether it stands is asked by its stamp.
    """

    def create_namespace(self, namespace: str | Identifier, properties: Properties = EMPTY_DICT) -> None:
        """Create a namespace; a server that fails because another client was first is told as one that has it already."""
        try:
            super().create_namespace(namespace, properties)
        except ServerError as error:
            if self.namespace_exists(namespace):
                raise NamespaceAlreadyExistsError(namespace) from error
            raise

    def _create_session(self) -> requests.Session:
        session: requests.Session = super()._create_session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        return session


class _Adapter(HTTPAdapter):
    def __init__(self) -> None:
        # 500 too: a catalog whose own database was away answers so once for every connection that broke.
        retries = Retry(
            total=6,
            connect=6,
            read=3,
            status=6,
            backoff_factor=0.3,
            status_forcelist=(500, 502, 503, 504),
            allowed_methods=("GET", "HEAD"),
            raise_on_status=False,
        )
        super().__init__(max_retries=retries)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or (_CONNECT_SECONDS, _ANSWER_SECONDS)
        try:
            return super().send(request, *arguments, **options)
        except (requests.ConnectionError, requests.Timeout) as error:
            host = requests.utils.urlparse(request.url or "").netloc.rpartition("@")[2]  # type: ignore[attr-defined]
            reason = "it cannot be reached" if isinstance(error, requests.exceptions.ConnectTimeout) else type(error).__name__
            raise CatalogUnreachable.at(host, reason) from None
