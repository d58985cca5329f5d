"""What no linter holds for us: sizes, what the inside may import, and a few things that never occur.

Each gate is a function from one file to the list of what is wrong there, and each is shown to catch a planted
example, so that a gate which sees nothing does not pass for a clean house.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent

INSIDE = frozenset(
    ["core", "ring", "lsm", "query", "kv", "documents", "index", "streams", "cql_lite", "node"]
)  # fmt: skip
OUTSIDE = frozenset(["server", "sim", "jepsen_like", "bench", "cli"])
OURS = INSIDE | OUTSIDE

INSIDE_MAY_IMPORT = frozenset(
    ["__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "contextlib", "copy"]
    + ["dataclasses", "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "ipaddress"]
    + ["itertools", "json", "keyword", "math", "numbers", "operator", "re", "string", "struct", "textwrap"]
    + ["types", "typing", "typing_extensions", "unicodedata", "zlib"]
    + ["mmh3", "msgspec", "orjson", "sortedcontainers"]
)

ADAPTERS = {
    "cql_lite/frames.py": frozenset(["lz4"]),
    "documents/schemas.py": frozenset(["jsonschema_rs"]),
    "query/regex.py": frozenset(["re2"]),
    "index/analysis/kiwi.py": frozenset(["importlib", "kiwipiepy"]),
    "index/analysis/stemming.py": frozenset(["Stemmer"]),
    "query/zones.py": frozenset(["datetime", "zoneinfo"]),
    "index/segments.py": frozenset(["os", "pathlib", "shutil", "tantivy"]),
    "lsm/durable.py": frozenset(["mmap", "os", "pathlib"]),
    "lsm/rocks.py": frozenset(["rocksdict", "os", "pathlib"]),
    "lsm/directory.py": frozenset(["os", "pathlib"]),
}
"""One file per library that does I/O or is not everywhere; what it may import beyond the inside's list."""

FUNCTION_LINES_MAX = 69
FILE_LINES_MAX = 599
POSITIONAL_MAX = 5

Gate = Callable[[str, str], Iterator[str]]
"""Takes a file's path below the top and its text, gives what is wrong with it."""


@lru_cache(1)
def nodes(text: str) -> list[ast.AST]:
    """The syntax tree of a file; kept until another is asked for, since gates take turns on one file."""
    return list(ast.walk(ast.parse(text)))


def function_sizes(path: str, text: str) -> Iterator[str]:
    for node in nodes(text):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
            names = [a.arg for a in node.args.posonlyargs + node.args.args]
            positional = len(names) - (names[:1] in (["self"], ["cls"]))
            if positional > POSITIONAL_MAX:
                yield f"{path}:{node.lineno}: {node.name} takes {positional} positional parameters"


