"""A seeded generator of grants as Fluxx, the grants database, has them, and a local server that gives them as its REST API v2 does.

Here live the simulated grantees, the programmes and what they award. Where published totals are given (`read_totals`), the grants of
that fiscal year have exactly these totals by programme, side of the world and country, in dollars and in number. Nothing here knows
the platform: records leave as JSON, dimensions as the files that others publish.

Run as a program it writes the dimensions and serves: `python -m demo.grants --grants 500 --folder drop --port 8123 --token demo`.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

FIRST_YEAR, LAST_YEAR = 2010, 2025
PATH = "/api/rest/v2/grant_request"
AFFILIATES = ("Chapter", "Thematic Organization", "User Group")
ATTEMPTS = 20_000

# alpha-3 and alpha-2 code, name as Fluxx has it, side of the world, region of the committee, thousands of people, int$ a head, currency
COUNTRIES: tuple[tuple[str, str, str, str, str, int, int, str], ...] = (
    ("ARG", "AR", "Argentina", "South", "Latin America & Caribbean", 45_000, 22_000, "ARS"),
    ("AUS", "AU", "Australia", "North", "East, Southeast Asia, & Pacific", 25_000, 49_000, "AUD"),
    ("AUT", "AT", "Austria", "North", "Northern & Western Europe", 8_900, 54_000, "EUR"),
    ("BGD", "BD", "Bangladesh", "South", "South Asia", 167_000, 5_600, "BDT"),
    ("BEL", "BE", "Belgium", "North", "Northern & Western Europe", 11_500, 51_000, "EUR"),
    ("BRA", "BR", "Brazil", "South", "Latin America & Caribbean", 213_000, 14_600, "BRL"),
    ("CAN", "CA", "Canada", "North", "North America", 38_000, 46_000, "CAD"),
    ("CHN", "CN", "China", "South", "East, Southeast Asia, & Pacific", 1_410_000, 16_300, "CNY"),
    ("EGY", "EG", "Egypt", "South", "Middle East & Africa", 107_000, 12_200, "EGP"),
    ("FRA", "FR", "France", "North", "Northern & Western Europe", 67_500, 43_000, "EUR"),
    ("DEU", "DE", "Germany", "North", "Northern & Western Europe", 83_000, 52_000, "EUR"),
    ("GHA", "GH", "Ghana", "South", "Middle East & Africa", 32_000, 5_300, "GHS"),
    ("HUN", "HU", "Hungary", "North", "Central & Eastern Europe & Central Asia", 9_700, 32_000, "HUF"),
    ("IND", "IN", "India", "South", "South Asia", 1_396_000, 6_200, "INR"),
    ("ISR", "IL", "Israel", "North", "Northern & Western Europe", 9_200, 39_000, "ILS"),
    ("ITA", "IT", "Italy", "North", "Northern & Western Europe", 59_000, 39_000, "EUR"),
    ("KEN", "KE", "Kenya", "South", "Middle East & Africa", 52_000, 4_400, "KES"),
    ("KOR", "KR", "Korea, Republic of", "North", "East, Southeast Asia, & Pacific", 51_800, 42_000, "KRW"),
    ("MEX", "MX", "Mexico", "South", "Latin America & Caribbean", 126_000, 18_000, "MXN"),
    ("MAR", "MA", "Morocco", "South", "Middle East & Africa", 36_700, 7_300, "MAD"),
    ("NLD", "NL", "Netherlands", "North", "Northern & Western Europe", 17_400, 54_000, "EUR"),
    ("NOR", "NO", "Norway", "North", "Northern & Western Europe", 5_400, 63_000, "NOK"),
    ("PHL", "PH", "Philippines", "South", "East, Southeast Asia, & Pacific", 112_000, 7_900, "PHP"),
    ("SRB", "RS", "Serbia", "North", "Central & Eastern Europe & Central Asia", 6_900, 18_000, "RSD"),
    ("SVK", "SK", "Slovakia", "North", "Central & Eastern Europe & Central Asia", 5_450, 30_000, "EUR"),
    ("ZAF", "ZA", "South Africa", "South", "Middle East & Africa", 59_000, 13_000, "ZAR"),
    ("ESP", "ES", "Spain", "North", "Northern & Western Europe", 47_000, 36_000, "EUR"),
    ("SWE", "SE", "Sweden", "North", "Northern & Western Europe", 10_350, 51_000, "SEK"),
    ("CHE", "CH", "Switzerland", "North", "Northern & Western Europe", 8_640, 69_000, "CHF"),
    ("GBR", "GB", "United Kingdom", "North", "Northern & Western Europe", 67_000, 43_000, "GBP"),
    ("USA", "US", "United States", "North", "North America", 331_000, 60_000, "USD"),
    ("VEN", "VE", "Venezuela, Bolivarian Republic of", "South", "Latin America & Caribbean", 28_400, 7_000, "USD"),
    ("NGA", "NG", "Nigeria", "South", "Middle East & Africa", 208_000, 4_900, "NGN"),
    ("IDN", "ID", "Indonesia", "South", "East, Southeast Asia, & Pacific", 272_000, 11_400, "IDR"),
    ("NAM", "NA", "Namibia", "South", "Middle East & Africa", 2_500, 8_900, "NAD"),
)  # fmt: skip
PROTECTED = {"BGD", "CHN", "EGY", "VEN"}
BY_CODE = {country[0]: country for country in COUNTRIES}
UNITS_PER_USD = {
    "ARS": 95, "AUD": 1.35, "BDT": 85, "BRL": 5.2, "CAD": 1.27, "CHF": 0.92, "CNY": 6.5, "EGP": 15.7, "EUR": 0.85, "GBP": 0.74, "GHS": 5.8,
    "HUF": 303, "IDR": 14_300, "ILS": 3.3, "INR": 74, "KES": 108, "KRW": 1_140, "MAD": 9, "MXN": 20.3, "NAD": 14.8, "NGN": 400, "NOK": 8.6,
    "PHP": 49, "RSD": 100, "SEK": 8.6, "USD": 1, "ZAR": 14.8,
}  # fmt: skip

# programme, mark in the number of its requests, least and most dollars, who gets it, share of all grants
PROGRAMS: tuple[tuple[str, str, int, int, tuple[str, ...], float], ...] = (
    ("FDC", "APG", 40_000, 1_500_000, ("Chapter", "Thematic Organization"), 0.08),
    ("Fellowships", "WF", 4_000, 30_000, ("Individual",), 0.05),
    ("Grants Program", "PEG", 500, 60_000, ("User Group", "Chapter", "Other Organization", "Individual"), 0.37),
    ("IEG", "IEG", 1_000, 30_000, ("Individual",), 0.15),
    ("PSP", "TPS", 100, 3_000, ("Individual",), 0.35),
    ("Wikimania Scholarships", "WS", 100_000, 200_000, ("Other Organization",), 0.0),
)
PROGRAM = {program[0]: program for program in PROGRAMS}
# database code, domain, group, language code, language
WIKIS: tuple[tuple[str, str, str, str, str], ...] = (
    ("enwiki", "en.wikipedia.org", "wikipedia", "en", "English"),
    ("dewiki", "de.wikipedia.org", "wikipedia", "de", "German"),
    ("eswiki", "es.wikipedia.org", "wikipedia", "es", "Spanish"),
    ("frwiki", "fr.wikipedia.org", "wikipedia", "fr", "French"),
    ("jawiki", "ja.wikipedia.org", "wikipedia", "ja", "Japanese"),
    ("zhwiki", "zh.wikipedia.org", "wikipedia", "zh", "Chinese"),
    ("swwiki", "sw.wikipedia.org", "wikipedia", "sw", "Swahili"),
    ("enwiktionary", "en.wiktionary.org", "wiktionary", "en", "English"),
    ("commonswiki", "commons.wikimedia.org", "commons", "en", "English"),
    ("wikidatawiki", "www.wikidata.org", "wikidata", "en", "English"),
)
FIRST_NAMES = ("Ada", "Bao", "Chidi", "Dana", "Eero", "Fatou", "Goran", "Hana", "Itzel", "Jamal", "Kirsi", "Lena")
LAST_NAMES = ("Abara", "Becker", "Costa", "Dlamini", "Eriksen", "Fekete", "Gupta", "Hassan", "Ito", "Jensen")


class Award(NamedTuple):
    """What makes a grant count: half of a fiscal year by its last month, programme, side as typed, alpha-3 code, cents of a US dollar."""

    half: date
    program: str
    side: str | None
    country: str | None
    cents: int


# --- published totals, and grants that have them


@dataclass(frozen=True)
class Totals:
    """Published totals of one fiscal year: cents and grants by half and programme, by half and side, cents by country."""

    by_program: dict[tuple[date, str], tuple[int, int]]
    by_side: dict[tuple[date, str], tuple[int, int]]
    by_country: dict[str, int]
    names: dict[str, str]

    @property
    def fiscal_year(self) -> int:
        """The year in which it ends."""
        return max(half.year for half, _ in self.by_program)


def read_totals(folder: Path) -> Totals:
    """The totals in `grants_{spending,count}_by_{program,global_south}.csv` and `grants_spending_by_country.csv`, as once published."""

    def table(name: str) -> dict[tuple[date, str], Decimal]:
        with (folder / f"grants_{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            (datetime.strptime(row["date"], "%Y/%m/%d").date(), column): Decimal(value)
            for row in rows
            for column, value in row.items()
            if column != "date" and value
        }

    def both(what: str) -> dict[tuple[date, str], tuple[int, int]]:
        counts = table(f"count_by_{what}")
        return {key: (int(dollars * 100), int(counts[key])) for key, dollars in table(f"spending_by_{what}").items()}

    with (folder / "grants_spending_by_country.csv").open(encoding="utf-8", newline="") as file:
        countries = list(csv.DictReader(file))
    code = "ISO-3166 Alpha-3"
    return Totals(
        both("program"),
        both("global_south"),
        {row[code]: int(Decimal(row["Amount Funded"]) * 100) for row in countries},
        {row[code]: row["Location"] for row in countries},
    )


def constrained(totals: Totals, chance: random.Random) -> list[Award]:
    """Awards that have these totals, each of them exactly.

    Dollars are laid on a line and cut by one total after the other, which always fits; whether the pieces are few enough for the
    published numbers of grants is tried, with the countries in another order each time.

    Raises:
        ValueError: no such set was found.
    """
    for _ in range(ATTEMPTS):
        pieces = _pieces(totals, chance)
        numbers = _numbers(pieces, totals)
        if numbers is not None:
            return [
                piece._replace(cents=cents) for piece, parts in zip(pieces, numbers, strict=True) for cents in _split(piece, parts, chance)
            ]
    raise ValueError("no grants were found that have these totals")


def _overlay(rows: Iterable[tuple[Any, int]], columns: Iterable[tuple[Any, int]]) -> Iterator[tuple[Any, Any, int]]:
    """Two partitions of one line laid over each other: row, column and length of each piece."""
    left, right = [(key, size) for key, size in rows if size], [(key, size) for key, size in columns if size]
    while left and right:
        (row, length), (column, other) = left[0], right[0]
        size = min(length, other)
        yield row, column, size
        left[0], right[0] = (row, length - size), (column, other - size)
        left, right = left[not left[0][1] :], right[not right[0][1] :]


def _sides(totals: Totals) -> dict[tuple[date, str | None], tuple[int, int]]:
    """By half and side, with what the programmes awarded beyond: grants for which nobody typed a side."""
    found: dict[tuple[date, str | None], tuple[int, int]] = {(half, side): pair for (half, side), pair in totals.by_side.items()}
    for half in {half for half, _ in totals.by_program}:
        parts = [[pair for (day, _), pair in table.items() if day == half] for table in (totals.by_program, totals.by_side)]
        cents, grants = (sum(pair[which] for pair in parts[0]) - sum(pair[which] for pair in parts[1]) for which in (0, 1))
        if grants:
            found[half, None] = (cents, grants)
    return found


def _pieces(totals: Totals, chance: random.Random) -> list[Award]:
    """Dollars by half, programme, side and country: sides laid over countries, then in each half programmes over both.

    What nobody typed a side for goes first, to the greatest countries; the south to the south.
    """
    sides = _sides(totals)
    rest = sum(cents for cents, _ in sides.values()) - sum(totals.by_country.values())
    countries: dict[str | None, int] = {None: rest}
    countries.update(totals.by_country)
    south = [code for code in totals.by_country if code in BY_CODE and BY_CODE[code][3] == "South"]
    typed_otherwise = sum(countries[code] for code in south) - sum(cents for (_, side), (cents, _) in sides.items() if side == "South")
    north = sorted(set(countries) - set(south), key=lambda code: (code is not None, -countries[code], code or ""))
    order = [*north[:2], *chance.sample(north[2:], len(north) - 2)]
    order += sorted(chance.sample(sorted(south), len(south)), key=lambda code: countries[code] != typed_otherwise)
    cells = sorted(sides, key=lambda cell: (cell[1] is not None, cell[1] == "South", sides[cell][1], cell[0]))
    placed = list(_overlay(((cell, sides[cell][0]) for cell in cells), ((code, countries[code]) for code in order)))
    pieces: list[Award] = []
    for half in sorted({half for half, _ in totals.by_program}):
        budgets = {program: pair for (day, program), pair in totals.by_program.items() if day == half}
        here = [(cell[1], code, cents) for cell, code, cents in placed if cell[0] == half]
        for program, (budget, _) in sorted(budgets.items()):
            if exact := next((one for one in here if one[1] is None and one[2] == budget), None):
                here.remove(exact)
                budgets.pop(program)
                pieces.append(Award(half, program, exact[0], exact[1], budget))
        here.sort(key=lambda one: -one[2] * chance.uniform(0.5, 2))
        programs = sorted(budgets, key=lambda name: -budgets[name][0] / budgets[name][1])
        laid = _overlay(((program, budgets[program][0]) for program in programs), (((side, code), cents) for side, code, cents in here))
        pieces += [Award(half, program, side, code, cents) for program, (side, code), cents in laid]
    return pieces


def _numbers(pieces: Sequence[Award], totals: Totals) -> list[int] | None:
    """Into how many grants each piece is to be split, so that programmes and sides have their numbers; None where it cannot be."""
    programs = {key: grants for key, (_, grants) in totals.by_program.items()}
    sides = {key: grants for key, (_, grants) in _sides(totals).items()}
    for piece in pieces:
        programs[piece.half, piece.program] -= 1
        sides[piece.half, piece.side] -= 1
    if min(programs.values()) < 0 or min(sides.values()) < 0:
        return None
    numbers = [1] * len(pieces)
    ways = Counter((piece.half, piece.program) for piece in pieces)
    for key in sorted(programs, key=lambda key: ways[key]):
        for _ in range(programs[key]):
            open_ = [
                index
                for index, piece in enumerate(pieces)
                if (piece.half, piece.program) == key and sides[piece.half, piece.side] and piece.cents >= (numbers[index] + 1) * 2_000
            ]
            if not open_:
                return None
            best = max(open_, key=lambda index: (sides[pieces[index].half, pieces[index].side], pieces[index].cents / numbers[index]))
            numbers[best] += 1
            sides[pieces[best].half, pieces[best].side] -= 1
    return numbers


def _split(piece: Award, parts: int, chance: random.Random) -> list[int]:
    weights = [chance.uniform(0.6, 1.4) for _ in range(parts)]
    cents = [int(piece.cents * weight / sum(weights)) for weight in weights[:-1]]
    return [*cents, piece.cents - sum(cents)]


# --- records


def generate(grants: int, *, seed: int = 0, totals: Totals | None = None) -> list[dict[str, Any]]:
    """Records of Fluxx, oldest change first.

    Args:
        grants: how many requests of the years 2010 to 2025, awarded or not; those that `totals` ask for come on top.
        seed: the same one gives the same records.
        totals: of one fiscal year, which then has grants of these totals and no others.
    """
    chance, free = random.Random(seed), list[Award]()
    held = constrained(totals, chance) if totals else []
    while len(free) < grants:
        award = _free(chance)
        if totals is None or _fiscal_year(award.half) != totals.fiscal_year:
            free.append(award)
    names = totals.names if totals else {}
    records = [_record(number, award, names, chance, held=number <= len(held)) for number, award in enumerate([*held, *free], 1)]
    return sorted(records, key=lambda record: (record["updated_at"], record["id"]))


def _fiscal_year(half: date) -> int:
    return half.year + (half.month == 12)


def _free(chance: random.Random) -> Award:
    """An award that nobody published."""
    name, _, least, most, _, _ = chance.choices(PROGRAMS, [program[5] for program in PROGRAMS])[0]
    code, _, _, side, *_ = chance.choice(COUNTRIES)
    half = date(chance.randint(FIRST_YEAR, LAST_YEAR), chance.choice((6, 12)), 1)
    typed = side if chance.random() < 0.94 else chance.choice(("N/A", side.lower(), None))
    return Award(half, name, typed, code, int(least * 100 * (most / least) ** chance.random()))


def _record(number: int, award: Award, names: dict[str, str], chance: random.Random, *, held: bool) -> dict[str, Any]:
    """One request as the API gives it. What totals hold is awarded and told; else some are not."""
    country = BY_CODE.get(award.country or "")
    program = PROGRAM.get(award.program, PROGRAMS[2])
    kind = "Chapter" if award.cents > 10_000_000 else chance.choice(program[4])
    state = "closed" if held else chance.choices(("closed", "granted", "declined", "submitted", "withdrawn"), (60, 18, 12, 6, 4))[0]
    awarded = state in ("closed", "granted")
    day = _day(award.half, chance)
    touched = datetime(day.year, day.month, day.day, 9, tzinfo=UTC) + timedelta(
        days=chance.randrange(400), seconds=chance.randrange(28_800)
    )
    currency = country[7] if country else "USD"
    units = Decimal(str(round(UNITS_PER_USD[currency] * (chance.uniform(0.9, 1.1) if currency != "USD" else 1), 6)))
    person = f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"
    place = names.get(award.country or "") or (country[2] if country else None)
    return {
        "id": 1_000_000 + number,
        "base_request_id": f"R-{program[1]}-{day:%y%m}-{number:05}",
        "program_name": award.program,
        "project_title": f"{award.program} {number} in {place or 'all countries'}",
        "state": state,
        "amount_awarded": float((Decimal(award.cents) * units / 100).quantize(Decimal("0.01"))) if awarded else None,
        "currency": currency,
        "exchange_rate": float(units) if awarded else None,
        "amount_awarded_usd": award.cents / 100 if awarded else 0,
        "amount_spent_usd": round(award.cents * chance.uniform(0.7, 1)) / 100 if state == "closed" else None,
        "grant_approved_at": day.isoformat() if awarded else None,
        "project_begins_at": day.isoformat(),
        "project_ends_at": (day + timedelta(days=chance.choice((180, 365, 730)))).isoformat(),
        "fiscal_year": _fiscal_year(award.half) if awarded else None,
        "geo_country_name": place,
        "geo_country_iso3": award.country,
        "global_south": award.side,
        "org_type": kind,
        "program_organization_name": None if kind == "Individual" else f"{kind} {number} of {place or 'the world'}",
        "gender_gap": chance.random() < 0.15,
        "multi_year_grant": chance.random() < 0.1,
        "location_self_disclosed": chance.random() < 0.8,
        "blocklisted": not held and chance.random() < 0.02,
        "unique_grantee_id": f"G{number // 2:06}" if kind != "Individual" else f"G{number:06}",
        "grantee_name": person,
        "grantee_email": f"{person.lower().replace(' ', '.')}@example.org",
        "participants": [f"User {number} {letter}" for letter in "ABCDEFGHIJKLMNOP"[: chance.choice((0, 1, 3, 12, 16))]],
        "wikis": sorted(chance.sample([wiki[0] for wiki in WIKIS], chance.choice((0, 1, 1, 2)))),
        "meta_page": f"Grants:{program[1]}/{person.replace(' ', '_')}/{number}",
        "created_at": (touched - timedelta(days=420)).isoformat().replace("+00:00", "Z"),
        "updated_at": touched.isoformat().replace("+00:00", "Z"),
        "deleted": False,
    }  # fmt: skip


def _day(half: date, chance: random.Random) -> date:
    """Any day of the half of a fiscal year of which this is the last month's first day."""
    first = date(half.year, 7 if half.month == 12 else 1, 1)
    return first + timedelta(days=chance.randrange(184 if half.month == 12 else 181))


