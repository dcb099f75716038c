"""A seeded generator of requests to the edge, `webrequest.frontend.v1`, that knows which of them are pageviews.

Here live the simulated readers, spiders and scrapers, and what they ask for: of nine requests one is for a page, the others are the
images, styles, scripts and API calls that come with it. Nothing here knows the platform: requests leave as JSON lines of the schema
traffic/webrequest 1.0.0, truth as plain values.

Run as a program it writes a sample: `python -m demo.webrequests --requests 10000 --output requests.ndjson`.
"""

from __future__ import annotations

import argparse
import random
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

SCHEMA = "/traffic/webrequest/1.0.0"
STREAM = "webrequest.frontend.v1"
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
PAGES = 20_000
READS, READERS = 12, 200_000  # requests a reader makes on average, whatever for, while the readers are not more than that
BURST = 45  # pageviews a scraper makes at once, within twenty seconds
REDELIVERED = 0.005

# host of the desktop site, project, whether it has a mobile site, share of all reading
WIKIS: tuple[tuple[str, str, bool, float], ...] = (
    ("en.wikipedia.org", "en.wikipedia", True, 0.46),
    ("de.wikipedia.org", "de.wikipedia", True, 0.12),
    ("ja.wikipedia.org", "ja.wikipedia", True, 0.12),
    ("fr.wikipedia.org", "fr.wikipedia", True, 0.10),
    ("zh.wikipedia.org", "zh.wikipedia", True, 0.08),
    ("en.wiktionary.org", "en.wiktionary", True, 0.05),
    ("commons.wikimedia.org", "commons.wikimedia", True, 0.04),
    ("www.wikidata.org", "wikidata", False, 0.03),
)
COUNTRIES = ("US", "DE", "JP", "IN", "GB", "FR", "BR", "CN", "RU", "NG", "--")
LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.5", "ja", "fr-FR,fr;q=0.8", "zh-CN,zh;q=0.9")
REFERERS = (
    "-",
    "-",
    "https://www.google.com/",
    "https://en.wikipedia.org/wiki/Main_Page",
    "https://t.co/a1",
    "https://chatgpt.com/",
    "https://blog.example.org/post",
)
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0"
PHONE = "Mozilla/5.0 (Linux; Android 15; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Mobile Safari/537.36"
APP = "WikipediaApp/7.8.0.{v} (iOS 18.5; Phone)"
SPIDERS = ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "python-requests/2.32.3", "-")
# host and path of what is no page, content type, share
ASSETS: tuple[tuple[str, str, str, float], ...] = (
    ("upload.wikimedia.org", "/wikipedia/commons/thumb/a/a1/Picture_{}.jpg/330px-Picture_{}.jpg", "image/jpeg", 0.55),
    ("{}", "/w/load.php", "text/javascript; charset=utf-8", 0.25),
    ("{}", "/w/api.php", "application/json; charset=utf-8", 0.12),
    ("{}", "/static/favicon/wikipedia.ico", "image/vnd.microsoft.icon", 0.08),
)
WORDS = ("River", "Castle", "Moon", "Music", "Theorem", "Straße", "東京", "Élan", "Beetle", "Battle_of", "List_of", "C++")


@dataclass(frozen=True)
class View:
    """What a pageview counts for in `traffic.pageview_hourly`."""

    hour: datetime
    project: str
    page_title: str
    access_method: str
    agent_type: str


@dataclass(frozen=True)
class _Reader:
    """Somebody or something that reads: what all its requests have alike."""

    fields: dict[str, Any]
    access: str
    agent: str


