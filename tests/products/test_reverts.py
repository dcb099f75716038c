"""What the products say of edits and reverts, held against generated truth and a plain-Python reference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from data_products.trust_safety.reverts import reverts
from demo.generator import Generated, generate
from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import arrow_schema, table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.streams.codec import Codec
from tests.products.histories import Event, editor_of, edits_of, histories, reverts_of, statistics

FACTS = ("edits", "anonymous", "unattributed", "bot", "minor", "reverted", "editors", "bytes_added", "bytes_removed")
QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=200)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load(SOURCE_ROOT)


@pytest.fixture(scope="module")
def columns(registry: Registry) -> pa.Schema:
    contract = registry.get("mediawiki/page_change")
    names = [column.name for column in contract.columns]
    return pa.schema([arrow_schema(table_definition(contract)).field(name) for name in names])


def loose(kind: pa.DataType) -> pa.DataType:
    """A type whose fields may all be null: the histories leave out what the products do not read."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, loose(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(loose(kind.value_type))
    return pa.map_(kind.key_type, loose(kind.item_type)) if pa.types.is_map(kind) else kind


def table(events: Sequence[Event], columns: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(events), schema=pa.schema([pa.field(field.name, loose(field.type)) for field in columns]))


def edit_statistics(rows: pa.Table) -> list[dict[str, object]]:
    """The SQL of the product, as it stands, over rows of page_change."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.register("page_change_rows", rows)
    connection.execute("create schema mediawiki; create view mediawiki.page_change as select * from page_change_rows")
    query = (SOURCE_ROOT / "data_products/activity/edit_statistics.sql").read_text()
    return connection.execute(query).to_arrow_table().to_pylist()


@QUICK
@given(events=histories())
def test_edit_statistics_are_what_plain_python_says(events: list[Event], columns: pa.Schema) -> None:
    expected = statistics(events)
    found = {(row["wiki_id"], row["page_id"], row["day"]): row for row in edit_statistics(table(events, columns))}
    assert {key: {name: found[key][name] for name in row} for key, row in expected.items()} == expected
    assert found.keys() == expected.keys()


@QUICK
@given(events=histories())
def test_reverts_are_what_plain_python_says(events: list[Event], columns: pa.Schema) -> None:
    expected = {}
    for (wiki, _), edits in edits_of(events).items():
        for restored, place in reverts_of(edits):
            undone, reverter = edits[restored + 1 : place], editor_of(edits[place])
            expected[wiki, edits[place]["revision"]["rev_id"]] = {
                "restored_rev_id": edits[restored]["revision"]["rev_id"],
                "edits_undone": len(undone),
                "seconds_to_revert": int((edits[place]["dt"] - undone[-1]["dt"]).total_seconds()),
                "is_self_revert": reverter is not None and all(editor_of(edit) == reverter for edit in undone),
                "is_anonymous": reverter is not None and reverter[1],
            }
    found = {(row["wiki_id"], row["rev_id"]): row for row in reverts(pl.DataFrame(table(events, columns)).lazy()).collect().to_dicts()}
    assert {key: {name: found[key][name] for name in row} for key, row in expected.items()} == expected
    assert found.keys() == expected.keys()


@QUICK
@given(events=histories())
def test_reverts_within_a_day_are_counted_up_to_each_revert(events: list[Event], columns: pa.Schema) -> None:
    rows = reverts(pl.DataFrame(table(events, columns)).lazy()).collect().to_dicts()
    for row in rows:
        same = [
            other
            for other in rows
            if (other["wiki_id"], other["page_id"], other["user_id"]) == (row["wiki_id"], row["page_id"], row["user_id"])
            and (row["user_id"] is not None or other["user_text"] == row["user_text"])
            and row["dt"] - timedelta(hours=24) < other["dt"] <= row["dt"]
            and not other["is_self_revert"]
        ]
        hidden = row["user_id"] is None and row["user_text"] is None
        assert row["reverts_in_24_hours"] == (None if hidden else len(same))


LAWS = [
    test_edit_statistics_are_what_plain_python_says,
    test_reverts_are_what_plain_python_says,
    test_reverts_within_a_day_are_counted_up_to_each_revert,
]


@pytest.mark.storm
@pytest.mark.parametrize("law", LAWS)
def test_the_same_for_many_examples(law: Any, columns: pa.Schema) -> None:
    MANY(given(events=histories())(law.hypothesis.inner_test))(columns=columns)


@pytest.fixture(scope="module")
def generated() -> Generated:
    return generate(6_000, seed=7)


@pytest.fixture(scope="module")
def decoded(generated: Generated, registry: Registry) -> pa.Table:
    return Codec(registry.get("mediawiki/page_change")).decode(list(generated.gated)).table


def test_generated_truth_is_found_by_edit_statistics(generated: Generated, decoded: pa.Table) -> None:
    found = {(row["wiki_id"], row["page_id"], row["day"]): tuple(row[name] for name in FACTS) for row in edit_statistics(decoded)}
    assert found == {key: tuple(getattr(facts, name) for name in FACTS) for key, facts in generated.truth.facts.items()}
    assert generated.truth.total("reverted") > 300


def test_generated_truth_is_found_by_reverts(generated: Generated, decoded: pa.Table) -> None:
    rows = reverts(pl.DataFrame(decoded).lazy()).collect()
    assert {(row["wiki_id"], row["rev_id"]): row["edits_undone"] for row in rows.to_dicts()} == {
        key: len(undone) for key, undone in generated.truth.reverts.items()
    }


def test_two_teams_agree_on_what_was_reverted(generated: Generated, decoded: pa.Table) -> None:
    """Each edit undone by whichever revert: what activity counts in SQL is what trust_safety's intervals in Polars cover."""
    undone = {(wiki, rev_id) for (wiki, _), rev_ids in generated.truth.reverts.items() for rev_id in rev_ids}
    assert sum(int(row["reverted"]) for row in edit_statistics(decoded)) == len(undone)  # type: ignore[call-overload]
