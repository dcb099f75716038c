"""A project's domains and contracts, found by folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from tests.contracts.conftest import STREAM, TABLE


@pytest.fixture
def shop(project: Path) -> Path:
    folder = project / "data_products" / "shop"
    (folder / "orders.yaml").write_text(STREAM)
    (folder / "sales.yaml").write_text(TABLE)
    (folder / "sales.sql").write_text("select 1")
    return folder


def codes(registry: Registry) -> list[str]:
    return [problem.code for problem in registry.problems]


def test_products_are_found_by_key_identifier_and_stream(project: Path, shop: Path) -> None:
    registry = Registry.load(project)
    assert registry.problems == () and set(registry.contracts) == {"shop/orders", "shop/sales"}
    assert registry.get("shop.sales") is registry.get("shop/sales")
    assert registry.by_stream("shop.orders.v1").key == "shop/orders"
    assert registry.transform_path("shop/sales") == shop / "sales.sql" and registry.transform_path("shop/orders") is None
    assert registry.domains["shop"].package == "data_products.shop"


def test_an_unknown_product_or_stream_names_the_close_match(project: Path, shop: Path) -> None:
    registry = Registry.load(project)
    with pytest.raises(PlatformError) as unknown:
        registry.get("shop/sale")
    assert (unknown.value.code, unknown.value.message, unknown.value.remedy) == (
        "product-unknown",
        "There is no product shop/sale.",
        "Did you mean shop/sales?",
    )
    with pytest.raises(PlatformError) as stream:
        registry.by_stream("shop.order.v1")
    assert (stream.value.code, stream.value.remedy) == ("stream-unknown", "Did you mean shop.orders.v1?")


def test_one_broken_contract_leaves_the_others_loaded(project: Path, shop: Path) -> None:
    (shop / "sales.yaml").write_text(TABLE.replace("status: active", "status: lively"))
    registry = Registry.load(project)
    assert set(registry.contracts) == {"shop/orders"}
    assert [p.code for p in registry.problems_of("shop/sales")] == [p.code for p in registry.problems_of("shop")] == ["contract-status"]
    assert registry.problems_of("shop/orders") == ()
    with pytest.raises(PlatformError) as broken:
        registry.get("shop/sales")
    assert (broken.value.code, broken.value.message) == (
        "product-broken",
        "The contract of shop/sales cannot be used: The status 'lively' is not known.",
    )
    assert broken.value.line == 5


@pytest.mark.parametrize(
    ("text", "code", "line", "message"),
    [
        ("name: store\nowners: [team:a]\n", "domain-name", 1, "The domain is named 'store' but lies in the folder shop."),
        ("owners: [team:a]\nownes: [b]\n", "domain-key-unknown", 2, "A domain has no key ownes."),
        ("title: Shop\n", "domain-owner-missing", 1, "The domain shop has no owner."),
        ("owners: [jdoe]\n", "owner-invalid", 1, "The owner 'jdoe' is neither an e-mail address that Dagster takes nor a team."),
        (
            "owners: [team:a]\nsupport: [{channel: jdoe, tool: email}]\n",
            "support-invalid",
            2,
            "The support channel 'jdoe' is of the tool email but has no address.",
        ),
        ("owners: [team:a]\ndefaults: {latency: soon}\n", "domain-defaults", 2, "The latency 'soon' is no length of time."),
        ("owners: [team:a\n", "domain-yaml", 2, "The file is not valid YAML: did not find expected ',' or ']'."),
    ],
)
def test_a_wrong_domain_file_is_refused_and_takes_its_products_with_it(
    project: Path, shop: Path, text: str, code: str, line: int, message: str
) -> None:
    (shop / "domain.yaml").write_text(text)
    registry = Registry.load(project)
    assert [(p.code, p.line, p.message, p.file) for p in registry.problems] == [(code, line, message, "data_products/shop/domain.yaml")]
    assert registry.domains == {} and registry.contracts == {}


def test_a_domains_defaults_fill_what_a_contract_leaves_out(project: Path, shop: Path) -> None:
    (shop / "domain.yaml").write_text(
        "owners: [team:shop]\nsupport: [{channel: shop@example.org, tool: email}]\n"
        "defaults: {classification: restricted, latency: 5 minutes, retention: P90D, tags: [retail]}\n"
    )
    contract = Registry.load(project).get("shop/sales")
    assert (contract.classification, contract.tags, contract.owners) == ("restricted", ("retail",), ("team:shop",))
    assert contract.sla.latency is not None and contract.sla.latency.total_seconds() == 300
    assert contract.sla.retention is not None and contract.sla.retention.days == 90
    assert contract.support[0].address == "shop@example.org"


def test_what_no_single_file_shows(project: Path, shop: Path) -> None:
    (shop / "sales.py").write_text("")
    (shop / "orders.sql").write_text("")
    (shop / "lonely.yaml").write_text(TABLE.replace("shop.sales", "shop.lonely").replace("- name: sales", "- name: lonely"))
    assert codes(Registry.load(project)) == ["product-without-origin", "product-filled-twice", "product-two-transforms"]
    for extra in ("sales.py", "orders.sql", "lonely.yaml"):
        (shop / extra).unlink()
    (shop / "orders_again.yaml").write_text(
        STREAM.replace("shop.orders\n", "shop.orders_again\n").replace("- name: orders\n", "- name: orders_again\n")
    )
    registry = Registry.load(project)
    assert [(p.code, p.message) for p in registry.problems] == [
        ("contract-stream-twice", "The stream shop.orders.v1 is already ingested by shop/orders.")
    ]
    assert set(registry.contracts) == {"shop/orders", "shop/sales"}


def test_a_role_that_names_no_domain_is_pointed_out(project: Path, shop: Path) -> None:
    path = shop / "orders.yaml"
    path.write_text(path.read_text().replace("schema:\n", "roles:\n  - {role: shap, access: read}\n  - {role: shop}\nschema:\n", 1))
    registry = Registry.load(project)
    [problem] = registry.problems
    assert (problem.code, problem.severity, problem.file) == ("contract-role-unknown", "warning", "data_products/shop/orders.yaml")
    assert problem.message == "The role shap may read shop/orders, but no domain is called so." and "shop" in problem.remedy
    assert path.read_text().splitlines()[problem.line - 1] == "roles:"
    assert registry.get("shop/orders").readers == ("shop", "shap")


def test_a_project_without_products_is_empty(tmp_path: Path) -> None:
    registry = Registry.load(tmp_path)
    assert (registry.contracts, registry.problems) == ({}, ())


def test_the_fingerprint_changes_with_what_is_written_only(project: Path, shop: Path) -> None:
    def fingerprint(old: str = "", new: str = "") -> str:
        (shop / "sales.yaml").write_text(TABLE.replace(old, new) if old else TABLE)
        return Registry.load(project).get("shop/sales").fingerprint

    base = fingerprint()
    assert fingerprint("Money taken.", "Money that was taken.") == base
    assert fingerprint("1.2.0", "1.2.1") == base
    for old, new in (
        ("decimal(18,2)", "decimal(20,2)"),
        ("partitioned: true", "partitioned: false"),
        ("mustBeGreaterThan: 0", "mustBe: 1"),
    ):
        assert fingerprint(old, new) != base
