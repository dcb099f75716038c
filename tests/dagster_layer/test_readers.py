"""A product that names its readers is read by nobody else, on whatever way: `source()`, SQL, a transform, a location's own assets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from data_products.assembly import domain_definitions
from platform_resources.cli import cli
from platform_resources.config import Settings
from platform_resources.contracts.diff import diff
from platform_resources.contracts.registry import Registry
from platform_resources.engines.loading import check_transform
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.sourcing import query, source
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.local_log import LocalLog

Load = Callable[..., Any]
ROLES = "roles: [{role: research, access: read}, {role: billing, access: write}]\n"
NOT_BY = "shop/order may be read by shop and research only, not by {}."
WAYS: dict[str, Callable[[Any], Any]] = {
    "duckdb": lambda product: product.duckdb().fetchall(),
    "polars": lambda product: product.polars().collect(),
    "arrow": lambda product: product.arrow(),
    "spark": lambda product: product.spark(),
    "as it was": lambda product: product.at("2999-01-01").arrow(),
}


def declare(project: Path, roles: str = ROLES) -> None:
    """Let the contract of orders name its readers."""
    path = project / "data_products/shop/order.yaml"
    path.write_text(path.read_text().replace("schema:\n", f"{roles}schema:\n", 1))


@pytest.fixture
def orders(project: Path, settings: Settings, produce: Callable[..., None]) -> Settings:
    """One order in the table of a product that names its readers, and one in its quarantine."""
    declare(project)
    produce({"customer": "ann", "amount": 5})
    log = LocalLog(settings.log_path)
    log.append("shop.order.v1", [(None, b"no event")])
    Drain(
        Registry.load(project).get("shop/order"), lakehouse=Lakehouse(settings), log=log, run_id="one", settings=settings
    ).run(until="end")  # fmt: skip
    log.close()
    return settings


def refused(work: Callable[[], Any]) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        work()
    return caught.value


@pytest.mark.parametrize("way", WAYS)
def test_source_refuses_whoever_has_no_role(way: str, orders: Settings) -> None:
    for reader in ("finance", "billing"):
        error = refused(lambda reader=reader: WAYS[way](source("shop/order", settings=orders, reader=reader)))  # type: ignore[misc]
        assert (error.code, error.message) == ("reader-refused", NOT_BY.format(reader))
    error = refused(lambda: WAYS[way](source("shop/order", settings=orders)))
    assert error.code == "reader-untold" and "SDP_DOMAIN" in error.remedy


def test_the_own_domain_and_those_with_a_role_read(orders: Settings) -> None:
    for reader in ("shop", "research"):
        product = source("shop/order", settings=orders, reader=reader)
        assert len(product.duckdb().fetchall()) == product.polars().collect().height == product.arrow().num_rows == 1
        assert source("shop/order", settings=orders.model_copy(update={"domain": reader})).arrow().num_rows == 1


def test_a_query_refuses_as_source_does_wherever_it_names_the_product(orders: Settings) -> None:
    registry = Registry.load(orders.project)
    texts = ('from shop."order"', 'select (select count(*) from shop."order") as n', "from shop.order__quarantine")
    for text in texts:
        error = refused(lambda text=text: query(text, orders, registry, include_quarantine=True, reader="finance"))  # type: ignore[misc]
        assert (error.code, error.message) == ("reader-refused", NOT_BY.format("finance"))
        assert refused(lambda text=text: query(text, orders, registry, include_quarantine=True)).code == "reader-untold"  # type: ignore[misc]
        assert query(text, orders, registry, include_quarantine=True, reader="research").num_rows == 1


@pytest.mark.parametrize("kind", ["sql", "python"])
def test_a_transform_of_a_domain_without_a_role_loads_and_refuses_to_run(
    kind: str, project: Path, orders: Settings, location: Load
) -> None:
    folder = project / "data_products/finance"
    if kind == "python":
        (folder / "revenue.sql").unlink()
        (folder / "revenue.py").write_text(
            "import pyarrow as pa\n\nfrom platform_resources import data_product\n\n\n"
            '@data_product(inputs={"order": "shop/order"})\ndef revenue(order: pa.Table) -> pa.Table:\n    return order\n'
        )
    registry = Registry.load(project)
    [problem] = check_transform(registry.get("finance/revenue"), registry)
    assert (problem.code, problem.severity, problem.message) == ("reader-refused", "error", NOT_BY.format("finance"))
    assert problem.file == f"data_products/finance/revenue.{'py' if kind == 'python' else 'sql'}" and problem.line
    result = location("finance").execute(None, "finance/revenue")
    assert not result.success
    assert NOT_BY.format("finance") in result.failure_data_for_node("finance__revenue").error.message
    assert Lakehouse(orders).table("finance.revenue") is None


def test_a_transform_of_the_own_domain_or_with_a_role_runs(project: Path, orders: Settings, location: Load) -> None:
    path = project / "data_products/shop/order.yaml"
    path.write_text(path.read_text().replace("role: research", "role: finance"))
    assert location("finance").execute(None, "finance/revenue").success
    assert source("finance/revenue", settings=orders).arrow().to_pylist() == [{"customer": "ann", "amount": 5}]


@pytest.mark.parametrize(("domain", "reads"), [("shop", True), ("finance", False)])
def test_a_location_loads_inputs_as_its_own_domain(domain: str, reads: bool, orders: Settings, instance: dg.DagsterInstance) -> None:
    """Also an asset that a team writes by hand, whatever SDP_DOMAIN the location was started with."""
    given = domain_definitions(f"data_products.{domain}", settings=orders.model_copy(update={"domain": "research"}))

    order_spec = dg.AssetSpec(["shop", "order"]).with_io_manager_key("io_manager")

    @dg.asset(ins={"order": dg.AssetIn(key=order_spec.key)})
    def counted(order: pa.Table) -> None:
        assert order.num_rows == 1

    result = dg.materialize([counted, order_spec], resources=dict(given.resources or {}), instance=instance, raise_on_error=False)
    assert result.success == reads
    if not reads:
        assert NOT_BY.format("finance") in result.failure_data_for_node("counted").error.to_string()


def test_without_roles_everybody_reads(project: Path, settings: Settings) -> None:
    assert Registry.load(project).get("shop/order").readers is None
    declare(project, "roles: []\n")
    assert Registry.load(project).get("shop/order").readers == ("shop",)


def test_the_command_line_asks_as_somebody(orders: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    for name, value in (("SDP_PROJECT", orders.project), ("SDP_HOME", orders.home)):
        monkeypatch.setenv(name, str(value))
    ask = ["query", 'select amount from shop."order"', "--json"]
    told = CliRunner().invoke(cli, ask)
    assert told.exit_code == 1 and "Set SDP_DOMAIN, or name the domain: --as DOMAIN" in told.stderr
    assert CliRunner().invoke(cli, [*ask, "--as", "finance"]).exit_code == 1
    assert '"amount":5' in CliRunner().invoke(cli, [*ask, "--as", "research"]).stdout.replace(" ", "")
    monkeypatch.setenv("SDP_DOMAIN", "shop")
    assert CliRunner().invoke(cli, ask).exit_code == 0
    assert "shop, research" in CliRunner().invoke(cli, ["show", "shop/order"]).stdout


def test_to_lose_a_reader_breaks_what_is_read(project: Path) -> None:
    everybody = Registry.load(project).get("shop/order")
    declare(project)
    some = Registry.load(project).get("shop/order")
    path = project / "data_products/shop/order.yaml"
    path.write_text(path.read_text().replace("role: research", "role: finance"))
    others = Registry.load(project).get("shop/order")
    assert [change.kind for change in diff(everybody, some)] == [change.kind for change in diff(some, others)] == ["breaking"]
    assert [change.kind for change in diff(some, everybody)] == ["widening"]
    assert "research may no longer read it" in diff(some, others)[0].message
