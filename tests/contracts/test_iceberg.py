"""The Iceberg table that a contract compiles to."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.table.sorting import NullOrder, SortDirection

from platform_resources.contracts.iceberg import STREAM_COLUMNS, arrow_schema, parse_sort_term, table_definition
from tests.contracts.conftest import Read, sound

PRIMITIVES = [
    ("boolean", None, "boolean"), ("integer", None, "long"), ("integer", "int", "int"), ("integer", "decimal(20,0)", "decimal(20, 0)"),
    ("number", None, "double"), ("number", "float", "float"), ("number", "decimal(18, 2)", "decimal(18, 2)"), ("string", None, "string"),
    ("string", "uuid", "uuid"), ("string", "fixed[16]", "fixed[16]"), ("string", "binary", "binary"), ("string", "json", "string"),
    ("date", None, "date"), ("time", None, "time"), ("timestamp", None, "timestamptz"), ("timestamp", "timestamp", "timestamp"),
    ("object", "json", "string"), ("array", "json", "string"), ("map", "json", "string"),
]  # fmt: skip


@pytest.mark.parametrize(("logical", "physical", "iceberg"), PRIMITIVES)
def test_every_primitive_has_its_type(read: Read, table: dict[str, Any], logical: str, physical: str | None, iceberg: str) -> None:
    column: dict[str, Any] = {"name": "x", "logicalType": logical, "description": "X."}
    if physical:
        column["physicalType"] = physical
    if logical == "map":
        column["map"] = {"key": {"logicalType": "string"}, "value": {"logicalType": "string"}}
    table["schema"][0]["properties"].append(column)
    definition = table_definition(sound(read(table)))
    assert str(definition.schema.find_type("x")) == iceberg
    assert arrow_schema(definition).field("x").metadata[b"PARQUET:field_id"] == b"4"


def test_nested_fields_keep_docs_required_and_fresh_ids(read: Read, stream: dict[str, Any]) -> None:
    stream["schema"][0]["properties"].append(
        {
            "name": "slots",
            "logicalType": "map",
            "description": "Slots.",
            "map": {
                "key": {"logicalType": "string"},
                "value": {
                    "logicalType": "object",
                    "required": True,
                    "properties": [{"name": "size", "logicalType": "integer", "required": True, "description": "Bytes."}],
                },
            },
        }
    )
    definition = table_definition(sound(read(stream)))
    schema = definition.schema
    assert schema == assign_fresh_schema_ids(schema)  # what a catalog will assign on creation
    assert sorted(schema._lazy_id_to_name) == list(range(1, schema.highest_field_id + 1))
    assert (schema.find_field("slots.value.size").doc, schema.find_field("slots.value.size").required) == ("Bytes.", True)
    assert schema.find_field("meta.stream").required and schema.find_field("tags.element").required
    arrow = arrow_schema(definition)
    size = arrow.field("slots").type.item_type.field("size")
    assert not size.nullable and size.metadata[b"PARQUET:field_id"] == str(schema.find_field("slots.value.size").field_id).encode()
    assert arrow.field("_event_hash").type == pa.binary(16) and arrow.field("_log_time").type == pa.timestamp("us", "UTC")


def test_a_stream_gets_the_platforms_columns_and_a_day_partition(read: Read, stream: dict[str, Any]) -> None:
    definition = table_definition(sound(read(stream)))
    assert [field.name for field in definition.schema.fields][-6:] == [field.name for field in STREAM_COLUMNS]
    (partition,) = definition.partition_spec.fields
    assert (partition.name, str(partition.transform)) == ("meta_dt_day", "day")
    assert definition.schema.find_column_name(partition.source_id) == "meta.dt"
    stream["schema"][0]["customProperties"] = [{"property": "additionalProperties", "value": True}]
    assert table_definition(sound(read(stream))).schema.fields[-1].name == "_extra"


def test_partitions_follow_their_positions_and_transforms(read: Read, table: dict[str, Any]) -> None:
    properties = table["schema"][0]["properties"]
    properties[0] |= {"partitionKeyPosition": 2, "customProperties": [{"property": "partitionTransform", "value": "month"}]}
    properties[1] |= {
        "partitioned": True,
        "partitionKeyPosition": 1,
        "customProperties": [{"property": "partitionTransform", "value": "bucket[16]"}],
    }
    definition = table_definition(sound(read(table)))
    assert [(f.name, str(f.transform)) for f in definition.partition_spec.fields] == [("shop_bucket", "bucket[16]"), ("day_month", "month")]
    assert definition.primary_key == ("shop", "day")
    assert {definition.schema.find_column_name(i) for i in definition.schema.identifier_field_ids} == {"shop", "day"}


def test_sort_terms_read_as_sql_does() -> None:
    term = parse_sort_term("meta.dt DESC nulls first")
    assert (term.column, term.descending, term.nulls_last) == ("meta.dt", True, False)
    assert parse_sort_term("a").nulls_last is False and parse_sort_term("a desc").nulls_last is True
    assert str(parse_sort_term("bucket[8](page_id)").transform) == "bucket[8]"
    for wrong in ("a upwards", "a, b", "mix(a)"):
        with pytest.raises(ValueError, match=r"is not a column|does not know"):
            parse_sort_term(wrong)


def test_the_sort_order_reaches_the_table(read: Read, table: dict[str, Any]) -> None:
    table["schema"][0]["customProperties"] = [{"property": "sortOrder", "value": ["shop", "amount desc"]}]
    fields = table_definition(sound(read(table))).sort_order.fields
    assert [(f.source_id, f.direction, f.null_order) for f in fields] == [
        (2, SortDirection.ASC, NullOrder.NULLS_FIRST),
        (3, SortDirection.DESC, NullOrder.NULLS_LAST),
    ]


def test_personal_data_never_reaches_the_manifests(read: Read, stream: dict[str, Any]) -> None:
    properties = stream["schema"][0]["properties"]
    properties[1]["properties"].append(
        {
            "name": "ip",
            "logicalType": "string",
            "description": "Address.",
            "tags": ["pii:direct"],
            "customProperties": [{"property": "metrics", "value": "full"}],
        }
    )
    properties[3] |= {"tags": ["pii:quasi"]}
    properties[2] |= {"customProperties": [{"property": "metrics", "value": "counts"}]}
    metrics = {k.rsplit("column.", 1)[1]: v for k, v in table_definition(sound(read(stream))).properties.items() if "metrics.column." in k}
    assert metrics == {"meta.ip": "none", "tags.element": "none", "order_id": "counts", "_event_hash": "counts"}


def test_properties_are_configuration_only(read: Read, table: dict[str, Any]) -> None:
    properties = table_definition(sound(read(table))).properties
    assert properties["write.parquet.compression-codec"] == "zstd" and properties["format-version"] == "2"
    assert not any(key.startswith("sdp.") for key in properties)
