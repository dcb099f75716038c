"""`sdp check`: every problem with file and line, one exit status."""

from __future__ import annotations

import json
import subprocess

from platform_resources.workspace import entry_text
from tests.cli.conftest import Project, reading


def _weather(project: Project) -> Project:
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    sample = project.events("readings.ndjson", [reading(1)])
    project.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    return project


def _codes(project: Project) -> dict[str, dict[str, object]]:
    result = project.sdp("check", "--json")
    document = json.loads(result.stdout)
    errors = [problem for problem in document["problems"] if problem["severity"] == "error"]
    assert document["ok"] == (not errors) == (result.exit_code == 0)
    return {problem["code"]: problem for problem in errors}


def test_problems_carry_file_line_code_message_and_remedy(project: Project) -> None:
    _weather(project)
    path = project.path / "data_products/weather/reading.yaml"
    path.write_text(path.read_text().replace("logicalType: number", "logicalType: nmber"))
    found = _codes(project)
    (problem,) = found.values()
    assert problem["file"] == "data_products/weather/reading.yaml"
    assert path.read_text().splitlines()[int(str(problem["line"])) - 1].strip() == "logicalType: nmber"
    assert problem["message"]
    assert problem["remedy"]
    assert project.refused("check") == "1 error in 1 file. Mend them and check again. [check-failed]"


def test_a_broken_transform_is_a_problem_of_its_file(project: Project) -> None:
    _weather(project)
    project.ok("new", "product", "weather/daily", "--sql", "select station, count(*) as readings from weather.reading group by all")
    project.write(
        "data_products/weather/daily.sql", "select station,\n  count(statoin) as readings\nfrom weather.reading group by station\n"
    )
    problem = _codes(project)["sql-unknown-column"]
    assert (problem["file"], problem["line"]) == ("data_products/weather/daily.sql", 2)


def test_registration_and_folders_must_agree(project: Project) -> None:
    _weather(project)
    workspace = project.path / "workspace.yaml"
    registered = workspace.read_text()
    workspace.write_text("load_from:\n")
    assert _codes(project)["domain-unregistered"]["file"] == "data_products/weather/domain.yaml"
    workspace.write_text(registered + entry_text("ghost"))
    assert _codes(project)["location-without-folder"]["line"] == len(registered.splitlines()) + 1
    workspace.write_text(registered + entry_text("weather").replace("location_name: weather", "location_name: twin"))
    assert "twin" in str(_codes(project)["location-twice"]["message"])
    workspace.write_text(registered)
    (project.path / "data_products/weather/definitions.py").unlink()
    assert "data_products.weather.definitions" in str(_codes(project)["location-without-module"]["message"])


def test_a_breaking_change_of_an_active_product_fails_against_its_past(project: Project) -> None:
    _weather(project)
    path = project.path / "data_products/weather/reading.yaml"
    text = path.read_text().replace("status: draft", "status: active")
    lines = [line for text_line in text.splitlines() for line in _described(text_line)]
    path.write_text("\n".join(lines) + "\n")
    assert project.json("check")["problems"] == []

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=project.path, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    assert project.json("check", "--against", "HEAD")["ok"]
    path.write_text(path.read_text().replace("logicalType: number", "logicalType: string"))
    assert project.json("check")["ok"]
    said = project.sdp("check", "--against", "HEAD", "--json")
    assert said.exit_code == 1
    document = json.loads(said.stdout)
    assert any("temperature" in problem["message"] for problem in document["problems"]), document
    assert project.refused("check", "--against", "no-such-ref")


def _described(line: str) -> list[str]:
    """A description under each column name."""
    name = line.strip().removeprefix("- name: ")
    if line.strip().startswith("- name: "):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        return [line, f"{indent}description: What {name} is."]
    return [line]


MARKED = "from platform_resources import data_product\n\n\n@data_product(inputs={{}})\ndef {name}():\n    return 1\n"


def test_a_transform_without_a_contract_is_told_and_takes_nothing_down(project: Project) -> None:
    _weather(project)
    project.write("data_products/weather/lonely.sql", "select 1")
    project.write("data_products/weather/alone.py", MARKED.format(name="alone"))
    project.write("data_products/weather/units.py", "def kelvin(celsius): return celsius + 273.15\n")
    result = project.sdp("check", "--json")
    told = [(problem["file"], problem["code"]) for problem in json.loads(result.stdout)["problems"] if problem["severity"] == "error"]
    assert told == [(f"data_products/weather/{name}", "transform-without-contract") for name in ("alone.py", "lonely.sql")]
    for name in ("lonely", "alone"):
        assert "[transform-without-contract]" in project.refused("run", f"weather/{name}")
    assert project.json("ingest", "weather/reading")["status"] == "success"


def test_errors_come_last_next_to_the_prompt(project: Project) -> None:
    _weather(project)
    project.write("data_products/weather/alone.sql", "select 1")
    lines = project.sdp("check").stdout.splitlines()
    assert "warning" in lines[0]
    assert lines[-1].endswith("[transform-without-contract]")
