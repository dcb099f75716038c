"""One page of an API: asked for with the connection's secrets, asked for again within a budget, read whole within bounds.

Why requests: it is alive, Apache-2.0, honours the proxies and certificates that a machine is set up with, and the platform has it already
through Dagster; httpx has had no release for long. Its own retries are not used: what is retried, how long and by whose word
(`Retry-After`) is the contract's budget, and what went wrong last must be told.
"""

from __future__ import annotations

import base64
import random
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import orjson

from platform_resources.errors import PlatformError
from platform_resources.landing.connections import split_address
from platform_resources.landing.source import DeliveryRefused

if TYPE_CHECKING:
    import requests

_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_CONNECT_SECONDS, _SILENCE_SECONDS, _PAGE_SECONDS = 10.0, 60.0, 300.0
_LOOK_BUDGET, _LOOK_SILENCE = timedelta(seconds=5), 15.0  # a sensor asks for many products within a minute
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_PAGE_BYTES = 128 << 20
_CHUNK = 1 << 18
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True)
class Answer:
    """A page: its JSON value and text, its address, the address in its header `Link` with rel=next, and how to call it in a sentence."""

    value: Any
    text: bytes
    url: str
    following: str | None
    place: str


@dataclass
class Retries:
    """What trying again has taken of a run's budget, seconds, its look for what is new included; `silence`: how long a page may keep it."""

    budget: timedelta
    silence: float
    spent: float = field(default=0.0)


