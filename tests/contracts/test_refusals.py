"""What a domain team may get wrong in a contract, and the exact sentence, line and remedy it gets."""

from __future__ import annotations

import pytest

from platform_resources.engines.audit import unfit_checks
from tests.contracts.conftest import STREAM, TABLE, Read

F = "data_products/shop/"


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


CASES = [
    (
        "key-twice",
        changed(TABLE, "status: active\n", "status: active\nstatus: draft\n"),
        "contract-key-twice",
        6,
        "The key status is given twice in the same place.",
        "Keep one of them.",
    ),
    ("no-yaml", "id: shop.sales\n  x: [", "contract-yaml", 2, None, "Mend the text at this line."),
    (
        "typo-in-column",
        changed(TABLE, "logicalType: date, required: true", "logicalType: date, requird: true"),
        "contract-standard",
        11,
        "schema.sales.properties.day has the key requird, which ODCS 3.2 does not know.",
        "Did you mean required?",
    ),
    (
        "typo-in-type",
        changed(TABLE, "logicalType: date,", "logicalType: dat,"),
        "contract-standard",
        11,
        "schema.sales.properties.day.logicalType is 'dat', which ODCS 3.2 does not allow.",
        "Did you mean date?",
    ),
    (
        "missing-version",
        changed(TABLE, "version: 1.2.0\n", ""),
        "contract-standard",
        1,
        "The contract lacks version.",
        "Add it.",
    ),
    (
        "no-type",
        changed(TABLE, "logicalType: date, ", ""),
        "contract-standard",
        11,
        "schema.sales.properties.day lacks logicalType.",
        "Add it.",
    ),
    (
        "no-text",
        changed(TABLE, "version: 1.2.0", "version: 1.2"),
        "contract-standard",
        4,
        "version is 1.2, which is no string.",
        "Put it in quotes.",
    ),
    (
        "no-threshold",
        changed(TABLE, ", mustBeGreaterThan: 0", ""),
        "contract-standard",
        15,
        "schema.sales.quality.some_rows has no threshold, or more than one.",
        "Give exactly one of mustBe, mustNotBe, mustBeGreaterThan, mustBeLessThan, mustBeBetween and their like.",
    ),
    (
        "id-elsewhere",
        changed(TABLE, "id: shop.sales", "id: store.sales"),
        "contract-id",
        3,
        "The id is 'store.sales' but the file's place says shop.sales.",
        "Write id: shop.sales.",
    ),
    (
        "status",
        changed(TABLE, "status: active", "status: production"),
        "contract-status",
        5,
        "The status 'production' is not known.",
        "Use one of proposed, draft, active, deprecated, retired.",
    ),
    (
        "version",
        changed(TABLE, "version: 1.2.0", "version: '2'"),
        "contract-version",
        4,
        "The version '2' is not of the form 1.2.3.",
        "Write three numbers with dots.",
    ),
    (
        "two-objects",
        TABLE + "  - {name: other, logicalType: object, properties: [{name: a, logicalType: string}]}\n",
        "contract-schema-count",
        7,
        "The contract has 2 schema objects.",
        "One contract holds one product: give it exactly one schema object.",
    ),
    (
        "object-name",
        changed(TABLE, "- name: sales", "- name: sale"),
        "contract-schema-name",
        8,
        "The schema object is named 'sale' but the product is sales.",
        "Write name: sales.",
    ),
    (
        "array-without-items",
        changed(STREAM, ", items: {logicalType: string, required: true}", ""),
        "contract-array-without-items",
        27,
        "The column tags is an array without items.",
        "Say what it holds, e.g. items: {logicalType: string}, or physicalType: json to keep it as JSON text.",
    ),
    (
        "column-twice",
        changed(TABLE, "{name: shop,", "{name: day,"),
        "contract-column-twice",
        12,
        "The column day is declared twice.",
        "Remove or rename one of them.",
    ),
    (
        "column-case",
        changed(TABLE, "{name: amount,", "{name: Shop,"),
        "contract-column-case",
        13,
        "The column Shop differs from shop only by case, which SQL cannot tell apart.",
        "Rename one of them.",
    ),
    (
        "reserved",
        changed(TABLE, "{name: amount,", "{name: _amount,"),
        "contract-column-reserved",
        13,
        "The column _amount begins with an underscore, which is kept for the platform's own columns.",
        "Rename it; only _schema may begin so.",
    ),
    (
        "type",
        changed(TABLE, '"decimal(18,2)"', "varchar"),
        "contract-type-unsupported",
        13,
        "The column amount is a number with the physicalType varchar, which it cannot be stored as.",
        "A number may be float or double or decimal(P,S).",
    ),
    (
        "decimal-digits",
        changed(TABLE, "decimal(18,2)", "decimal(39,2)"),
        "contract-type-unsupported",
        13,
        "The column amount has the physicalType decimal(39,2), which needs a precision of 1 to 38 and a scale up to it.",
        "Write e.g. decimal(18,2) or fixed[16].",
    ),
    (
        "optional-key",
        changed(TABLE, "name: shop, logicalType: string, required: true", "name: shop, logicalType: string"),
        "contract-primary-key-optional",
        12,
        "The primary key shop is optional, but a key is never null.",
        "Add required: true, or remove primaryKey.",
    ),
    (
        "partition-transform",
        changed(TABLE, "partitioned: true,", "partitioned: true, customProperties: [{property: partitionTransform, value: hour}],"),
        "contract-partition-transform",
        11,
        "The column day has the type date, which the partitionTransform hour cannot take.",
        "Use identity or bucket[N], or another column.",
    ),
    (
        "sort-unknown",
        changed(TABLE, "    properties:", "    customProperties: [{property: sortOrder, value: [shopp]}]\n    properties:"),
        "contract-column-unknown",
        10,
        "The sortOrder names the column shopp, which the contract does not declare.",
        "Did you mean shop?",
    ),
    *(
        (
            f"incremental-key-{name}",
            changed(
                changed(
                    TABLE, "    properties:", f"    customProperties: [{{property: incrementalKey, value: [day, {name}]}}]\n    properties:"
                ),
                "    quality:",
                "      - {name: rate, logicalType: number, description: A rate.}\n"
                "      - {name: place, logicalType: object, description: Where., "
                "properties: [{name: x, logicalType: string, description: X.}]}\n"
                "    quality:",
            ),
            "contract-incremental-key-type",
            10,
            f"The incrementalKey names {name}, {kind} whose values cannot be compared exactly.",
            "Name a column of text, whole numbers, decimals, dates, times or booleans.",
        )
        for name, kind in [("rate", "a number"), ("place", "an object")]
    ),
    (
        "incremental-value",
        changed(TABLE, "    properties:", "    customProperties: [{property: incremental, value: keys}]\n    properties:"),
        "contract-custom-value",
        10,
        "The custom property incremental has the value 'keys', which is not one of append, key, partition, full.",
        "Give it a value that docs/contracts.md lists.",
    ),
    *(
        (
            f"merge-rule-{label}",
            changed(
                TABLE,
                "    properties:",
                f"    customProperties: [{{property: incremental, value: {incremental}}}, {{property: {name}, value: {value}}}]\n"
                "    properties:\n      - {name: gone, logicalType: boolean, description: G.}",
            ),
            code,
            10,
            message,
            remedy,
        )
        for label, incremental, name, value, code, message, remedy in [
            (
                "unknown",
                "key",
                "sequence",
                "[amout]",
                "contract-column-unknown",
                "The sequence names the column amout, which the contract does not declare.",
                "Did you mean amount?",
            ),
            (
                "boolean",
                "key",
                "sequence",
                "[amount, gone]",
                "contract-sequence-type",
                "The sequence names gone, a boolean that does not tell which row is newer.",
                "Name a column of whole numbers, decimals, dates, times or text.",
            ),
            (
                "no-merge",
                "partition",
                "sequence",
                "[amount]",
                "contract-merge-rule",
                "The sequence says how rows are merged, but the writeMode is overwrite.",
                "Remove sequence, or declare incremental: key, of a product with a source writeMode: merge.",
            ),
            (
                "strategy-no-merge",
                "append",
                "mergeStrategy",
                "copy-on-write",
                "contract-merge-rule",
                "The mergeStrategy says how rows are merged, but the writeMode is append.",
                "Remove mergeStrategy, or declare incremental: key, of a product with a source writeMode: merge.",
            ),
            (
                "strategy",
                "key",
                "mergeStrategy",
                "fast",
                "contract-custom-value",
                "The custom property mergeStrategy has the value 'fast', which is not one of auto, merge-on-read, copy-on-write.",
                "Give it a value that docs/contracts.md lists.",
            ),
            (
                "marker-unknown",
                "key",
                "deleteMarker",
                "gon",
                "contract-column-unknown",
                "The deleteMarker names the column gon, which the contract does not declare.",
                "Did you mean gone?",
            ),
            (
                "marker-no-boolean",
                "key",
                "deleteMarker",
                "shop",
                "contract-delete-marker-type",
                "The deleteMarker names shop without a value, though it is a string.",
                "Name a boolean column, or write column=value with a value of its type.",
            ),
            (
                "marker-value",
                "key",
                "deleteMarker",
                "day=yesterday",
                "contract-delete-marker-type",
                "The deleteMarker names day by the value yesterday, which cannot be one of a date.",
                "Name a boolean column, or write column=value with a value of its type.",
            ),
            (
                "marker-half",
                "key",
                "deleteMarker",
                "'shop='",
                "contract-custom-value",
                "The custom property deleteMarker has the value 'shop=', which is neither a column nor column=value.",
                "Write e.g. is_deleted or op=d.",
            ),
        ]
    ),
    (
        "merge-rule-without-key",
        changed(
            TABLE.replace("primaryKey: true, primaryKeyPosition: 1, ", "").replace("primaryKey: true, primaryKeyPosition: 2, ", ""),
            "    properties:",
            "    customProperties:\n"
            "      - {property: incremental, value: key}\n"
            "      - {property: incrementalKey, value: [shop]}\n"
            "      - {property: sequence, value: [day]}\n    properties:",
        ),
        "contract-merge-without-key",
        13,
        "The sequence tells rows of one key apart, but no column is a primaryKey.",
        "Mark the columns that identify a row with primaryKey: true.",
    ),
    (
        "event-time",
        changed(
            STREAM,
            "    properties:\n      - {name: _s",
            "    customProperties: [{property: eventTime, value: order_id}]\n    properties:\n      - {name: _s",
        ),
        "contract-event-time-type",
        16,
        "The eventTime order_id is an integer, which is no point in time.",
        "Name a column of logicalType timestamp.",
    ),
    (
        "dedupe-key",
        changed(STREAM, "{name: id, ", "{name: uid, "),
        "contract-column-unknown",
        14,
        "The dedupeKey names the column meta.id, which the contract does not declare.",
        "Did you mean meta.uid?",
    ),
    (
        "source-kind",
        changed(STREAM, "value: stream}", "value: streem}"),
        "contract-custom-value",
        11,
        "The custom property source has the value 'streem', which is not one of stream, files, xml_dump, sql_dump, database, http, "
        "platform.",
        "Give it a value that docs/contracts.md lists.",
    ),
    (
        "host",
        changed(STREAM, "    type: custom\n", "    type: custom\n    host: kafka.example.org\n"),
        "contract-place-in-server",
        10,
        "The server events names a host, which is the profile's to know.",
        "Remove it; name a connection instead.",
    ),
    (
        "severity",
        changed(TABLE, "mustBeGreaterThan: 0", "mustBeGreaterThan: 0, severity: fatal"),
        "contract-check-severity",
        15,
        "The check some_rows has the severity fatal, which decides nothing.",
        "Use error (blocks publication) or warning.",
    ),
    (
        "check-column",
        changed(TABLE, "metric: rowCount, mustBeGreaterThan: 0", "metric: nullValues, mustBe: 0"),
        "contract-check-column",
        15,
        "The check some_rows measures nullValues, which needs a column.",
        "Move it to the quality of that column.",
    ),
    (
        "check-argument",
        changed(TABLE, "metric: rowCount,", "metric: duplicateValues, arguments: {propertys: [day], properties: [day]},"),
        "contract-check-argument",
        15,
        "The check some_rows has the argument propertys, which duplicateValues does not take.",
        "Did you mean properties?",
    ),
    (
        "check-scope",
        STREAM + "    quality: [{name: n, metric: rowCount, mustBe: 1, customProperties: [{property: scope, value: table}]}]\n",
        "contract-check-scope",
        28,
        "The check n has table scope on a stream, which runs by cadence and cannot block.",
        "Give it severity: warning, or the scope commit.",
    ),
    (
        "description",
        changed(TABLE, ", description: Shop.}", "}"),
        "contract-description-missing",
        12,
        "The contract is active but shop has no description.",
        "Add a description.",
    ),
    (
        "retention",
        TABLE + "slaProperties: [{property: retention, value: 3, unit: fortnights}]\n",
        "contract-sla-value",
        16,
        "The promise retention is 3 fortnights, which has the unknown unit 'fortnights'.",
        "Write e.g. value: 5, unit: minutes.",
    ),
    (
        "owner",
        TABLE + "team: {members: [{username: jdoe, role: owner}]}\n",
        "owner-invalid",
        16,
        "The owner 'jdoe' is neither an e-mail address that Dagster takes nor a team.",
        "Write an address with a top-level domain of 2 to 7 letters, such as a@example.org, or team:name.",
    ),
    (
        "stream-merge",
        changed(
            STREAM,
            "    properties:\n      - {name: _s",
            "    customProperties: [{property: writeMode, value: merge}]\n    properties:\n      - {name: _s",
        ),
        "contract-write-mode",
        16,
        "A stream is appended to, but the writeMode is merge.",
        "Remove writeMode, and derive a product that merges.",
    ),
    *(
        (
            f"{write_mode}-of-{incremental}",
            changed(
                TABLE,
                "    properties:",
                "    customProperties:\n"
                f"      - {{property: incremental, value: {incremental}}}\n"
                f"      - {{property: writeMode, value: {write_mode}}}\n    properties:",
            ),
            "contract-write-mode",
            12,
            f"The writeMode is {write_mode}, but a product that is incremental: {incremental} is written by {fits}.",
            f"Remove writeMode, or declare incremental: {instead}.",
        )
        for incremental, write_mode, fits, instead in [
            ("append", "merge", "append", "key"),
            ("full", "merge", "overwrite", "key"),
            ("key", "overwrite", "merge", "partition or full"),
            ("partition", "append", "overwrite", "append"),
        ]
    ),
    (
        "pattern-of-no-gate",
        changed(STREAM, "{name: id, logicalType: string,", "{name: id, logicalType: string, logicalTypeOptions: {pattern: 'a('},"),
        "contract-event-schema",
        23,
        'The event schema of meta.id is no JSON Schema: "a(" is not a "regex".',
        "Mend its logicalTypeOptions, eventSchema or additionalProperties.",
    ),
    (
        "event-schema-elsewhere",
        changed(
            STREAM,
            "    properties:\n      - {name: _s",
            "    customProperties: [{property: eventSchema, value: {$ref: '#/definitions/x'}}]\n    properties:\n      - {name: _s",
        ),
        "contract-event-schema",
        16,
        "The event schema of the whole event is no JSON Schema: Pointer '/definitions/x' does not exist.",
        "Mend its logicalTypeOptions, eventSchema or additionalProperties.",
    ),
]

