"""`sdp new`: draft a domain or a product. Writes files that `sdp check` accepts, registers domains, overwrites nothing."""

from __future__ import annotations

import json
import keyword
import os
import re
import shutil
from pathlib import Path
from typing import Any

import click
import yaml

from platform_resources.cli.output import Command, answer, json_option
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.people import OWNER_REMEDY, is_owner
from platform_resources.contracts.registry import Registry, normal_key
from platform_resources.errors import PlatformError
from platform_resources.workspace import register

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
DEFINITIONS = '''"""The code location of the domain {name}: what its contracts and transforms compile to."""

from data_products.assembly import domain_definitions

defs = domain_definitions(__package__)
'''


@click.group("new")
def new_command() -> None:
    """Draft a new domain or product; nothing that exists is overwritten."""


@new_command.command("domain", cls=Command, writes_home=False)
@click.argument("name")
@click.option("--owner", "owners", multiple=True, required=True, metavar="OWNER", help="An address or team:name; may be repeated.")
@click.option("--support", metavar="ADDRESS", help="Where alerts go; default: the first owner that is an address.")
@click.option("--title", help="What people call the domain; default: its name.")
@json_option
def new_domain(name: str, owners: tuple[str, ...], support: str | None, title: str | None, as_json: bool) -> None:
    """Make the folder data_products/NAME with its team, and register it in workspace.yaml.

    A running platform takes it in by itself.
    """
    settings = load_settings()
    _require_name(name, "domain")
    for owner in owners:
        if not is_owner(owner):
            raise PlatformError(
                "owner-invalid", f"The owner {owner} is neither an e-mail address that Dagster takes nor a team.", OWNER_REMEDY
            )
    folder = settings.project / "data_products" / name
    if folder.exists() or folder.with_suffix(".py").exists():
        raise PlatformError("domain-exists", f"There is already a data_products/{name}.", "Choose another name, or edit what is there.")
    address = support or next((owner for owner in owners if "@" in owner), None)
    document: dict[str, Any] = {"name": name, "title": title or name.replace("_", " ").capitalize(), "owners": list(owners)}
    if address:
        document["support"] = [{"channel": address, "tool": "email", "scope": "notifications"}]
    texts = {
        "__init__.py": f'"""The domain {name}."""\n',
        "definitions.py": DEFINITIONS.format(name=name),
        "domain.yaml": yaml.safe_dump(document, sort_keys=False, allow_unicode=True),
    }
    _make_folder(folder, texts)
    register(settings.project, name)
    files = [str(Path("data_products", name, file)) for file in texts] + ["workspace.yaml"]
    _tell(files, f"Next: sdp new product {name}/PRODUCT --from-sample FILE", as_json=as_json, domain=name)