# --- dimensions, as others publish them


def write_dimensions(folder: Path, *, seed: int = 0) -> list[Path]:
    """`country/`, `wiki/` and `country_economy/2026-01-01.*` below a folder, in the form of canonical-data and the World Bank's."""
    tables = {
        "country": (_countries(), "\t"),
        "wiki": (_wikis(), "\t"),
        "country_economy": (economies(seed=seed), ","),
    }
    written = []
    for name, (rows, delimiter) in tables.items():
        path = folder / name / f"2026-01-01.{'tsv' if delimiter == chr(9) else 'csv'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        written.append(path)
    return written


def _countries() -> list[dict[str, Any]]:
    """The columns of canonical-data's countries.tsv, filled as far as these countries are known here."""
    return [
        {
            "name": name.split(",")[0], "iso_code": short, "iso_alpha3_code": code, "wikidata_id": f"Q{number}",
            "is_protected": code in PROTECTED, "data_risk_score": "60.5" if code in PROTECTED else "20.0",
            "data_risk_classification": "Medium risk" if code in PROTECTED else "Lower risk", "maxmind_continent": "",
            "un_continent": region, "un_subcontinent": region, "un_m49_code": number, "wikimedia_region": region,
            "grant_committee_region": region, "form_990_region": region, "economic_region": f"Global {side}",
            "emerging_classification": "Developed" if side == "North" else "Emerging", "is_eu": False, "is_un_member": True,
            "is_un_data_entity": True, "is_imf_data_entity": True, "is_world_bank_data_entity": True,
            "is_penn_world_table_data_entity": True, "market_research_classification": "",
        }
        for number, (code, short, name, side, region, *_) in enumerate(COUNTRIES, 1)
    ]  # fmt: skip


