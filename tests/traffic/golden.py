"""The golden vectors of the pageview definition, and how they are put to the product that has to keep them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import create_empty_tables

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


def vectors(path: Path) -> list[dict[str, str]]:
    """The rows of a file of vectors: a comma parts two values unless a backslash is before it; blanks around a value are no part of it."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    names = [name.strip() for name in header.split(",")]
    parted = [[value.strip().replace("\\,", ",") for value in re.split(r"(?<!\\),", line)] for line in lines if line.strip()]
    return [dict(zip(names, values, strict=False)) for values in parted]


def a_request(**given: Any) -> dict[str, Any]:
    """A request for an article, as one reader sends it, but for what is given."""
    request = {
        "_schema": "/traffic/webrequest/1.0.0", "dt": AT, "ip": "198.51.100.7", "http_status": "200", "uri_host": "en.wikipedia.org",
        "uri_path": "/wiki/Horseshoe_crab", "uri_query": "", "content_type": "text/html; charset=UTF-8", "referer": "-",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "x_analytics": "",
        "geocoded_data": {"country_code": "NL"}, "meta": {"id": "one", "stream": "webrequest.frontend.v1", "domain": "en.wikipedia.org"},
    }  # fmt: skip
    return {**request, **given}


def classified(requests: Iterable[Mapping[str, Any]], product: str = "pageview") -> list[dict[str, Any]]:
    """What a product makes of requests, `request_id` being the number of the request; those that are no pageview are left out."""
    registry = Registry.load(SOURCE_ROOT)
    contract = registry.get("traffic/webrequest")
    text = (contract.path.parent / f"{product}.sql").read_text()
    with duckdb.connect() as con:
        con.execute("set TimeZone = 'UTC'")
        create_empty_tables(con, {contract.identifier: table_definition(contract).schema})
        for number, request in enumerate(requests):
            given = {**request, "meta": {**request["meta"], "id": str(number)}}
            con.execute(f"insert into traffic.webrequest by name select {', '.join(f'${name} as {name}' for name in given)}", given)
        return con.execute(text).to_arrow_table().to_pylist()
