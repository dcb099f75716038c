"""The pageview definition against its golden vectors: every row of every file, and what the vectors do not say."""

from __future__ import annotations

from pathlib import Path

from tests.traffic.golden import a_request, classified, vectors


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
