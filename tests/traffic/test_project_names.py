"""The old page counts' abbreviations of projects against their golden vectors."""

from __future__ import annotations

from pathlib import Path

import duckdb

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import create_empty_tables


def test_every_golden_abbreviation_is_its_project(realdata: Path) -> None:
    lines = (realdata / "webrequest_pageview" / "EZ-to-standard-project-names-data.csv").read_text().splitlines()
    expected = [tuple(value.strip() for value in line.split(",")) for line in lines if line.strip()]
    assert len(expected) >= 279
    contract = Registry.load(SOURCE_ROOT).get("traffic/pagecounts_ez")
    with duckdb.connect() as con:
        create_empty_tables(con, {contract.identifier: table_definition(contract).schema})
        con.executemany(
            "insert into traffic.pagecounts_ez by name select ? as ez_project, ? as page_title, 3 as count, date '2015-05-01' as _slice",
            [(short, str(number)) for number, (short, _) in enumerate(expected)],
        )
        found = con.execute((contract.path.parent / "pagecounts_daily.sql").read_text()).to_arrow_table().to_pylist()
    told = {int(row["article"]): (row["project"], row["views"]) for row in found}
    assert [(short, *told[number]) for number, (short, _) in enumerate(expected)] == [(*pair, 3) for pair in expected]
