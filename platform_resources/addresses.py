"""Addresses that a profile gives, of catalogs, stores and tables: judged before anybody uses them, shown without what is secret in them.

A SQL catalog's is read by SQLAlchemy, whose passwords may hold `#`, `/` and `[`, at which the rules of URLs would cut. What is behind an
address is not asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DATABASES = ("sqlite", "postgresql")
_TABLES = "a folder's path, file:///folder, or s3://bucket/folder"


def database_address(uri: str) -> URL:
    """A SQL catalog's address in its parts.

    Raises:
        ValueError: what an address has to be, in words without the address.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    wanted = "postgresql://user:password@host:port/database or sqlite:///file"
    try:
        url = make_url(uri)
        url.get_dialect()
    except (ArgumentError, ValueError):  # no such driver is an ArgumentError, a port that is no number a ValueError
        raise ValueError(f"a SQL catalog's address is {wanted}") from None
    if url.get_backend_name() not in DATABASES:
        raise ValueError(f"a SQL catalog is in PostgreSQL or SQLite: {wanted}")
    return url


def require_http(uri: str) -> None:
    """See that an address is one of HTTP.

    Raises:
        ValueError: what it has to be, in words without the address.
    """
    wanted = "the address is http(s)://host:port"
    try:
        parts = urlsplit(uri)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is none of IPv6
        raise ValueError(wanted) from None
    if not whole:
        raise ValueError(wanted)
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"{wanted}; in a user's name or password write / ? # [ ] and @ as %2F %3F %23 %5B %5D and %40")


def table_root(place: str, project: Path) -> str:
    """The root of the tables as it is used: a folder's path is absolute, a relative one lies in the project.

    Raises:
        ValueError: what it has to be.
    """
    scheme, colon, rest = place.partition(":")
    if not colon or "/" in scheme:
        return str(project / place)
    if scheme == "file":
        path = rest[2:] if rest.startswith("//") else rest
        if not path.startswith("/"):
            raise ValueError(f"the root of the tables is {_TABLES}")
        return f"file://{path}"
    if scheme not in ("s3", "s3a") or not urlsplit(place).netloc:
        raise ValueError(f"the root of the tables is {_TABLES}")
    return place


def shown_address(uri: str) -> str:
    """A catalog's address without user, password and query.

    Raises:
        ValueError: it is no address.
    """
    if not uri.startswith(("http:", "https:")):
        url = database_address(uri)
        return url.set(query={})._replace(username=None, password=None).render_as_string()
    require_http(uri)
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
