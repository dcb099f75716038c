"""Addresses of connections that nobody can read: told in a sentence, and no part of a secret with it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from platform_resources.errors import PlatformError
from platform_resources.landing.http_pages import Client
from platform_resources.landing.mysql_tables import MysqlSession
from platform_resources.landing.postgresql_tables import PostgresqlSession


def opened(address: str) -> None:
    if address.startswith("http"):
        Client(address, "shop", timedelta(0))
    elif address.startswith("mysql"):
        MysqlSession(address, "shop")
    else:
        PostgresqlSession(address, "shop")


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "http"])
@pytest.mark.parametrize("secret", ["hid/den", "hid#den", "hid?den", "hid@den", "hid:den@shop:hid"])
def test_a_secret_that_makes_an_address_unreadable_is_not_shown(scheme: str, secret: str) -> None:
    with pytest.raises(PlatformError, match="address of the connection shop has no readable host and port") as caught:
        opened(f"{scheme}://user:{secret}@db.example.org:99/shop")
    assert caught.value.code == "connection-unfit"
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "http"])
def test_an_encoded_secret_is_fit(scheme: str) -> None:
    opened(f"{scheme}://user:hid%40den%2F%23@db.example.org/shop")


@pytest.mark.parametrize("headers", ["X Key=hidden", "X-Key=hid%0Aden", "=hidden"])
def test_headers_that_are_none_are_told_without_them(headers: str) -> None:
    with pytest.raises(PlatformError, match="are no headers") as caught:
        opened(f"https://api.example.org/#{headers}")
    assert "hid" not in str(caught.value)
