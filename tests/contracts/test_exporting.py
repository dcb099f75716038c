"""What goes out as ODCS keeps the standard, and says for itself what the domain said once."""

from __future__ import annotations

import pytest

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.exporting import exported
from platform_resources.contracts.findings import Findings
from platform_resources.contracts.odcs import check_standard
from platform_resources.contracts.registry import Registry

REGISTRY = Registry.load(SOURCE_ROOT)
SERVERS = [
    {"server": "events", "type": "kafka", "host": "broker:9092", "format": "json"},
    {"server": "table", "type": "s3", "location": "s3://warehouse/mediawiki/page_change", "format": "iceberg"},
]


@pytest.mark.parametrize("key", sorted(REGISTRY.contracts))
def test_every_product_goes_out_in_the_standard_with_native_servers(key: str) -> None:
    contract = REGISTRY.get(key)
    document = exported(contract, SERVERS)
    findings = Findings(str(contract.path), {})
    check_standard(document, findings)
    assert not findings.failed, findings
    assert document["servers"] == SERVERS
    assert document["domain"] == contract.domain
    assert [support["channel"] for support in document["support"]] == [support.channel for support in contract.support]
    assert list(document)[:3] == ["apiVersion", "kind", "id"]  # in the order of the file


def test_a_product_that_is_nowhere_yet_names_no_server() -> None:
    assert exported(REGISTRY.get("activity/top_pages"), []).get("servers") is None
