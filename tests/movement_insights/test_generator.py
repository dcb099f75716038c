"""Generated grants: seeded, plausible without published totals, and exactly these where there are some, whatever the seed."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from demo.grants import FIRST_YEAR, LAST_YEAR, PROGRAM, FluxxServer, generate, read_totals


def test_the_same_seed_gives_the_same_grants_of_all_years_and_states() -> None:
    grants = generate(600, seed=1)
    assert grants == generate(600, seed=1) != generate(600, seed=2)
    assert len({grant["base_request_id"] for grant in grants}) == 600
    assert {grant["state"] for grant in grants} == {"submitted", "declined", "withdrawn", "granted", "closed"}
    assert any(grant["blocklisted"] for grant in grants)
    for grant in grants:
        least, most = PROGRAM[grant["program_name"]][2:4]
        awarded = grant["state"] in ("granted", "closed")
        assert awarded == (grant["grant_approved_at"] is not None) == (grant["amount_awarded_usd"] > 0)
        if awarded:
            day = date.fromisoformat(grant["grant_approved_at"])
            assert FIRST_YEAR <= day.year <= LAST_YEAR and grant["fiscal_year"] == day.year + (day.month >= 7)
            assert least <= grant["amount_awarded_usd"] <= most


@pytest.mark.parametrize("seed", range(6))
def test_the_published_year_has_its_totals_and_no_other_grants(realdata: Path, seed: int) -> None:
    totals = read_totals(realdata / "grants")
    grants = [grant for grant in generate(200, seed=seed, totals=totals) if grant["fiscal_year"] == totals.fiscal_year == 2013]
    programs, sides, countries = Counter[tuple[int, str]](), Counter[tuple[int, str]](), Counter[str]()
    for grant in grants:
        month, cents = int(grant["grant_approved_at"][5:7]), round(grant["amount_awarded_usd"] * 100)
        half = 12 if month >= 7 else 6
        programs[half, grant["program_name"]] += cents
        sides[half, grant["global_south"]] += cents
        countries[grant["geo_country_iso3"]] += cents
        assert cents > 0 and grant["state"] == "closed" and not grant["blocklisted"]
    assert {(half.month, name): cents for (half, name), (cents, _) in totals.by_program.items()} == programs
    assert {(half.month, name): cents for (half, name), (cents, _) in totals.by_side.items()}.items() <= sides.items()
    assert totals.by_country.items() <= countries.items() and set(countries) - set(totals.by_country) == {None}
    assert len(grants) == sum(number for _, number in totals.by_program.values())


def test_pages_of_the_server_hold_each_record_once_and_filters_hold() -> None:
    server = FluxxServer(generate(57, seed=3))
    pages = [server.answer({"page": str(page), "per_page": "10"}) for page in range(1, 8)]
    found = [record["id"] for page in pages for record in page["records"].get("grant_request", [])]
    assert sorted(found) == sorted(record["id"] for record in server.records) and pages[0]["total_pages"] == 6
    assert pages[-1]["records"] == {}
    middle = server.records[28]["updated_at"]
    later = server.answer({"per_page": "500", "filter": f'{{"group_type":"and","conditions":[["updated_at","gt","{middle}"]]}}'})
    assert {record["id"] for record in later["records"]["grant_request"]} == {
        record["id"] for record in server.records if record["updated_at"] > middle
    }
    with pytest.raises(ValueError, match="invalid"):
        server.answer({"page": "two"})
