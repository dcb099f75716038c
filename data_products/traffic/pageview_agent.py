"""The browser, system and device of each pageview, by its user agent.

Python rather than SQL because user agents are told apart by some thousand rules that a community keeps, ua-parser/uap-core, and a
library reads. Its plain implementation is chosen by name: the compiled one, taken when it is installed, judges some agents otherwise.
"""

from __future__ import annotations

import re
from functools import cache

import polars as pl
from ua_parser import BasicResolver, Cache, CachingResolver, Parser, load_builtins

from platform_resources import data_product

APP = re.compile(r"WikipediaApp/([0-9.]+\d)")
PARTS = {
    "user_agent": pl.String,
    "browser_family": pl.String,
    "browser_major": pl.String,
    "os_family": pl.String,
    "os_major": pl.String,
    "os_minor": pl.String,
    "device_family": pl.String,
    "wmf_app_version": pl.String,
}
KEPT = ["request_id", "dt", "project", "access_method", "agent_type"]


@data_product(inputs={"pageview": "traffic/pageview"})
def pageview_agent(pageview: pl.LazyFrame) -> pl.LazyFrame:
    """One row per pageview; each user agent is parsed once, however many views it has."""
    agents = pageview.select(pl.col("user_agent").unique()).collect()["user_agent"].to_list()
    parsed = pl.LazyFrame([parts_of(agent) for agent in agents], schema=PARTS, orient="row")
    return pageview.join(parsed, on="user_agent", how="left", nulls_equal=True).select(*KEPT, *list(PARTS)[1:])


def parts_of(user_agent: str | None) -> tuple[str | None, ...]:
    """What a user agent says: itself, then the other columns of `PARTS`; Other for a family and - for a number that it does not tell."""
    told = _parser().parse(user_agent or "-")
    browser, system, device = told.user_agent, told.os, told.device
    app = APP.search(user_agent or "")
    return (
        user_agent,
        browser.family if browser else "Other",
        (browser.major if browser else None) or "-",
        system.family if system else "Other",
        (system.major if system else None) or "-",
        (system.minor if system else None) or "-",
        device.family if device else "Other",
        app[1] if app else "-",
    )


@cache
def _parser() -> Parser:
    return Parser(CachingResolver(BasicResolver(load_builtins()), Cache(20_000)))