def _wikis() -> list[dict[str, Any]]:
    return [
        {
            "database_code": code, "domain_name": domain, "database_group": group, "language_code": language,
            "mobile_domain_name": domain.replace(".", ".m.", 1), "language_name": name, "status": "open", "visibility": "public",
            "editability": "public", "english_name": f"{name} {group.title()}",
        }
        for code, domain, group, language, name in WIKIS
    ]  # fmt: skip


def economies(*, seed: int = 0, first: int = FIRST_YEAR, last: int = LAST_YEAR) -> list[dict[str, Any]]:
    """What money is worth in each country and year: likely numbers, of no country in truth."""
    chance, rows = random.Random(seed), []
    for code, _, _, _, _, people, product, currency in COUNTRIES:
        growth, prices = chance.uniform(0.97, 1.01), chance.uniform(0.5, 9)
        for year in range(first, last + 1):
            back = last - year
            rate = UNITS_PER_USD[currency] / (1 + prices / 200) ** back
            rows.append(
                {
                    "country_code": code,
                    "year": year,
                    "population": round(people * growth**back, 3),
                    "gdp_per_capita_constant": round(product * 0.985**back, 4),
                    "gdp_per_capita_current": round(product * 0.965**back, 4),
                    "ppp_conversion_rate": round(rate * (0.45 + product / 120_000), 8),
                    "inflation_rate": round(prices * chance.uniform(0.5, 1.5), 6),
                    "dec_adjusted_exchange_rate": round(rate, 8),
                }
            )
    return rows


