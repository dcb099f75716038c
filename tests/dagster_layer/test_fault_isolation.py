"""Whose fault takes down what: a location's own faults refuse it, another team's only refuse the products that read theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from data_products.assembly import domain_definitions
from platform_resources.config import Settings
from platform_resources.errors import PlatformError

Load = Callable[..., Any]


def bend(project: Path, file: str, old: str, new: str) -> None:
    path = project / "data_products" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refused(domain: str, settings: Settings) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        domain_definitions(f"data_products.{domain}", settings=settings)
    return caught.value


def test_a_broken_contract_refuses_its_own_location_with_every_problem_at_once(project: Path, settings: Settings) -> None:
    bend(project, "shop/order.yaml", "logicalType: integer", "logicalType: number_of_things")
    bend(project, "shop/domain.yaml", "owners: [team:shop]", "owners: [nobody in particular]")
    error = refused("shop", settings)
    assert error.code == "location-refused"
    assert "The location shop is refused for" in error.message
    assert "data_products/shop/order.yaml:" in error.message
    assert "data_products/shop/domain.yaml:" in error.message


def test_a_broken_contract_leaves_the_location_that_reads_it_loaded_and_its_reader_refusing(
    project: Path, settings: Settings, location: Load
) -> None:
    bend(project, "shop/order.yaml", "logicalType: integer", "logicalType: number_of_things")
    finance = location("finance")
    result = finance.execute(None, "finance/revenue")
    assert not result.success
    failure = result.failure_data_for_node("finance__revenue")
    assert "shop/order" in failure.error.message or "shop.order" in failure.error.message
    assert "data_products/shop/order.yaml" in failure.error.message
    assert not finance.events("finance/revenue")


def test_a_column_that_vanishes_from_an_input_refuses_only_its_reader(project: Path, location: Load) -> None:
    bend(project, "shop/order.yaml", "name: customer,", "name: client,")
    bend(project, "shop/order.yaml", "where customer is null", "where client is null")
    assert location("shop").repository.has_sensor_def("shop_streams")
    result = location("finance").execute(None, "finance/revenue")
    assert not result.success
    assert "customer" in result.failure_data_for_node("finance__revenue").error.message


def test_a_type_that_changes_in_an_input_refuses_only_its_reader(project: Path, location: Load) -> None:
    bend(project, "finance/revenue.sql", "sum(amount) as amount", "max(amount) as amount")
    bend(project, "shop/order.yaml", "{name: amount, logicalType: integer,", "{name: amount, logicalType: string,")
    bend(project, "shop/order.yaml", ", logicalTypeOptions: {minimum: 0}", "")
    bend(project, "shop/order.yaml", "coalesce(sum(amount), 0)", "count(*)")
    assert not location("finance").execute(None, "finance/revenue").success


def test_a_broken_reader_leaves_the_location_it_reads_loaded(project: Path, settings: Settings, location: Load) -> None:
    (project / "data_products/finance/revenue.sql").write_text("select customer from where")
    error = refused("finance", settings)
    assert "data_products/finance/revenue.sql" in error.message
    assert location("shop").repository.get_sensor_def("shop_streams").default_status == dg.DefaultSensorStatus.RUNNING


def test_the_same_domain_in_two_locations_is_refused_in_both(project: Path, settings: Settings) -> None:
    workspace = project / "workspace.yaml"
    workspace.write_text(
        workspace.read_text()
        + "  - python_module: {module_name: data_products.shop.definitions, location_name: shop_again, working_directory: .}\n"
    )
    error = refused("shop", settings)
    assert error.code == "location-twice"
    assert "shop and shop_again" in error.message
    assert error.line == 4
    domain_definitions("data_products.finance", settings=settings)


def test_a_team_that_claims_another_teams_stream_is_the_one_refused(project: Path, settings: Settings) -> None:
    """By the order of the alphabet the claimant would come first."""
    folder = project / "data_products/alpha"
    folder.mkdir()
    (folder / "domain.yaml").write_text((project / "data_products/shop/domain.yaml").read_text().replace("shop", "alpha"))
    order = (project / "data_products/shop/order.yaml").read_text()
    (folder / "copy.yaml").write_text(order.replace("id: shop.order", "id: alpha.copy").replace("- name: order", "- name: copy"))
    assert "data_products/alpha/copy.yaml" in refused("alpha", settings).message
    domain_definitions("data_products.shop", settings=settings)
    domain_definitions("data_products.finance", settings=settings)


def test_a_package_that_is_no_domain_is_one_sentence(settings: Settings) -> None:
    error = refused("nowhere", settings)
    assert error.code == "domain-unknown"
    assert "nowhere" in error.message


def test_loading_touches_nothing_but_the_contracts(settings: Settings, location: Load) -> None:
    location("shop")
    location("finance")
    assert not settings.home.exists()


def test_code_servers_of_a_project_elsewhere_load_apart(
    project: Path, settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The domain packages lie in the project's own folder, the platform's code where it is installed."""
    bend(project, "finance/revenue.sql", "from shop", "frm shop")
    monkeypatch.setenv("SDP_PROJECT", str(project))
    monkeypatch.setenv("SDP_HOME", str(settings.home))
    monkeypatch.chdir(project)
    with WorkspaceProcessContext(instance, WorkspaceFileTarget([str(project / "workspace.yaml")])) as process:
        entries = process.create_request_context().get_code_location_entries()
    assert entries["shop"].load_error is None
    error = entries["finance"].load_error
    assert error is not None
    said = error.to_string()
    assert "The location finance is refused for 1 problem in its own files" in said
    assert "data_products/finance/revenue.sql" in said
