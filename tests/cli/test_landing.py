"""`sdp ingest` of files as a person meets it: what landed is counted whatever else was refused, and nothing found says where it looked."""

from __future__ import annotations

from tests.cli.conftest import Project, project

__all__ = ["project"]
CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.orders
version: 1.0.0
status: draft
servers:
  - server: drop
    type: custom
    customProperties:
      - {property: source, value: files}
      - {property: path, value: "orders/*.csv"}
      - {property: complete, value: 0 seconds}
      - {property: dialect, value: {delimiter: ";"}}
schema:
  - name: orders
    logicalType: object
    properties:
      - {name: id, logicalType: integer, required: true}
      - {name: name, logicalType: string, required: true}
"""


def test_what_landed_beside_a_refused_file_is_counted_and_nothing_new_says_where_it_looked(project: Project) -> None:
    project.ok("new", "domain", "shop", "--owner", "shop@example.org")
    project.write("data_products/shop/orders.yaml", CONTRACT)
    drop = project.home / "drop" / "shop"
    assert f"Looked below {drop} for orders/*.csv: no file lies there." in project.ok("ingest", "shop/orders")
    (drop / "orders").mkdir(parents=True)
    for name, text in {"orders/a.csv": "id;name\n1;Ann\nx;Bob\n", "orders/b.csv": "id,name\n2,Cy\n", "c.csv": "id;name\n3;Di\n"}.items():
        (drop / name).write_text(text)
    (drop / "orders" / "d.csv.part").write_text("id;na")
    result = project.sdp("ingest", "shop/orders")
    assert result.exit_code == 1
    assert "shop/orders: 1 deliveries, 2 read, 1 inserted, 1 quarantined, 1 commits" in result.stdout
    assert "Its fields seem to be parted by ',', the contract's dialect says ';'" in result.stderr
    (drop / "orders" / "b.csv").unlink()
    said = project.ok("ingest", "shop/orders")
    assert f"Looked below {drop} for orders/*.csv: " in said
    assert all(words in said for words in ("1 known already", "1 named like an unfinished file", "1 not of that path", "(e.g. c.csv)"))


def test_records_that_are_no_events_are_drafted_with_a_word_about_landing(project: Project) -> None:
    project.ok("new", "domain", "shop", "--owner", "shop@example.org")
    rows = project.write("rows.ndjson", '{"sku": "a", "n": 1}\n')
    events = project.write("events.ndjson", '{"$schema": "/shop/sale/1.0.0", "meta": {"stream": "shop.sale.v1"}, "n": 1}\n')
    assert "add --lands" in project.ok("new", "product", "shop/stock", "--from-sample", str(rows))
    assert "--lands" not in project.ok("new", "product", "shop/sale", "--from-sample", str(events))
    assert "--lands" not in project.ok("new", "product", "shop/levels", "--lands", "--from-sample", str(rows))