COLUMNS = """\
      - {name: flag, logicalType: boolean, description: F.}
      - {name: at, logicalType: timestamp, description: A.}
      - {name: clock, logicalType: time, description: C.}
      - {name: blob, logicalType: string, physicalType: binary, description: B.}
      - {name: labels, logicalType: array, description: L., items: {logicalType: string}}
"""
RE2 = "Write it without lookaround and back-references, or as type: sql."
ARGUMENTS = [
    ("shop", "invalidValues", "pattern: 'a('", "the pattern 'a(' of shop, which is no regular expression of RE2 (missing ): a()", RE2),
    (
        "shop",
        "invalidValues",
        "pattern: '(?=a)b'",
        "the pattern '(?=a)b' of shop, which is no regular expression of RE2 (invalid perl operator: (?=)",
        RE2,
    ),
    ("shop", "invalidValues", "pattern: 3", "the pattern 3 of shop, which is no regular expression", "Put it in quotes."),
    ("amount", "invalidValues", "pattern: a", "the pattern 'a' of amount, but a decimal(18,2) is no text", "Write the rule as type: sql."),
    (
        "shop",
        "invalidValues",
        "minimum: 5",
        "the minimum 5 of shop, but a string has no order to bound",
        "Use validValues, pattern, minLength or maxLength.",
    ),
    ("flag", "invalidValues", "maximum: 5", "the maximum 5 of flag, but a boolean has no order to bound", "Remove it."),
    ("amount", "invalidValues", "minimum: '5'", "the minimum '5' of amount, which is no number", "Write a number, without quotes."),
    ("amount", "invalidValues", "minimum: .inf", "the minimum inf of amount, which is no number", "Write a number, without quotes."),
    ("day", "invalidValues", "minimum: yesterday", "the minimum 'yesterday' of day, which is no date", "Write e.g. '2024-01-31'."),
    (
        "at",
        "invalidValues",
        "minimum: '2024-02-30'",
        "the minimum '2024-02-30' of at, which is no timestamp",
        "Write e.g. '2024-01-31T13:30:00Z'.",
    ),
    ("shop", "invalidValues", "maxLength: -1", "the maxLength -1 of shop, which is no length", "Write a whole number of characters."),
    (
        "amount",
        "invalidValues",
        "minLength: 1",
        "the minLength 1 of amount, but a decimal(18,2) has no length",
        "Write the rule as type: sql.",
    ),
    (
        "shop",
        "invalidValues",
        "validValues: north",
        "the validValues 'north' of shop, which is no list",
        "Write it in brackets, e.g. [a, b].",
    ),
    (
        "shop",
        "invalidValues",
        "validValues: [a, 5]",
        "the validValues ['a', 5] of shop, but 5 is no value of a string column",
        "Put it in quotes.",
    ),
    (
        "amount",
        "invalidValues",
        "validValues: ['5']",
        "the validValues ['5'] of amount, but '5' is no value of a decimal(18,2) column",
        "Write a number, without quotes.",
    ),
    (
        "flag",
        "invalidValues",
        "validValues: [1]",
        "the validValues [1] of flag, but 1 is no value of a boolean column",
        "Write true or false.",
    ),
    (
        "at",
        "invalidValues",
        "validValues: [2024-01-01]",
        "the validValues ['2024-01-01'] of at, but '2024-01-01' is no value of a timestamp column",
        "Use minimum and maximum.",
    ),
    (
        "blob",
        "invalidValues",
        "validValues: [eA==]",
        "the validValues ['eA=='] of blob, but 'eA==' is no value of a binary column",
        "Write the rule as type: sql.",
    ),
    (
        "shop",
        "missingValues",
        "missingValues: N/A",
        "the missingValues 'N/A' of shop, which is no list",
        "Write it in brackets, e.g. [a, b].",
    ),
    (
        "shop",
        "missingValues",
        "missingValues: [{a: 1}]",
        "the missingValues [{'a': 1}] of shop, but {'a': 1} is no value of a string column",
        "Put it in quotes.",
    ),
    (
        "shop",
        "duplicateValues",
        "properties: shop",
        "the properties 'shop' of shop, which is no list of columns",
        "Write e.g. properties: [shop, day].",
    ),
]
FITTING = [
    ("shop", "invalidValues", "{pattern: '^a+$', minLength: 1, maxLength: 9, validValues: [a, null]}"),
    ("amount", "invalidValues", "{minimum: 0, maximum: 1.5e+3, validValues: [1, 2.5]}"),
    ("day", "invalidValues", "{minimum: 2024-01-01, validValues: [2024-01-31]}"),
    ("at", "invalidValues", "{minimum: 2024-01-01, maximum: '2024-01-31T13:30:00.5+01:00'}"),
    ("clock", "invalidValues", "{minimum: '08:00:00'}"),
    ("flag", "invalidValues", "{validValues: [true]}"),
    ("amount", "missingValues", "{missingValues: [null, '', -1]}"),
    ("labels", "missingValues", "{missingValues: [null, '']}"),
    ("day", "duplicateValues", "{properties: [day, shop]}"),
]