class _World:
    def __init__(self, count: int, seed: int, hours: int) -> None:
        self.chance = random.Random(seed)
        self.count, self.hours = count, hours
        self.readers = [self._reader(number) for number in range(min(max(count // READS, 5), READERS))]
        self.scrapers = [self._scraper(number) for number in range(max(len(self.readers) // 500, 1))]
        self.pages = [f"{WORDS[number % len(WORDS)]}_{number}" for number in range(PAGES)]
        self.sequence = 0

    def _reader(self, number: int) -> _Reader:
        kind = self.chance.random()
        access, agent, user_agent = (
            ("desktop", "user", DESKTOP) if kind < 0.38
            else ("mobile web", "user", PHONE) if kind < 0.82
            else ("mobile app", "user", APP) if kind < 0.88
            else ("desktop", "spider", SPIDERS[number % len(SPIDERS)])
        )  # fmt: skip
        return _Reader(self._fields(number, user_agent.format(v=120 + number % 30)), access, agent)

    def _scraper(self, number: int) -> _Reader:
        """A program in a browser's clothes; only the way it reads gives it away."""
        return _Reader(self._fields(1 << 23 | number, DESKTOP.format(v=115)), "desktop", "automated")

    def _fields(self, number: int, user_agent: str) -> dict[str, Any]:
        return {
            "ip": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            "user_agent": user_agent,
            "accept_language": self.chance.choice(LANGUAGES),
            "geocoded_data": {"country_code": self.chance.choice(COUNTRIES)},
        }

    def requests(self) -> Iterator[tuple[dict[str, Any], View | None]]:
        """Every request in the order of its time, with what it counts for."""
        step = timedelta(hours=self.hours) / self.count
        shares = [wiki[3] for wiki in WIKIS]
        assets = [asset[3] for asset in ASSETS]
        made = 0
        while made < self.count:
            at = START + made * step
            if self.chance.random() < 1 / 2_000 and self.count - made > BURST:
                scraper = self.chance.choice(self.scrapers)
                wiki = self.chance.choices(WIKIS, shares)[0]
                # Twenty seconds: within one hour, or some of it would stand in the next, below the rule.
                begin = at.replace(minute=min(at.minute, 58))
                for number in range(BURST):
                    yield self._page(scraper, wiki, begin + timedelta(seconds=number * 20 / BURST))
                made += BURST
                continue
            reader = self.readers[int(self.chance.random() * len(self.readers))]
            wiki = self.chance.choices(WIKIS, shares)[0]
            yield self._page(reader, wiki, at) if self.chance.random() < 0.11 else self._asset(reader, wiki, at, assets)
            made += 1

    def _page(self, reader: _Reader, wiki: tuple[str, str, bool, float], at: datetime) -> tuple[dict[str, Any], View | None]:
        host, project, has_mobile, _ = wiki
        number = min(int(self.chance.paretovariate(0.7)) - 1, PAGES - 1)
        title, access = self.pages[number], reader.access
        status = "404" if self.chance.random() < 0.03 else "200"
        analytics, path, content_type = (
            f"ns=0;page_id={number + 1};WMF-Last-Access=05-Jan-2026",
            f"/wiki/{quote(title)}",
            "text/html; charset=UTF-8",
        )
        if access == "mobile app":
            path, content_type, analytics = f"/api/rest_v1/page/mobile-html/{quote(title)}", "text/html", f"{analytics};pageview=1"
        elif access == "mobile web" and has_mobile:
            first, _, rest = host.partition(".")
            host = f"{first}.m.{rest}"
        else:
            access = "desktop"
        request = self._request(reader, at, host, path, "", content_type, status, self.chance.choice(REFERERS), analytics)
        hour = at.replace(minute=0, second=0, microsecond=0)
        return request, View(hour, project, title, access, reader.agent) if status == "200" else None

    def _asset(
        self, reader: _Reader, wiki: tuple[str, str, bool, float], at: datetime, shares: list[float]
    ) -> tuple[dict[str, Any], View | None]:
        host, path, content_type, _ = self.chance.choices(ASSETS, shares)[0]
        number = self.sequence % 997
        query = "?action=query&prop=info&titles=Moon" if "api" in path else ""
        return self._request(
            reader, at, host.format(wiki[0]), path.format(number, number), query, content_type, "200", f"https://{wiki[0]}/", "-"
        ), None  # fmt: skip

    def _request(
        self, reader: _Reader, at: datetime, host: str, path: str, query: str, content_type: str, status: str, referer: str, analytics: str
    ) -> dict[str, Any]:
        self.sequence += 1
        told = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "$schema": SCHEMA,
            "meta": {"stream": STREAM, "id": str(uuid.UUID(int=self.chance.getrandbits(128), version=4)), "dt": told, "domain": host},
            "hostname": f"cp30{self.sequence % 16 + 50}.esams.wmnet", "sequence": self.sequence, "dt": told, "time_firstbyte": 0.0002,
            "cache_status": "hit-front", "http_status": status, "response_size": 1_000 + self.sequence % 40_000, "http_method": "GET",
            "uri_host": host, "uri_path": path, "uri_query": query, "content_type": content_type, "referer": referer,
            "x_forwarded_for": "-", "x_analytics": analytics, **reader.fields,
        }  # fmt: skip


def generate(count: int, seed: int = 20260105, hours: int = 1) -> Iterator[tuple[bytes, View | None]]:
    """`count` requests over `hours` from START as JSON lines, each with what it counts for; then some once more, which count for nothing.

    The same arguments give the same requests.
    """
    world = _World(count, seed, hours)
    again: list[bytes] = []
    for request, view in world.requests():
        line = orjson.dumps(request)
        if world.chance.random() < REDELIVERED and len(again) < 1_000:
            again.append(line)
        yield line, view
    yield from ((line, None) for line in again)


def main() -> None:
    """Write a sample."""
    parser = argparse.ArgumentParser(description="Generated requests to the edge, one JSON object a line.")
    parser.add_argument("--requests", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--hours", type=int, default=1, help="over how many hours (default 1)")
    parser.add_argument("--seed", type=int, default=20260105, help="the same seed gives the same requests")
    parser.add_argument("--output", type=Path, help="file to write (default: standard output)")
    chosen = parser.parse_args()
    out = chosen.output.open("wb") if chosen.output else sys.stdout.buffer
    with out:
        out.writelines(line + b"\n" for line, _ in generate(chosen.requests, chosen.seed, chosen.hours))


if __name__ == "__main__":
    main()
