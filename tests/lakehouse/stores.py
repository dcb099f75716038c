"""The stores that the lakehouse suite runs over: settings for a table space of a test's own, in this process and in others."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse

STORES: Mapping[str, tuple[str, ...]] = {
    "folder": (),
    "swift-postgresql": ("postgresql", "swift"),
    "swift-rest": ("postgresql", "swift", "iceberg-rest"),
}


def settings_over(store: str, home: Path, stack: Callable[..., Settings]) -> Settings:
    """Settings of a home of its own whose tables lie in `store`, apart from those of every other test."""
    if store == "folder":
        return Settings(home=home)
    shared = stack(*STORES[store])
    home.mkdir(parents=True, exist_ok=True)
    (home / "stack").symlink_to(shared.stack_path)
    name = f"t{uuid.uuid4().hex[:12]}"
    update: dict[str, str] = {"warehouse": f"{shared.warehouse_uri}/{name}"}
    if store == "swift-rest":
        update["catalog_type"] = "rest"
    else:
        update["catalog_name"] = name
    settings = Settings(home=home, profile="stack").model_copy(update=update)
    if store == "swift-rest":  # one catalog for all tests: each begins with none of the others' tables
        lakehouse = Lakehouse(settings)
        for identifier in lakehouse.identifiers():
            lakehouse.drop(identifier)
    return settings


def environment(settings: Settings) -> dict[str, str]:
    """The same settings for a process of its own."""
    given = {
        "SDP_HOME": str(settings.home),
        "SDP_PROFILE": settings.profile,
        "SDP_CATALOG_TYPE": settings.catalog_type,
        "SDP_CATALOG_NAME": settings.catalog_name,
        "SDP_CATALOG_URI": settings.catalog_uri,
        "SDP_WAREHOUSE": settings.warehouse,
        "SDP_S3_ENDPOINT": settings.s3_endpoint,
        "SDP_S3_ACCESS_KEY": settings.s3_access_key and settings.s3_access_key.get_secret_value(),
        "SDP_S3_SECRET_KEY": settings.s3_secret_key and settings.s3_secret_key.get_secret_value(),
    }
    return {name: value for name, value in given.items() if value}
