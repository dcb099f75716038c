"""workspace.yaml: read with lines, extended without touching a byte of the rest."""

from __future__ import annotations

import difflib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_resources.errors import PlatformError
from platform_resources.workspace import entry_text, find_location, read_locations, register

STYLES = {
    "plain": "load_from:\n" + entry_text("alpha"),
    "comments": "# top\nload_from:  # why\n  # alpha's\n" + entry_text("alpha") + "  # the last word\n\n# end\n",
    "no newline at the end": ("load_from:\n" + entry_text("alpha")).rstrip("\n"),
    "dash in the first column": "load_from:\n" + entry_text("alpha", ""),
    "short form": "load_from:\n    - python_module: data_products.alpha.definitions\n",
    "more keys after": "load_from:\n" + entry_text("alpha") + "other: 1\n",
    "nothing in it": "load_from:\n",
    "empty": "",
    "only comments": "# nothing\n",
    "null": "load_from: null\nother: 1\n",
}


@pytest.mark.parametrize("text", STYLES.values(), ids=STYLES.keys())
def test_a_new_domain_is_added_and_all_else_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "workspace.yaml"
    path.write_text(text)
    before = [location.domain for location in read_locations(tmp_path)]
    assert register(tmp_path, "beta")
    assert [location.domain for location in read_locations(tmp_path)] == [*before, "beta"]
    changes = [line for line in difflib.ndiff(text.splitlines(), path.read_text().splitlines()) if line[0] in "+-"]
    assert all(line[2:].startswith("load_from") for line in changes if line[0] == "-")
    assert len([line for line in changes if line[0] == "+" and "load_from" not in line]) == 4
    assert not register(tmp_path, "beta")


@given(names=st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), unique=True, max_size=6))
def test_domains_come_back_in_the_order_they_were_registered(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("w")
    (folder / "workspace.yaml").write_text("load_from:\n")
    for name in names:
        register(folder, name)
    assert [location.name for location in read_locations(folder)] == names


def test_two_at_once_both_get_in(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text("load_from:\n")
    threads = [threading.Thread(target=register, args=(tmp_path, f"d{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {location.name for location in read_locations(tmp_path)} == {f"d{number}" for number in range(12)}
    assert [file.name for file in tmp_path.iterdir()] == ["workspace.yaml"]


def test_a_location_knows_its_folder_and_line(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text("# one\nload_from:\n" + entry_text("alpha"))
    location = find_location(tmp_path, "alpha")
    assert (location.module, location.line, location.folder) == ("data_products.alpha.definitions", 3, tmp_path / "data_products" / "alpha")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("load_from: [", "workspace.yaml:1: workspace.yaml is not YAML: expected the node content, but found '<stream end>'. Mend the line."),  # noqa: E501
        ("- 1\n", "workspace.yaml:1: workspace.yaml is no mapping. Begin it with `load_from:`."),
        ("load_from: yes\n", "workspace.yaml:1: load_from is no list. Write one entry per domain under it, each beginning with a dash."),
        ("load_from:\n  - grpc_server: {port: 1}\n", "workspace.yaml:2: An entry of load_from is no python_module with a module_name. Write it as `sdp new domain` does."),  # noqa: E501
        ("load_from:\n" + entry_text("a") + entry_text("a"), "workspace.yaml:6: The location a stands here and in line 2. Remove one of the two entries."),  # noqa: E501
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "workspace.yaml").write_text(text)
    with pytest.raises(PlatformError) as caught:
        read_locations(tmp_path)
    assert str(caught.value).replace(f"{tmp_path}/", "") == sentence
    assert caught.value.code == "workspace-invalid"


def test_a_list_in_one_line_is_not_torn_apart(tmp_path: Path) -> None:
    text = "load_from: [{python_module: data_products.a.definitions}]\n"
    (tmp_path / "workspace.yaml").write_text(text)
    with pytest.raises(PlatformError, match="load_from is written in one line"):
        register(tmp_path, "beta")
    assert (tmp_path / "workspace.yaml").read_text() == text


def test_an_unregistered_domain_is_named(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text("load_from:\n")
    with pytest.raises(PlatformError) as caught:
        find_location(tmp_path, "gamma")
    assert caught.value.code == "domain-unregistered"
