"""Checks that DuckDB cannot run are told by `sdp check`, before a stream meets them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from platform_resources.config import Settings
from platform_resources.contracts.model import Check
from platform_resources.engines.audit import unfit_checks
from platform_resources.errors import PlatformError
from platform_resources.streams.checks import StreamChecks
from tests.streams.ingestion_kit import contract

LOOKAHEAD = Check("lookahead", "invalidValues", "note", ("note",), {"pattern": "(?=a)"}, scope="commit", line=7)
FITTING = Check("fitting", "nullValues", "n", ("n",), scope="commit", line=6)


@pytest.mark.parametrize(
    ("check", "message", "remedy"),
    [
        (LOOKAHEAD, "The check lookahead cannot run: Invalid Input Error: invalid perl operator: (?=.", "Mend its arguments."),
        (
            Check("no_date", "invalidValues", "meta.dt", ("meta.dt",), {"minimum": "soon"}, line=7),
            'The check no_date cannot run: Conversion Error: invalid timestamp field format: "soon", expected format is '
            "(YYYY-MM-DD HH:MM:SS[.US][±HH[:MM[:SS]]| ZONE]).",
            "Mend its arguments.",
        ),
        (
            Check("typo", "sql", query="select count(*) from {object} where nn > 1", line=7),
            'The check typo cannot run: Binder Error: Referenced column "nn" not found in FROM clause!.',
            "Mend its query; it reads {object} alone.",
        ),
        (
            Check("elsewhere", "sql", query="select count(*) from {object}, shop.orders", line=7),
            'The check elsewhere cannot run: Catalog Error: Table with name "shop.orders" does not exist because '
            'schema "shop" does not exist.',
            "Mend its query; it reads {object} alone.",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else "",
)
def test_a_check_that_cannot_run_is_told_with_its_line(check: Check, message: str, remedy: str) -> None:
    (problem,) = unfit_checks(contract(checks=(FITTING, check)))
    assert (problem.code, problem.line, problem.file) == ("contract-check-unfit", 7, "data_products/test/clicks.yaml")
    assert (problem.message, problem.remedy) == (message, remedy)


def test_a_query_that_gives_no_value_without_rows_is_no_fault() -> None:
    checks = (Check("newest", "sql", query="select max(n) from {object}"), Check("own", "sql", query="select max(_offset) from {object}"))
    assert unfit_checks(contract(checks=(FITTING, *checks))) == []


def test_a_stream_with_a_check_that_cannot_run_stops_with_its_name(settings: Settings) -> None:
    rows = pa.table({"n": [1], "note": ["fine"]})
    checks = StreamChecks(replace(contract(checks=(FITTING, LOOKAHEAD)), path=Path("clicks.yaml")), settings)
    with pytest.raises(PlatformError) as told:
        checks.rows(rows)
    checks.close()
    assert (told.value.code, told.value.file, told.value.line) == ("check-unfit", "clicks.yaml", 7)
    assert told.value.message == "The check lookahead of test/clicks cannot run: Invalid Input Error: invalid perl operator: (?=."
    assert told.value.remedy == "Mend it in the contract, or go on without it: sdp ingest test/clicks --skip-check lookahead."
