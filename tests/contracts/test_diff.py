"""What changed between two versions, and `sdp check --against` over a real git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from platform_resources.contracts.diff import changes_against, check_against, diff
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
    ("partitioned: true", "partitioned: false", "breaking", "the partitions changed from identity(day) to none"),
    ("Money taken.", "Money.", "documentation", "the description, tags or classification of amount changed"),
    ("Sales per shop and day.", "Sales.", "documentation", "title, words, status, owners or tags changed"),
    ("name: some_rows", "name: rows", "widening", "the check some_rows was removed"),
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


@pytest.mark.parametrize(
    ("text", "old", "new", "kind", "message"), [(TABLE, *case) for case in TABLE_CHANGES] + [(STREAM, *case) for case in STREAM_CHANGES]
)
def test_a_change_is_told_by_its_kind_and_in_words(read: Read, text: str, old: str, new: str, kind: str, message: str) -> None:
    assert old in text
    changes = diff(sound(read(text)), sound(read(text.replace(old, new))))
    assert (kind, message) in [(change.kind, change.message) for change in changes], changes
    if kind != "breaking":
        assert not [change for change in changes if change.kind == "breaking"]


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
    (problem,) = check_against(repository, "HEAD")
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