class Client:
    """An API behind a connection.

    Args:
        address: `http(s)://host/base`; `user:password@` is sent as Basic login, `:token@` as Bearer token, and what stands behind `#` as
            headers: `#X-Api-Key=abc&X-Tenant=wiki`. None of it is ever shown.
        connection: its name in the profile, for sentences.
        budget: the longest time that trying again may take.

    Raises:
        PlatformError: `connection-scheme`, `connection-unfit`.
    """

    def __init__(self, address: str, connection: str, budget: timedelta) -> None:
        parts = split_address(address, connection)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise PlatformError(
                "connection-scheme",
                f"The connection {connection} does not begin with http:// or https:// and a host, so no API can be read by it.",
                "Mend its address in SDP_CONNECTIONS.",
            )
        self._connection, self._budget = connection, budget
        self._base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/json", "User-Agent": "shared-data-platform", **dict(parse_qsl(parts.fragment))}
        for header, value in self._headers.items():
            if not _HEADER.fullmatch(header) or not value.isprintable():
                raise PlatformError(
                    "connection-unfit",
                    f"What stands behind # in the address of the connection {connection} are no headers.",
                    "Mend it in SDP_CONNECTIONS: #X-Api-Key=abc&X-Tenant=wiki, what is special percent-encoded.",
                )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        elif password:
            self._headers["Authorization"] = f"Bearer {password}"
        self._session: requests.Session | None = None

    def url(self, path: str) -> str:
        """The address of a path below the connection's."""
        return f"{self._base}/{path.lstrip('/')}"

    def retries(self, *, looking: bool = False) -> Retries:
        """A budget that nothing was taken of; a small one for who only looks whether there is something new."""
        return Retries(min(self._budget, _LOOK_BUDGET), _LOOK_SILENCE) if looking else Retries(self._budget, _SILENCE_SECONDS)

    def get(self, url: str, query: dict[str, str], retries: Retries, *, missing_ends: bool = False) -> Answer | None:
        """The page there.

        Args:
            url: where.
            query: added to what the address has.
            retries: of the run.
            missing_ends: an answer 404 says that there is no such page any more; then None comes.

        Raises:
            PlatformError: `http-unreachable`, `http-login-refused`, `http-not-found`, `http-refused`, `http-redirected`.
            DeliveryRefused: `http-malformed`, `http-too-large`.
        """
        attempt = 0
        while True:
            began = time.monotonic()
            status, reason, asked, answer = self._try(url, query, retries.silence)
            if answer is not None:
                return answer
            if status == 404 and missing_ends:
                return None
            if status is not None and status not in _RETRIED:
                raise self._refused(status, url)
            retries.spent += time.monotonic() - began
            wait = asked if asked is not None else min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
            if retries.spent + wait > retries.budget.total_seconds():
                raise self._given_up(url, reason, asked, retries)
            time.sleep(wait)
            retries.spent += wait
            attempt += 1

    def _try(self, url: str, query: dict[str, str], silence: float) -> tuple[int | None, str, float | None, Answer | None]:
        """Status (None: none came), what went wrong in words, the wait that the API asks for in seconds, and the answer if all is well."""
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.auth = self._sign  # also keeps a netrc from being sent instead
        try:
            with self._session.get(url, params=query, timeout=(_CONNECT_SECONDS, silence), stream=True, allow_redirects=False) as response:
                if response.status_code != 200:
                    return response.status_code, f"answers {response.status_code}", _wait_of(response.headers.get("Retry-After")), None
                body = self._body(response, url)
                link = response.links.get("next", {}).get("url")
        except requests.exceptions.SSLError:
            raise PlatformError(
                "http-refused",
                f"{self._place(url)} does not speak TLS with a certificate that is trusted here.",
                "Mend the address in SDP_CONNECTIONS, or name the authority's certificates in REQUESTS_CA_BUNDLE.",
            ) from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, TimeoutError) as error:
            return None, _in_words(error), None, None
        except requests.RequestException as error:
            raise PlatformError(
                "http-refused", f"{self._place(url)} cannot be asked: {type(error).__name__}.", "Mend its address in SDP_CONNECTIONS."
            ) from None
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise DeliveryRefused("http-malformed", f"The answer of {self._place(url)} is no JSON: {error}.", _SEE) from None
        return 200, "", None, Answer(value, body, url, link, self._place(url))

    def _sign(self, request: Any) -> Any:
        request.headers.update(self._headers)
        return request

    def _body(self, response: requests.Response, url: str) -> bytes:
        """The whole body, within bounds of size and time."""
        parts, size, deadline = list[bytes](), 0, time.monotonic() + _PAGE_SECONDS
        for part in response.iter_content(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > _PAGE_BYTES:
                raise DeliveryRefused(
                    "http-too-large",
                    f"A page of {self._place(url)} has more than {_PAGE_BYTES >> 20} MiB.",
                    "Ask for fewer records per page: size and sizeParameter of the contract's paging.",
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)

    def _place(self, url: str) -> str:
        """An address as it may be shown: without query, which may hold a secret."""
        return urlunsplit((*urlsplit(url)[:3], "", ""))

    def _refused(self, status: int, url: str) -> PlatformError:
        place = self._place(url)
        if status in (401, 403):
            remedy = f"Mend the login or token of the connection {self._connection} in SDP_CONNECTIONS."
            return PlatformError("http-login-refused", f"{place} refuses the login ({status}).", remedy)
        if status in (404, 410):
            return PlatformError("http-not-found", f"{place} does not exist ({status}).", "Mend path in the contract's server.")
        if 300 <= status < 400:
            remedy = f"Name the address it leads to as the connection {self._connection} in SDP_CONNECTIONS, or as path."
            return PlatformError("http-redirected", f"{place} leads elsewhere ({status}), where no secret is sent.", remedy)
        return PlatformError(
            "http-refused", f"{place} refuses the request ({status}).", "Mend path, paging or cursorParameter in the contract."
        )

    def _given_up(self, url: str, reason: str, asked: float | None, retries: Retries) -> PlatformError:
        wish = f" and asks to wait {asked:.0f} s" if asked is not None else ""
        return PlatformError(
            "http-unreachable",
            f"{self._place(url)} {reason}{wish}; trying again took {retries.spent:.0f} s of the {retries.budget.total_seconds():.0f} s "
            "that it may.",
            "Run again later, or raise budget in the contract's server.",
        )


_SEE = "See that path and connection name an API that answers in JSON."


def _wait_of(header: str | None) -> float | None:
    """Seconds that `Retry-After` asks for (RFC 9110 10.2.3), None where it asks for none."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _in_words(error: Exception) -> str:
    """What kept an answer from coming, without what the client's text may tell of the address."""
    import requests

    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout | TimeoutError):
        return "does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off in the middle of an answer"
    return "is not reached"