@new_command.command("product", cls=Command, writes_home=False)
@click.argument("product")
@click.option(
    "--from-event-schema",
    "schema_file",
    type=click.Path(),
    metavar="FILE",
    help="A stream, from the JSON Schema of its events (JSON or YAML).",
)
@click.option(
    "--from-sample",
    "sample_file",
    type=click.Path(),
    metavar="FILE|CONNECTION:PLACE",
    help="From a sample: a stream from newline-delimited JSON; what lands from CSV, TSV, JSON, Parquet, an XML or SQL dump (.gz too), or "
    "from a connection's table or API: shop:public.orders, grants:/api/v2/grants.",
)
@click.option("--lands", is_flag=True, help="With --from-sample: newline-delimited JSON too is files that land, no stream.")
@click.option("--sql", "sql", metavar="QUERY|FILE", help="A derived product, from a query or a file with one.")
@click.option("--python", "python", is_flag=True, help="A derived product made by a Python function over the products of --from.")
@click.option("--from", "inputs", metavar="D/P[,D/P]", help="With --python: the products that the function reads.")
@click.option("--stream", help="The stream's name; default: what the schema or sample says, else domain.product.")
@json_option
def new_product(
    product: str,
    schema_file: str | None,
    sample_file: str | None,
    lands: bool,
    sql: str | None,
    python: bool,
    inputs: str | None,
    stream: str | None,
    as_json: bool,
) -> None:
    """Draft PRODUCT (domain/product): of a stream or of what lands from a schema or a sample, of a derived one from its query or inputs.

    A stream needs nothing more: `sdp produce` and `sdp ingest` work at once. A drafted function passes the rows of its first input
    through: `sdp run` works at once, and you write on from there.
    """
    given = [value for value in (schema_file, sample_file, sql, python or None) if value is not None]
    if len(given) != 1:
        raise click.UsageError("Give exactly one of --from-event-schema, --from-sample, --sql and --python.")
    if python != (inputs is not None):
        raise click.UsageError("--python and --from go together: --python --from DOMAIN/PRODUCT[,DOMAIN/PRODUCT].")
    if stream is not None and (sql is not None or python):
        raise click.UsageError("A derived product has no --stream.")
    settings = load_settings()
    domain, name, folder = _place(settings, product)
    server = _server(sample_file)
    lands = sample_file is not None and (lands or server is not None or _lands(sample_file))
    if lands and stream is not None:
        raise click.UsageError("A product that lands has no --stream.")
    if schema_file is not None:
        texts = {f"{name}.yaml": _from_schema(Path(schema_file), domain, name, stream)}
    elif server is not None:
        from platform_resources.landing.server_samples import draft_from_server

        texts = {f"{name}.yaml": draft_from_server(*server, domain=domain, product=name, settings=settings)}
    elif sample_file is not None and lands:
        from platform_resources.landing.sampling import draft_from_file

        texts = {f"{name}.yaml": draft_from_file(Path(sample_file), domain=domain, product=name)}
    elif sample_file is not None:
        texts = {f"{name}.yaml": _from_sample(sample_file, domain, name, stream)}
    elif inputs is not None:
        texts = _from_inputs(inputs, domain, name, Registry.load(settings.project))
    else:
        texts = _from_query(sql or "", domain, name, Registry.load(settings.project))
    _write(settings, folder, texts, f"{domain}/{name}")
    contract = Registry.load(settings.project).get(f"{domain}/{name}")
    source = contract.source.stream if contract.source else None
    hint = f"Next: sdp ingest {contract.key}" if server is not None else _next(contract, settings, sample_file)
    _tell([str(Path("data_products", domain, file)) for file in texts], hint, as_json=as_json, product=contract.key, stream=source)


def _require_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise PlatformError(
            f"{what}-name",
            f"{name!r} is no name for a {what}.",
            "Use lower-case letters, digits and single underscores, a letter first, no Python keyword.",
        )


def _place(settings: Settings, product: str) -> tuple[str, str, Path]:
    """Domain, name and folder of a product that does not exist yet."""
    domain, mark, name = product.partition("/")
    if not mark:
        raise PlatformError("product-name", f"{product!r} names no domain.", "Write domain/product.")
    _require_name(domain, "domain")
    _require_name(name, "product")
    folder = settings.project / "data_products" / domain
    if not (folder / "domain.yaml").is_file():
        raise PlatformError("domain-unknown", f"There is no domain {domain}.", f"Make it with `sdp new domain {domain} --owner ADDRESS`.")
    for suffix in (".yaml", ".sql", ".py"):
        if (folder / f"{name}{suffix}").exists():
            raise PlatformError(
                "product-exists", f"There is already a data_products/{domain}/{name}{suffix}.", "Choose another name, or edit that file."
            )
    return domain, name, folder


def _from_schema(path: Path, domain: str, name: str, stream: str | None) -> str:
    from platform_resources.contracts.drafting import draft_from_event_schema

    text = _text(path)
    try:
        schema = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise PlatformError(
            "event-schema-malformed", f"It is neither JSON nor YAML: {' '.join(str(error).split())}.", "Mend it.", file=path
        ) from None
    if not isinstance(schema, dict):
        raise PlatformError(
            "event-schema-malformed", "It is no JSON Schema: its top level is no object.", "Give the schema of one event.", file=path
        )
    return draft_from_event_schema(schema, domain=domain, product=name, stream=stream)


def _from_sample(file: str, domain: str, name: str, stream: str | None) -> str:
    from platform_resources.cli.events import opened
    from platform_resources.contracts.drafting import draft_from_sample

    with opened(file) as lines:
        return draft_from_sample(lines, domain=domain, product=name, stream=stream)