def file_size(path: str, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines, at most {FILE_LINES_MAX}"


def imports(text: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import, those for types and those in functions included."""
    for node in nodes(text):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


def _package(path: str) -> str:
    return path.partition("/")[0]


def inside_imports(path: str, text: str) -> Iterator[str]:
    if _package(path) not in INSIDE:
        return
    allowed = INSIDE_MAY_IMPORT | OURS | ADAPTERS.get(path, frozenset())
    for line, package in imports(text):
        if package not in allowed:
            yield f"{path}:{line}: the inside may not import {package}"


MACHINE_CALLS = frozenset(["id", "hash", "open", "print", "input", "__import__"])


def inside_determinism(path: str, text: str) -> Iterator[str]:
    """Syntax that lets memory addresses, hash seeds or the machine into a decision."""
    if _package(path) not in INSIDE:
        return
    functions = [node for node in nodes(text) if isinstance(node, ast.FunctionDef)]
    within_hash = [node for f in functions if f.name == "__hash__" for node in ast.walk(f)]
    for node in nodes(text):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in MACHINE_CALLS and node not in within_hash and path not in ADAPTERS:
                yield f"{path}:{node.lineno}: the inside does not call {node.func.id}()"
        elif isinstance(node, (ast.For, ast.comprehension)) and _is_set(node.iter):
            yield f"{path}:{node.iter.lineno}: iterates over a set, whose order is nobody's"


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"set", "frozenset"}
    )


FORBIDDEN_MODULES = frozenset(["pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"])


def untrusted_bytes(path: str, text: str) -> Iterator[str]:
    """Whatever turns bytes into code."""
    for line, package in imports(text):
        if package in FORBIDDEN_MODULES:
            yield f"{path}:{line}: imports {package}"
    for node in nodes(text):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
            yield f"{path}:{node.lineno}: calls {node.func.id}"
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"load", "system"}:
            called = ast.unparse(node.func)
            if called in {"yaml.load", "os.system"}:
                yield f"{path}:{node.lineno}: calls {called}"
        for keyword in node.keywords:
            if keyword.arg == "shell" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield f"{path}:{node.lineno}: starts a shell"


def swallowed_errors(path: str, text: str) -> Iterator[str]:
    for node in nodes(text):
        if not isinstance(node, ast.ExceptHandler):
            continue
        blind = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        if blind and all(_says_nothing(statement) for statement in node.body):
            yield f"{path}:{node.lineno}: an error of any kind is swallowed"


def _says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Pass, ast.Continue)) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


# In pieces of pattern, so that these very lines do not match.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:work|root|tmp|farm|home/\w+)/(?=\w)")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted\.org|registry\.npmjs|crates\.io|proxy\.golang")


def speaks_of_the_project_alone(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        for pattern, what in ((MACHINE_PATH, "a path of one machine"), (REGISTRY_HOST, "a registry's host")):
            if match := pattern.search(line):
                yield f"{path}:{number}: {what}: {match[0]}"


def client_stands_alone(path: str, text: str) -> Iterator[str]:
    if path.startswith("client/src/"):
        for line, package in imports(text):
            if package in OURS:
                yield f"{path}:{line}: the client library imports {package} of the server"


PYTHON_GATES: list[Gate] = [
    function_sizes, file_size, inside_imports, inside_determinism, untrusted_bytes, swallowed_errors,
    client_stands_alone,
]  # fmt: skip


def files(*suffixes: str) -> Iterator[Path]:
    """The project's own files, in a fixed order; not environments, builds and data."""
    folders = sorted(OURS) + ["client", "docs", "sample", "tests", ".ci"]
    found = [path for folder in folders for path in (TOP / folder).rglob("*")]
    found += [path for path in TOP.iterdir() if path.is_file() and path.name != ".git"]  # in a worktree
    for path in sorted(found):
        parts = path.relative_to(TOP).parts
        generated = {"__pycache__", "build"} & {*parts} or any(part.endswith(".egg-info") for part in parts)
        if path.is_file() and path.suffix in suffixes and not generated:
            yield path


def run(gates: list[Gate], *suffixes: str) -> list[str]:
    wrong: list[str] = []
    for path in files(*suffixes):
        text = path.read_text(encoding="utf-8")
        for gate in gates:
            wrong += gate(path.relative_to(TOP).as_posix(), text)
    return wrong


def test_the_source_keeps_to_the_gates() -> None:
    assert run(PYTHON_GATES, ".py") == []


def test_the_project_speaks_of_itself_alone() -> None:
    assert run([speaks_of_the_project_alone], ".py", ".md", ".toml", ".yml", ".txt", ".html", "") == []


def test_every_package_is_known_to_the_gates() -> None:
    packages = {path.parent.name for path in TOP.glob("*/__init__.py")} - {"tests", "sample"}
    assert packages <= OURS
    assert {"core", "ring", "lsm", "node", "server", "sim"} <= packages


LONG = "def f():\n" + "    x = 1\n" * 69

PLANTED: list[tuple[Gate, str, str, str]] = [
    (function_sizes, "core/a.py", LONG, "f has 70 lines"),
    (function_sizes, "core/a.py", "def f(a, b, c, d, e, f): ...", "6 positional"),
    (function_sizes, "core/a.py", "class A:\n  def f(self, a, b, c, d, e, f): ...", "6 positional"),
    (file_size, "core/a.py", "\n" * 600, "600 lines"),
    (inside_imports, "node/a.py", "def f():\n    import time", "may not import time"),
    (inside_imports, "ring/a.py", "from os.path import join", "may not import os"),
    (inside_imports, "lsm/store.py", "import rocksdict", "may not import rocksdict"),
    (inside_imports, "lsm/rocks.py", "import asyncio", "may not import asyncio"),
    (inside_determinism, "node/a.py", "x = hash('a')", "hash()"),
    (inside_determinism, "node/a.py", "for x in set(y): pass", "iterates over a set"),
    (inside_determinism, "node/a.py", "z = [x for x in {1, 2}]", "iterates over a set"),
    (untrusted_bytes, "server/a.py", "from pickle import loads", "imports pickle"),
    (untrusted_bytes, "server/a.py", "eval('1')", "calls eval"),
    (untrusted_bytes, "server/a.py", "yaml.load(x)", "calls yaml.load"),
    (untrusted_bytes, "server/a.py", "run('ls', shell=True)", "starts a shell"),
    (swallowed_errors, "server/a.py", "try:\n  f()\nexcept Exception:\n  pass", "swallowed"),
    (swallowed_errors, "server/a.py", "try:\n  f()\nexcept:\n  ...", "swallowed"),
    (speaks_of_the_project_alone, "docs/a.md", "see /" + "tmp/x", "a path of one machine"),
    (speaks_of_the_project_alone, "docs/a.md", "https://pypi" + ".org/x", "a registry's host"),
    (client_stands_alone, "client/src/sullae/a.py", "import core.cell", "imports core"),
]


@pytest.mark.parametrize(("gate", "path", "text", "said"), PLANTED)
def test_each_gate_catches_what_is_planted(gate: Gate, path: str, text: str, said: str) -> None:
    assert any(said in wrong for wrong in gate(path, text))


@pytest.mark.parametrize(
    ("gate", "path", "text"),
    [
        (function_sizes, "core/a.py", LONG.removesuffix("    x = 1\n")),
        (function_sizes, "core/a.py", "class A:\n  def f(self, a, b, c, d, e, *, f): ..."),
        (inside_imports, "lsm/rocks.py", "import os, rocksdict\nfrom core import cell"),
        (inside_imports, "server/a.py", "import asyncio"),
        (inside_determinism, "node/a.py", "class A:\n  def __hash__(self): return hash(self.x)"),
        (inside_determinism, "node/a.py", "for x in sorted(set(y)): pass"),
        (swallowed_errors, "server/a.py", "try:\n  f()\nexcept KeyError:\n  pass"),
    ],
)
def test_gates_let_the_good_pass(gate: Gate, path: str, text: str) -> None:
    assert list(gate(path, text)) == []
