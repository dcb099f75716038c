"""What changed between two versions, and `sdp check --against` over a real git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from platform_resources.contracts.diff import changes_against, check_against, diff
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from tests.contracts.conftest import STREAM, TABLE, Read, sound

TABLE_CHANGES = [
    ("decimal(18,2)", "decimal(20,2)", "widening", "column amount changed from decimal(18, 2) to decimal(20, 2)"),
    ("decimal(18,2)", "double", "breaking", "column amount changed from decimal(18, 2) to double"),
    (
        "      - {name: amount",
        "      - {name: extra, logicalType: array, items: {logicalType: integer}, description: E.}\n      - {name: amount",
        "additive",
        "column extra (list<long>) was added",
    ),
    (
        "      - {name: amount",
        "      - {name: extra, logicalType: string, required: true, description: E.}\n      - {name: amount",
        "breaking",
        "required column extra was added, which old rows do not have",
    ),
    ("{name: amount,", "{name: total,", "breaking", "column amount was removed"),
    (
        "required: true, primaryKey: true, primaryKeyPosition: 1",
        "required: true",
        "breaking",
        "the primary key changed from shop, day to day",
    ),
    ("partitioned: true", "partitioned: false", "additive", "the partitions changed from identity(day) to none, which no reader sees"),
    ("Money taken.", "Money.", "documentation", "the description, tags or classification of amount changed"),
    ("Sales per shop and day.", "Sales.", "documentation", "title, words, status, owners or tags changed"),
    ("name: some_rows", "name: rows", "documentation", "the check some_rows is called rows now"),
    ("version: 1.2.0", "version: 1.2.0\nname: Takings", "documentation", "title, words, status, owners or tags changed"),
    ("status: active", "status: deprecated", "documentation", "title, words, status, owners or tags changed"),
]
STREAM_CHANGES = [
    (
        "name: order_id, logicalType: integer, required: true",
        "name: order_id, logicalType: integer",
        "widening",
        "column order_id may now be null",
    ),
    (
        "description: Number",
        "logicalTypeOptions: {minimum: 1}, description: Number",
        "breaking",
        "minimum of order_id changed from None to 1",
    ),
    ("value: shop.orders.v1", "value: shop.orders.v2", "breaking", "the stream changed from shop.orders.v1 to shop.orders.v2"),
    (
        "    properties:\n      - {name: _s",
        "    customProperties: [{property: additionalProperties, value: true}]\n    properties:\n      - {name: _s",
        "widening",
        "the event now accepts undeclared fields",
    ),
    (
        "{name: stream, logicalType: string, required: true",
        "{name: stream, logicalType: string, required: true, enum: [{value: a}]",
        "breaking",
        "meta.stream no longer accepts values outside its new enum",
    ),
    (
        "items: {logicalType: string, required: true}",
        "items: {logicalType: integer, required: true}",
        "breaking",
        "column tags.element changed from string to long",
    ),
]


NULLABLE = "customProperties: [{property: nullable, value: true}]"
STREAM_CHANGES += [
    ("version: 1.0.0", "version: 2.0.0", "breaking", "the major version changed from 1 to 2, so events of the old are refused"),
    ("version: 1.0.0", "version: 1.9.0\nname: Orders placed", "documentation", "title, words, status, owners or tags changed"),
    (
        "- {property: stream, value: shop.orders.v1}",
        "- {property: stream, value: shop.orders.v1}\n      - {property: schemaTitle, value: shop/order}",
        "breaking",
        "the schemaTitle changed from shop/orders to shop/order, so events of the old are refused",
    ),
    (
        "- {property: stream, value: shop.orders.v1}",
        "- {property: stream, value: shop.orders.v1}\n      - {property: topics, value: [shop.orders.v1, b]}",
        "additive",
        "the topic b is read too",
    ),
    (
        "{name: id, logicalType: string,",
        f"{{name: id, logicalType: string, required: true, {NULLABLE},",
        "breaking",
        "events without meta.id are refused now",
    ),
    (
        "      - {name: order_id",
        f"      - {{name: more, logicalType: string, required: true, {NULLABLE}, description: M.}}\n      - {{name: order_id",
        "breaking",
        "column more was added, and events without it are refused",
    ),
]


@pytest.mark.parametrize(
    ("text", "old", "new", "kind", "message"), [(TABLE, *case) for case in TABLE_CHANGES] + [(STREAM, *case) for case in STREAM_CHANGES]
)
def test_a_change_is_told_by_its_kind_and_in_words(read: Read, text: str, old: str, new: str, kind: str, message: str) -> None:
    assert old in text
    changes = diff(sound(read(text)), sound(read(text.replace(old, new))))
    assert (kind, message) in [(change.kind, change.message) for change in changes], changes
    if kind != "breaking":
        assert not [change for change in changes if change.kind == "breaking"]


UNIQUE = "{name: c, metric: duplicateValues, mustBe: 0, arguments: {properties: [day, shop]}}"
KNOWN = "{name: c, metric: invalidValues, mustBe: 0, arguments: {validValues: [a, b], maxLength: 5}}"
MISSING = "{name: c, metric: missingValues, mustBe: 0, arguments: {missingValues: [null, '', x]}}"
QUERY = "{name: c, type: sql, query: 'select count(*) from {object} where amount < 0', mustBe: 0}"
ROWS = "{name: c, metric: rowCount, mustBeGreaterThan: 100}"
SHARE = "{name: c, metric: duplicateValues, mustBeLessThan: 5, unit: percent, arguments: {properties: [day]}}"


@pytest.mark.parametrize(
    ("check", "old", "new", "kind", "message"),
    [
        (UNIQUE, "mustBe: 0", "mustBe: 0, severity: warning", "breaking", "the check c only warns now"),
        (UNIQUE, UNIQUE, "", "breaking", "the check c was removed"),
        (UNIQUE, "mustBe: 0", "mustBeLessThan: 5", "breaking", "the check c asks mustBeLessThan 5 rows instead of mustBe 0 rows"),
        (UNIQUE, "[day, shop]", "[day, shop, amount]", "breaking", "the check c is on day, shop, amount instead of day, shop"),
        (UNIQUE, "[day, shop]", "[day]", "additive", "the check c is on day instead of day, shop"),
        (UNIQUE, "mustBe: 0", "mustBe: 0, customProperties: [{property: scope, value: commit}]", "breaking",
         "the check c judges the commit instead of the partition"),
        (UNIQUE, "name: c", "name: d", "documentation", "the check c is called d now"),
        (UNIQUE.replace("mustBe: 0", "mustBe: 0, severity: warning"), ", severity: warning", "", "additive",
         "the check c blocks publication now"),
        (UNIQUE.replace("mustBe: 0", "mustBe: 0, severity: warning"), "mustBe: 0", "mustBe: 9", "widening",
         "the check c asks mustBe 9 rows instead of mustBe 0 rows"),
        (KNOWN, "[a, b]", "[a, b, c]", "breaking", "validValues of c changed from ['a', 'b'] to ['a', 'b', 'c']"),
        (KNOWN, "[a, b]", "[a]", "additive", "validValues of the check c changed from ['a', 'b'] to ['a']"),
        (KNOWN, "maxLength: 5", "maxLength: 4", "additive", "maxLength of the check c changed from 5 to 4"),
        (KNOWN, ", maxLength: 5", "", "breaking", "maxLength of the check c changed from 5 to None"),
        (KNOWN, "maxLength: 5", "maxLength: 5, pattern: a", "additive", "pattern of the check c changed from None to a"),
        (MISSING, ", x]", "]", "breaking", "missingValues of the check c changed from [None, '', 'x'] to [None, '']"),
        (MISSING, ", x]", ", x, y]", "additive", "missingValues of the check c changed from [None, '', 'x'] to [None, '', 'x', 'y']"),
        (QUERY, "amount < 0", "0 > amount", "widening", "the query of the check c changed"),
        (ROWS, "100", "50", "widening", "the check c asks mustBeGreaterThan 50 rows instead of mustBeGreaterThan 100 rows"),
        (ROWS, "100", "200", "additive", "the check c asks mustBeGreaterThan 200 rows instead of mustBeGreaterThan 100 rows"),
        (ROWS, ROWS, "", "widening", "the check c was removed"),
        (SHARE, "mustBeLessThan: 5", "mustBeLessThan: 6", "widening",
         "the check c asks mustBeLessThan 6 percent instead of mustBeLessThan 5 percent"),
        (SHARE, "mustBeLessThan: 5", "mustBe: 0", "additive", "the check c asks mustBe 0 percent instead of mustBeLessThan 5 percent"),
    ],
)  # fmt: skip
def test_to_loosen_a_check_that_lets_no_bad_row_through_is_breaking(
    read: Read, check: str, old: str, new: str, kind: str, message: str
) -> None:
    def contract(rule: str) -> Contract:
        if check in (KNOWN, MISSING):
            return sound(read(TABLE.replace("description: Shop.", f"description: Shop., quality: [{rule}]")))
        return sound(read(TABLE + (f"      - {rule}\n" if rule else "")))

    assert old in check
    changes = diff(contract(check), contract(check.replace(old, new)))
    assert [(change.kind, change.message) for change in changes] == [(kind, message.replace("of c changed", "of the check c changed"))]


def test_no_change_is_no_change(read: Read, table: dict[str, Any]) -> None:
    assert diff(sound(read(table)), sound(read(TABLE))) == []


def git(project: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True, capture_output=True
    )


@pytest.fixture
def repository(project: Path) -> Path:
    """The domain `shop` committed as it is, in a subfolder of a repository."""
    folder = project / "data_products" / "shop"
    (folder / "orders.yaml").write_text(STREAM)
    (folder / "sales.yaml").write_text(TABLE)
    (folder / "sales.sql").write_text("select 1")
    git(project, "init", "-q")
    git(project, "add", "data_products")
    git(project, "commit", "-q", "-m", "products")
    return project


def rewrite(project: Path, old: str, new: str, name: str = "sales") -> None:
    path = project / "data_products" / "shop" / f"{name}.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_breaking_change_of_an_active_product_is_an_error_that_names_the_way_out(repository: Path) -> None:
    rewrite(repository, "decimal(18,2)", "double")
    rewrite(repository, "status: active", "status: draft")  # no way round: the old one was active
    problem, lowered = check_against(repository, "HEAD")[::-1]
    assert (lowered.severity, lowered.code, lowered.line, lowered.message) == (
        "error", "contract-status-lowered", 5, "The active product shop/sales becomes a draft, but others may rely on it.",
    )  # fmt: skip
    assert (problem.severity, problem.code, problem.file, problem.line) == (
        "error",
        "contract-breaking-change",
        "data_products/shop/sales.yaml",
        13,
    )
    assert (
        problem.message == "The active product shop/sales changes in a breaking way: column amount changed from decimal(18, 2) to double."
    )
    assert problem.remedy == "Make it a new product, data_products/shop/sales_v2.yaml, and set this one to status: deprecated as it was."


def test_a_draft_may_break(repository: Path) -> None:
    rewrite(repository, "status: active", "status: draft")
    git(repository, "commit", "-qam", "draft")
    rewrite(repository, "decimal(18,2)", "double")
    (problem,) = check_against(repository, "HEAD")
    assert (problem.severity, problem.code) == ("warning", "contract-breaking-change")


def test_a_draft_becomes_active_freely_and_an_active_product_no_draft(repository: Path) -> None:
    rewrite(repository, "status: active", "status: draft")
    assert [(p.severity, p.code) for p in check_against(repository, "HEAD")] == [("error", "contract-status-lowered")]
    git(repository, "commit", "-qam", "draft")
    rewrite(repository, "status: draft", "status: active")
    rewrite(repository, "version: 1.2.0", "version: 1.2.0\nname: Takings per day")
    assert check_against(repository, "HEAD") == []


def test_a_version_goes_only_up(repository: Path) -> None:
    rewrite(repository, "version: 1.2.0", "version: 1.1.9")
    assert [(p.severity, p.code, p.line, p.message) for p in check_against(repository, "HEAD")] == [
        ("error", "contract-version-lowered", 4, "The version of shop/sales goes back from 1.2.0 to 1.1.9.")
    ]
    rewrite(repository, "version: 1.1.9", "version: 1.10.0")
    assert check_against(repository, "HEAD") == []


def test_the_next_major_version_of_an_active_stream_is_a_new_product(repository: Path) -> None:
    rewrite(repository, "version: 1.0.0", "version: 2.0.0", "orders")
    (problem,) = check_against(repository, "HEAD")
    assert (problem.severity, problem.code) == ("error", "contract-breaking-change")
    rewrite(repository, "version: 2.0.0", "version: 1.1.0", "orders")
    rewrite(repository, "version: 1.2.0", "version: 2.0.0")
    assert check_against(repository, "HEAD") == []  # no producer keeps the version of a table


def test_a_widening_change_asks_for_a_new_version(repository: Path) -> None:
    rewrite(repository, "decimal(18,2)", "decimal(20,2)")
    assert [(p.severity, p.code, p.line) for p in check_against(repository, "HEAD")] == [("warning", "contract-version-unchanged", 4)]
    rewrite(repository, "version: 1.2.0", "version: 1.3.0")
    assert check_against(repository, "HEAD") == []
    assert [change.kind for change in changes_against(repository, "HEAD")["shop/sales"]] == ["widening"]


def test_words_and_new_products_are_free(repository: Path) -> None:
    rewrite(repository, "Money taken.", "Money.")
    folder = repository / "data_products" / "shop"
    (folder / "other.yaml").write_text(TABLE.replace("shop.sales", "shop.other").replace("- name: sales", "- name: other"))
    (folder / "other.sql").write_text("select 1")
    assert check_against(repository, "HEAD") == []


def test_removing_an_active_product_is_an_error(repository: Path) -> None:
    (repository / "data_products" / "shop" / "sales.yaml").unlink()
    assert [(p.severity, p.code, p.message) for p in check_against(repository, "HEAD")] == [
        ("error", "contract-removed", "The active product shop/sales is removed, but others may read it.")
    ]


def test_a_domain_default_that_shortens_retention_breaks_its_products(repository: Path) -> None:
    path = repository / "data_products" / "shop" / "domain.yaml"
    path.write_text(path.read_text() + "defaults: {retention: 30 days}\n")
    messages = [p.message for p in check_against(repository, "HEAD")]
    assert messages == [
        f"The active product shop/{name} changes in a breaking way: data is kept 30 days instead of for ever."
        for name in ("orders", "sales")
    ]


def test_an_unknown_ref_is_told(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(PlatformError, match=r"There is no commit, branch or tag nowhere\."):
        check_against(repository, "nowhere")
    with pytest.raises(PlatformError) as outside:
        check_against(tmp_path_factory.mktemp("bare"), "HEAD")
    assert outside.value.code == "git-missing"
