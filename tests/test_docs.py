"""What the documents say is there: files, commands and their options, targets, addresses, dependencies.

Whether a command does what is said of it is for the tests of that command; here nothing that is named may be
missing, and of the dependencies nothing unnamed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app
from server.rest.openapi import document

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), PROJECT / "client" / "README.md"],
    key=lambda path: path.relative_to(PROJECT).as_posix(),
)
each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT).as_posix()
)


def code_of(path: Path) -> Iterator[str]:
    """Code within lines, and lines of code, which go on after a backslash."""
    text = path.read_text(encoding="utf-8")
    yield from (re.sub(r"\s+", " ", found) for found in re.findall(r"`([^`]+)`", text))
    blocks = re.sub(r"\\\n\s*", " ", text)
    yield from (line.strip().removeprefix("$ ") for line in blocks.splitlines() if line.startswith("    "))


def commands_of(path: Path) -> Iterator[list[str]]:
    """The words after `sullae`, up to whatever the shell would make of the rest."""
    for code in code_of(path):
        for found in re.findall(r"(?:^|[|&;(] *|bin/)sullae +([^#|;&>`\"')]*)", code):
            yield found.split()


def problem_of(words: list[str]) -> str:
    """What these words name that is not there."""
    command: Any = typer.main.get_command(app)
    said = "sullae"
    for word in words:
        commands = getattr(command, "commands", {})  # of a group
        if commands and re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in commands:
                return f"{said} has no command {word}"
            command, said = commands[word], f"{said} {word}"
        elif option := re.match(r"--[a-z][a-z-]*", word):
            known = [name for each in command.params for name in (*each.opts, *each.secondary_opts)]
            if option[0] not in (*known, "--help", "--version"):
                return f"{said} has no option {option[0]}"
    return ""


@each_document
def test_commands_and_options_are_there(path: Path) -> None:
    assert [problem for words in commands_of(path) if (problem := problem_of(words))] == []


def test_what_is_not_there_is_noticed() -> None:
    assert problem_of(["status", "--json"]) == ""
    assert problem_of(["cluster", "plan", "divide"]) == "sullae cluster plan has no command divide"
    assert problem_of(["status", "--nothing"]) == "sullae status has no option --nothing"
    assert any(["up"] == words[:1] for words in commands_of(PROJECT / "README.md"))


@each_document
def test_targets_of_make_are_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {name for code in code_of(path) for name in re.findall(r"(?:^|&& )make ([a-z-]+)", code)}
    assert sorted(named - targets) == []


@lru_cache(1)
def files() -> list[str]:
    """The files of the project, the hidden ones left out."""
    folders = [folder for folder in PROJECT.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
    found = [*PROJECT.glob("*"), *(file for folder in folders for file in folder.rglob("*"))]
    return [f"/{file.relative_to(PROJECT).as_posix()}" for file in found]


@each_document
def test_files_are_there(path: Path) -> None:
    named = {name for code in code_of(path) for name in re.findall(r"^[\w./-]+\.(?:py|md|yml)$", code)}
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in files())] == []


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@each_document
def test_addresses_of_the_interface_are_there(path: Path) -> None:
    patterns = [
        re.compile(
            "".join(
                "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", each)
            )
        )
        for each in document()["paths"]
    ]
    named = {
        found.rstrip("/.,")
        for code in code_of(path)
        for found in re.findall(r"(?:^|[A-Z]+ |:8080|\$\w+)(/v1/[^\s?'\"`,;)|*]+)", code)
        if "..." not in found and "[" not in found
    }
    unknown = [each for each in sorted(named) if not any(pattern.fullmatch(each) for pattern in patterns)]
    assert [each for each in unknown if not each.startswith(UNDESCRIBED)] == []


UNDESCRIBED = "/v1/admin/restore/"
"""MessagePack for `sullae snapshot` alone, and named for who writes a tool like it."""


def dependencies(project: Path) -> dict[str, str]:
    """Packages of a distribution and their ranges."""
    told = tomllib.loads(project.read_text())["project"]
    extras = told.get("optional-dependencies", {}).values()
    listed = [each for group in (told["dependencies"], *extras) for each in group]
    split = [re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?(.*)", each) for each in listed]
    return {each[1].lower().replace("_", "-"): each[2] for each in split if each is not None}


def test_each_dependency_is_explained_with_its_range() -> None:
    text = (
        (PROJECT / "docs" / "dependencies.md").read_text().lower().replace("prompt_toolkit", "prompt-toolkit")
    )
    wanted = {
        **dependencies(PROJECT / "client" / "pyproject.toml"),
        **dependencies(PROJECT / "pyproject.toml"),
    }
    wanted = {name: versions for name, versions in wanted.items() if not name.startswith("sullae")}
    assert [name for name in sorted(wanted) if name not in text] == []
    rows = [line for line in text.splitlines() if line.startswith("|") and "`" in line]
    for name, versions in wanted.items():
        told = [row for row in rows if re.search(rf"\b{name}\b", row.split("|")[1])]
        assert any(versions in row or "..." in row for row in told), (name, versions)


def test_nothing_is_explained_that_is_not_needed() -> None:
    names = {*dependencies(PROJECT / "pyproject.toml"), "scylla-driver", "cqlsh"}
    for row in (PROJECT / "docs" / "dependencies.md").read_text().splitlines():
        if row.startswith("|") and "`" in row.split("|")[2]:
            told = re.sub(r"\([^)]*\)|[][]", "", row.split("|")[1]).lower().replace("_", "-")
            assert [name for name in (each.strip() for each in told.split(",")) if name not in names] == []