# --- the server


@dataclass(frozen=True)
class Fault:
    """What one request gets instead of its answer: a status, with what it asks to wait; or nothing for so many seconds, then no answer."""

    status: int = 503
    retry_after: str | None = None
    silence: float | None = None


@dataclass
class FluxxServer:
    """Fluxx's `GET /api/rest/v2/grant_request` on loopback, as far as reading needs it.

    Pages by `page` and `per_page` (at most 500, 25 when not said), `filter` as JSON conditions on `updated_at`, a Bearer token; answers
    `records.grant_request` with `total_entries`, `total_pages`, `current_page`, `per_page`, and no list at all behind the last page.

    Attributes:
        records: what there is; change it while the server runs.
        token: what `Authorization: Bearer` must say.
        faults: taken one by one, first the first, by the requests that come.
        asked: the query of each request that was let in.
    """

    records: list[dict[str, Any]]
    token: str = "demo"
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> FluxxServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=lambda: self._server.serve_forever(0.01), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def connection(self) -> str:
        """The address with its token, as `SDP_CONNECTIONS` takes it."""
        return f"http://:{self.token}@127.0.0.1:{self.port}"

    def answer(self, query: dict[str, str]) -> dict[str, Any]:
        """The page that a query asks for.

        Raises:
            ValueError: the query is none.
        """
        page, size = int(query.get("page", 1)), min(int(query.get("per_page", 25)), 500)
        found = sorted((one for one in self.records if _matches(one, query.get("filter"))), key=lambda one: one["id"])
        here = found[(page - 1) * size : page * size]
        return {
            "records": {"grant_request": here} if here else {},
            "total_entries": len(found),
            "total_pages": -(-len(found) // size),
            "current_page": page,
            "per_page": size,
        }


def _matches(record: dict[str, Any], text: str | None) -> bool:
    """Whether a record is one of a filter `{"group_type": "and", "conditions": [["updated_at", "gt", "2026-01-01T00:00:00Z"]]}`."""
    for name, operator, value in json.loads(text)["conditions"] if text else ():
        have, want = datetime.fromisoformat(record[name]), datetime.fromisoformat(value)
        if not {"gt": have > want, "gte": have >= want, "lt": have < want, "lte": have <= want, "eq": have == want}[operator]:
            return False
    return True


def _handler(server: FluxxServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, else each answer waits for an acknowledgement
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if server.faults:
                fault = server.faults.pop(0)
                if fault.silence is None:
                    return self.reply(fault.status, {"error": "try again"}, fault.retry_after)
                time.sleep(fault.silence)
                self.close_connection = True
                return None
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            if self.headers.get("Authorization") != f"Bearer {server.token}":
                return self.reply(401, {"error": "invalid token"})
            if parts.path != PATH:
                return self.reply(404, {"error": "no such model"})
            server.asked.append(query)
            try:
                answer = server.answer(query)
            except (ValueError, KeyError, TypeError) as error:
                return self.reply(400, {"error": str(error)})
            return self.reply(200, answer)

        def reply(self, status: int, value: object, retry_after: str | None = None) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the dimensions, serve the grants until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grants", type=int, default=500, help="how many requests")
    parser.add_argument("--seed", type=int, default=0, help="the same one gives the same grants")
    parser.add_argument("--totals", type=Path, help="folder of published totals that one fiscal year is to have")
    parser.add_argument("--folder", type=Path, help="where to write the dimensions; without it none are")
    parser.add_argument("--port", type=int, default=0, help="of the server on loopback; 0 takes any that is free")
    parser.add_argument("--token", default="demo", help="what the server asks for")
    given = parser.parse_args(arguments)
    if given.folder:
        write_dimensions(given.folder, seed=given.seed)
    records = generate(given.grants, seed=given.seed, totals=read_totals(given.totals) if given.totals else None)
    with FluxxServer(records, given.token, given.port) as server:
        print(f"{len(records)} requests at http://127.0.0.1:{server.port}{PATH}", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends it as Ctrl-C does, also where a shell ignores signals
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