def with_check(column: str, metric: str, arguments: str) -> str:
    """TABLE and COLUMNS with a check on one column, its arguments on a line of their own."""
    text = changed(TABLE, "    quality:\n", COLUMNS + "    quality:\n")
    (line,) = [line for line in text.splitlines() if line.startswith(f"      - {{name: {column},")]
    return changed(text, line, f"{line[:-1]}, quality: [{{metric: {metric}, mustBe: 0,\n        arguments: {arguments}}}]}}")


@pytest.mark.parametrize(("text", "code", "line", "message", "remedy"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_wrong_contract_is_refused_with_one_clear_sentence(
    read: Read, text: str, code: str, line: int, message: str | None, remedy: str
) -> None:
    name = "orders" if "shop.orders\n" in text else "sales"
    contract, problems = read(text, name)
    errors = [problem for problem in problems if problem.severity == "error"]
    assert contract is None
    assert [problem.code for problem in errors] == [code], [str(problem) for problem in errors]
    assert errors[0].file == f"data_products/shop/{name}.yaml"
    assert (errors[0].line, errors[0].remedy) == (line, remedy)
    assert message is None or errors[0].message == message


@pytest.mark.parametrize(("column", "metric", "argument", "fault", "remedy"), ARGUMENTS, ids=[f"{case[0]}-{case[2]}" for case in ARGUMENTS])
def test_an_argument_that_does_not_fit_its_column_is_refused(
    read: Read, column: str, metric: str, argument: str, fault: str, remedy: str
) -> None:
    text = with_check(column, metric, f"{{{argument}}}")
    contract, problems = read(text)
    assert contract is None
    assert [(p.code, p.message, p.remedy) for p in problems] == [
        ("contract-check-argument", f"The check {column}_{metric} has {fault}.", remedy)
    ]
    assert argument in text.splitlines()[problems[0].line - 1]


@pytest.mark.parametrize(("column", "metric", "arguments"), FITTING)
def test_what_fits_is_read_and_runs(read: Read, column: str, metric: str, arguments: str) -> None:
    contract, problems = read(with_check(column, metric, arguments))
    assert contract is not None and problems == []
    assert unfit_checks(contract) == []


@pytest.mark.parametrize("threshold", ["[1]", "[]", ".nan", ".inf", "'0'"])
def test_a_threshold_is_a_number(read: Read, threshold: str) -> None:
    _, problems = read(changed(TABLE, "mustBeGreaterThan: 0", f"mustBe: {threshold}"))
    assert [(p.code, p.line) for p in problems] == [("contract-check-threshold", 15)]


def test_a_lookahead_that_the_gate_knows_is_not_taken_for_a_check(read: Read) -> None:
    text = changed(
        TABLE,
        "description: Shop.",
        "description: Shop., logicalTypeOptions: {pattern: '^(?!x)'}, quality: [{metric: invalidValues, mustBe: 0}]",
    )
    _, problems = read(text)
    assert [(p.code, p.line) for p in problems] == [("contract-check-argument", 12)]


def test_a_check_inside_a_list_is_refused_wherever_it_is_named(read: Read) -> None:
    text = changed(
        TABLE,
        "    quality:\n",
        COLUMNS + "    quality:\n      - {metric: duplicateValues, mustBe: 0, arguments: {properties: [labels.element]}}\n",
    )
    _, problems = read(text)
    assert [p.code for p in problems] == ["contract-check-nested"]


def test_the_contracts_that_the_cases_change_are_sound(read: Read) -> None:
    for text in (STREAM, TABLE):
        contract, problems = read(text)
        assert contract is not None and problems == []


def test_a_misspelt_custom_property_of_ours_warns_with_the_close_match(read: Read) -> None:
    text = changed(TABLE, "    properties:", "    customProperties: [{property: sortOrdr, value: [shop]}]\n    properties:")
    contract, problems = read(text)
    assert contract is not None
    assert [(p.severity, p.code, p.remedy) for p in problems] == [("warning", "contract-custom-unknown", "Did you mean sortOrder?")]


def test_another_tools_custom_property_passes_unread(read: Read) -> None:
    text = changed(
        TABLE,
        "    properties:",
        "    customProperties: [{property: writeMod, value: 1, vendor: acme}, {property: dbtModel, value: x}]\n    properties:",
    )
    contract, problems = read(text)
    assert contract is not None and problems == []


def test_a_custom_property_in_the_wrong_place_says_where_it_belongs(read: Read) -> None:
    text = changed(TABLE, "description: Shop.", "description: Shop., customProperties: [{property: writeMode, value: merge}]")
    _, problems = read(text)
    assert [(p.code, p.line, p.remedy) for p in problems] == [("contract-custom-misplaced", 12, "Move it to the table.")]


def test_missing_descriptions_only_warn_while_a_draft(read: Read) -> None:
    text = changed(changed(TABLE, ", description: Shop.}", "}"), "status: active", "status: draft")
    contract, problems = read(text)
    assert contract is not None
    assert [(p.severity, p.line, p.message) for p in problems] == [("warning", 12, "1 description is missing: shop.")]


def test_dates_stay_text_and_numbers_numbers(read: Read) -> None:
    text = changed(TABLE, "description: Shop.", "description: Shop., enum: [{value: 2024-01-01}, {value: north}]")
    contract, _ = read(text)
    assert contract is not None and contract.column("shop").enum == ("2024-01-01", "north")