def _server(sample: str | None) -> tuple[str, str] | None:
    """Connection and place of a sample that a server is to give; None of a file."""
    from platform_resources.landing.server_samples import server_sample

    return None if sample is None or Path(sample).exists() else server_sample(sample)


def _next(contract: Contract, settings: Settings, sample: str | None) -> str:
    """What to type now, and a word where a sample of records was taken for one of events."""
    if contract.lands and contract.source is not None:
        return f"Next: drop files as {settings.drop_path / contract.domain}/{contract.source.path}, then sdp ingest {contract.key}"
    if contract.source is None:
        return f"Next: sdp run {contract.key}"
    hint = f"Next: sdp produce {contract.source.stream} FILE, then sdp ingest {contract.key}"
    if sample is None or _has_envelope(sample):
        return hint
    return f"{hint}\nThe records have no $schema, which an event needs. Are they files to land? Remove the draft, and add --lands."


def _has_envelope(file: str) -> bool:
    """Whether the first record of a sample is an event by its looks; a pipe is read once, so it is taken for one."""
    if not Path(file).is_file():
        return True
    with Path(file).open("rb") as lines:
        return b'"$schema"' in next((line for line in lines if line.strip()), b"")


def _lands(file: str) -> bool:
    """Whether a sample is of files that land, told by its name; newline-delimited JSON is taken for events."""
    from platform_resources.contracts.sources import kind_and_format

    kind, form = kind_and_format(file)
    return kind in ("xml_dump", "sql_dump") or form not in (None, "ndjson")


def _from_query(sql: str, domain: str, name: str, registry: Registry) -> dict[str, str]:
    from platform_resources.engines.query_drafting import draft_from_query

    is_file = sql.endswith(".sql") and not any(mark in sql for mark in "\n;")
    text = _text(Path(sql)) if is_file else sql
    contract = draft_from_query(text, domain=domain, product=name, registry=registry)
    return {f"{name}.sql": text if text.endswith("\n") else f"{text}\n", f"{name}.yaml": contract}


def _from_inputs(inputs: str, domain: str, name: str, registry: Registry) -> dict[str, str]:
    from platform_resources.contracts.drafting import draft_python

    keys = dict.fromkeys(normal_key(key.strip()) for key in inputs.split(","))
    function, contract = draft_python([registry.get(key) for key in keys], domain=domain, product=name)
    return {f"{name}.py": function, f"{name}.yaml": contract}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PlatformError("file-unreadable", f"The file {path} cannot be read: {reason}.", "Name a file that exists.") from None


def _make_folder(folder: Path, texts: dict[str, str]) -> None:
    """The folder with all of its files, or nothing: a platform that watches must not see half a domain."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        for file, text in texts.items():
            (draft / file).write_text(text, encoding="utf-8")
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise PlatformError(
            "project-unwritable", f"{folder} cannot be made: {error.strerror}.", "Work in a project that you may write."
        ) from None


def _write(settings: Settings, folder: Path, texts: dict[str, str], key: str) -> None:
    """The files, the contract last; taken back when the draft would not pass, so that a failed `sdp new` leaves nothing behind.

    Raises:
        PlatformError: `draft-refused` with the first thing wrong.
    """
    written: list[Path] = []
    try:
        for file, text in texts.items():
            path = folder / file
            with path.open("x", encoding="utf-8") as out:  # refuses a file that came into being since we looked
                written.append(path)
                out.write(text)
        registry = Registry.load(settings.project)
        errors = [problem for problem in registry.problems_of(key) if problem.severity == "error"]
        if errors or key not in registry.contracts:
            first = errors[0] if errors else None
            said = f"{first.message} {first.remedy}" if first else f"The domain of {key} has a problem of its own: `sdp check` shows it."
            raise PlatformError("draft-refused", f"No contract that holds can be drafted for {key}: {said}", "Nothing was written.")  # noqa: TRY301
    except FileExistsError as error:
        raise PlatformError("product-exists", f"There is already a {error.filename}.", "Choose another name.") from None
    except PlatformError:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _tell(files: list[str], hint: str, *, as_json: bool, **facts: Any) -> None:
    def draw(console: Any) -> None:
        for file in files:
            console.print(f"{'registered in' if file == 'workspace.yaml' else 'wrote'} {file}")
        console.print(hint, soft_wrap=True)

    answer({**facts, "files": files}, as_json=as_json, human=draw)
