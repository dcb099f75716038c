"""The pageview definition against its golden vectors: every row of every file, and what the vectors do not say."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_products.traffic.pageview_agent import PARTS, pageview_agent
from tests.traffic.golden import AT, a_request, classified, vectors


def test_every_golden_request_is_judged_and_named_right(realdata: Path) -> None:
    rows = vectors(realdata / "webrequest_pageview" / "pageview_test_data.csv")
    assert len(rows) >= 89
    requests = [
        a_request(
            ip=row["ip_address"], x_forwarded_for=row["x_forwarded_for"], uri_host=row["uri_host"], uri_path=row["uri_path"],
            uri_query=row["uri_query"], http_status=row["http_status"], content_type=row["content_type"], user_agent=row["user_agent"],
            x_analytics=row.get("x_analytics_header", ""),
        )
        for row in rows
    ]  # fmt: skip
    found = {int(view["request_id"]): view for view in classified(requests)}
    wrong = [
        (row["test_description"], row["is_pageview"], found.get(number))
        for number, row in enumerate(rows)
        if (row["is_pageview"] == "true") != (number in found)
    ]
    assert wrong == []
    told = {
        rows[number]["test_description"] + str(number): (view["project"], view["language_variant"], view["page_title"])
        for number, view in found.items()
    }
    assert told == {
        rows[number]["test_description"] + str(number): (rows[number]["project"], rows[number]["dialect"], rows[number]["page_title"])
        for number in found
    }


def test_every_golden_referer_is_classed_and_named_right(realdata: Path) -> None:
    rows = vectors(realdata / "webrequest_pageview" / "referer_test_data.csv")
    assert len(rows) >= 138
    found = {int(view["request_id"]): view for view in classified(a_request(referer=row["referer"]) for row in rows)}
    told = [(rows[number]["referer"], found[number]["referer_class"], found[number]["referer_name"] or "none") for number in sorted(found)]
    assert told == [(row["referer"], row["referer_class"], row["referer_name"]) for row in rows]


def test_every_golden_user_agent_is_told_apart_right(realdata: Path) -> None:
    rows = vectors(realdata / "webrequest_pageview" / "ua_most_popular_test_data.csv")
    assert len(rows) == 100
    columns = ("project", "access_method", "agent_type", "dt")
    views = [
        dict.fromkeys(columns, "-") | {"request_id": str(number), "user_agent": next(iter(row.values()))} for number, row in enumerate(rows)
    ]
    found = {int(view["request_id"]): view for view in pageview_agent(pl.LazyFrame(views)).collect().to_dicts()}
    assert [{name: found[number][name] for name in list(PARTS)[1:]} for number in range(len(rows))] == [
        json.loads(list(row.values())[1]) for row in rows
    ]


def test_every_golden_request_to_the_query_service_is_counted_under_its_interface(realdata: Path) -> None:
    rows = vectors(realdata / "webrequest_pageview" / "wdqs_test_data.csv")
    assert len(rows) == 8
    columns = ("uri_host", "uri_path", "uri_query", "http_status", "content_type")
    requests = [a_request(dt=AT + timedelta(hours=number), **{name: row[name] for name in columns}) for number, row in enumerate(rows)]
    found = {row["hour"]: (row["interface"], row["request_count"]) for row in classified(requests, "query_service_hourly")}
    assert found == {
        AT + timedelta(hours=number): (row.get("extra_tag") or "other", 1) for number, row in enumerate(rows) if row["is_wdqs"] == "true"
    }


def test_a_known_robot_is_a_spider_also_by_its_own_word(realdata: Path) -> None:
    rows = vectors(realdata / "webrequest_pageview" / "ua_most_popular_test_data.csv")
    found = {
        int(view["request_id"]): view["agent_type"] for view in classified(a_request(user_agent=next(iter(row.values()))) for row in rows)
    }
    robots = {number for number, row in enumerate(rows) if json.loads(list(row.values())[1])["device_family"] == "Spider"}
    assert len(robots & found.keys()) == len(robots) == 6
    assert {found[number] for number in robots & found.keys()} == {"spider"}
    assert sum(kind == "user" for kind in found.values()) > 50


API = "/api/rest_v1/page/mobile-html/"


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"uri_path": "/wiki/%FF%FE"}, "-"),  # bytes that are no text: a view all the same
        ({"uri_path": "/wiki/100%"}, "100%"),
        ({"uri_path": "/wiki//Moon?x=1"}, "Moon"),
        ({"uri_path": "/w/index.php", "uri_query": "?curid=5&title=A%2BB"}, "A+B"),
        ({"uri_path": "/w/index.php", "uri_query": "?title=&title=Moon&title=Sun"}, "Moon"),
        ({"uri_path": "/w/index.php", "uri_query": "?title=Moon&title=Sun"}, "Moon"),
        ({"uri_path": "/w/index.php/Moon", "uri_query": ""}, "Moon"),
        ({"uri_path": "/wiki/Foo#Bar"}, "Foo"),
        ({"uri_path": "/wiki/a/b"}, "a/b"),
        ({"uri_path": "/wiki/Moon", "uri_query": "?page=Sun"}, "Moon"),
        ({"uri_path": "/zh-hant/Moon", "uri_query": "?page=Sun&page=Mars"}, "Sun"),
        ({"uri_path": "/zh-hant/wiki/Moon"}, "Moon"),
        ({"uri_path": "/view/en/"}, "-"),
        ({"uri_path": f"{API}index.php", "user_agent": "WikipediaApp/7.8.0", "x_analytics": "pageview=1"}, "index.php"),
        ({"uri_path": "//wiki/Moon", "uri_query": "?oldid=1"}, "Moon"),
        ({"uri_path": "https://en.wikipedia.org/wiki/Moon", "uri_query": "?oldid=1"}, "Moon"),
    ],
)
def test_titles_that_the_vectors_do_not_have(given: dict[str, Any], title: str) -> None:
    [view] = classified([a_request(**given)])
    assert view["page_title"] == title


@pytest.mark.parametrize(
    "given",
    [
        {"uri_host": None}, {"uri_path": None}, {"content_type": None}, {"http_status": None}, {"uri_host": ""}, {"uri_host": "."},
        {"uri_host": "wikipedia.org.evil.example"}, {"x_analytics": "preview=1"}, {"http_status": "301"}, {"content_type": "text/htmlx"},
        {"x_analytics": "debug=0"}, {"x_analytics": "debug=0;debug=1"}, {"x_analytics": "special=Search;special=Watchlist"},
        {"content_type": "TEXT/HTML"}, {"uri_path": "//wiki/Moon"}, {"uri_path": "https://en.wikipedia.org/wiki/Moon"},
        {"user_agent": "WikipediaApp/7.8.0", "x_analytics": "pageview=1;pageview=0"},
    ],
)  # fmt: skip
def test_what_is_missing_or_pretends_is_no_pageview(given: dict[str, Any]) -> None:
    assert classified([a_request(**given)]) == []


def test_an_app_of_old_that_cannot_say_so_is_judged_as_the_web_and_counted_as_app() -> None:
    old = a_request(user_agent="Wikipedia/5.0.1 (iPhone OS 9.1; Phone)")
    [view] = classified([old, {**old, "content_type": "application/json", "x_analytics": "pageview=1"}])
    assert (view["request_id"], view["access_method"]) == ("0", "mobile app")


@pytest.mark.parametrize(
    "user_agent", ["com.eusoft.ting 1.0", "iNaturalist/1.4", "Peggo", "tools.wmflabs.org tool", "Microsoft Monitoring", ""]
)
def test_programs_that_the_vectors_do_not_have_are_spiders(user_agent: str) -> None:
    [view] = classified([a_request(user_agent=user_agent)])
    assert view["agent_type"] == "spider"


@pytest.mark.parametrize("name", ["referer", "user_agent", "x_analytics", "uri_query", "ip", "geocoded_data"])
def test_a_pageview_needs_none_of_what_a_client_may_leave_out(name: str) -> None:
    [view] = classified([a_request(**{name: None})])
    assert (view["project"], view["page_title"]) == ("en.wikipedia", "Horseshoe_crab")
    assert (view["agent_type"] == "spider") == (name == "user_agent")


@pytest.mark.parametrize(
    ("host", "project", "access"),
    [
        ("en.m.wikipedia.org", "en.wikipedia", "mobile web"), ("en.zero.wikipedia.org", "en.wikipedia", "mobile web"),
        ("m.wikidata.org", "wikidata", "mobile web"), ("www.mediawiki.org", "mediawiki", "desktop"),
        ("commons.m.wikimedia.org", "commons.wikimedia", "mobile web"), ("simple.wikipedia.org", "simple.wikipedia", "desktop"),
        ("a.b.c.d.wikipedia.org", "-", "desktop"),
        ("EN.Wikipedia.ORG", "en.wikipedia", "desktop"), ("zh-min-nan.wikipedia.org", "zh-min-nan.wikipedia", "desktop"),
    ],
)  # fmt: skip
def test_hosts_name_their_project_and_the_way_it_is_read(host: str, project: str, access: str) -> None:
    [view] = classified([a_request(uri_host=host)])
    assert (view["project"], view["access_method"]) == (project, access)
