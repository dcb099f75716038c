"""A home of its own for each test of landing."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from tests.landing.drops import Shop


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(project=tmp_path, home=tmp_path / "home")


@pytest.fixture
def lakehouse(settings: Settings) -> Lakehouse:
    return Lakehouse(settings)


@pytest.fixture
def shop(settings: Settings, lakehouse: Lakehouse) -> Shop:
    """A product `shop/orders` and what its source has."""
    return Shop(settings, lakehouse)
