"""Writes the synchronous face of the library, `src/sullae/sync/`, from the asynchronous one.

    python client/generate_sync.py

Every public method of the classes below gets a twin of the same name, parameters, types and docstring, which
runs it on the event loop of a thread (`sync/running.py`, written by hand, as is what iterates). A test holds
that what is in the tree is what this would write.
"""

from __future__ import annotations

import ast
import builtins
import textwrap
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "src" / "sullae"
WIDTH = 106

CLASSES = {
    "kv_bulk": ["KvBulk"],
    "kv": ["Kv"],
    "docs_bulk": ["DocsBulk"],
    "collection": ["Collection"],
    "admin": ["Admin"],
    "database": ["Database"],
}
BASES = {"Collection": "collection_many.Many"}
"""Classes whose methods come from a second one, too."""
BULK = frozenset(["KvBulk", "DocsBulk"])
HERE = {name: module for module, names in CLASSES.items() for name in names}
BY_HAND = frozenset(["Paged", "CqlResult", "BulkWriter", "ChangeStream", "Runner"])
FUNCTIONS = {"database": ["connect"]}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """One source file, and what its names mean."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tree = ast.parse((SOURCE / f"{name}.py").read_text(encoding="utf-8"))
        self.imports: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                self.imports |= {alias.name: str(node.module) for alias in node.names}
        for node in self.tree.body:
            for target in node.targets if isinstance(node, ast.Assign) else []:
                self.imports[ast.unparse(target)] = f"sullae.{name}"

    def body(self, name: str) -> list[ast.stmt]:
        """The statements of a class."""
        return next(n.body for n in self.tree.body if isinstance(n, ast.ClassDef) and n.name == name)

    def function(self, name: str) -> Function:
        """A function of the module."""
        return next(n for n in self.tree.body if isinstance(n, ast.FunctionDef) and n.name == name)


class Writer:
    """Writes one file."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.lines: list[str] = []
        self.imports: dict[str, set[str]] = {}

    def text(self) -> str:
        """The whole file."""
        for name in CLASSES[self.module.name]:
            self.write_class(name)
        for name in FUNCTIONS.get(self.module.name, []):
            self.write_function(self.module.function(name), self.module)
        head = [
            f'"""The synchronous face of `sullae.{self.module.name}`, written by `generate_sync.py`."""',
            "",
            "from __future__ import annotations",
            "",
        ]
        plain = sorted(name for name in self.imports if not name.startswith("sullae"))
        ours = sorted(name for name in self.imports if name.startswith("sullae"))
        for group in (plain, [None], ours) if plain else (ours,):
            for source in group:
                head += [""] if source is None else self.import_lines(source)
        return "\n".join([*head, *self.lines]) + "\n"

    def import_lines(self, source: str) -> list[str]:
        """An import statement."""
        names = sorted(self.imports[source], key=lambda name: (not name.isupper(), name))
        line = f"from {source} import {', '.join(names)}"
        if len(line) <= WIDTH + 4:
            return [line]
        return [f"from {source} import (", *(f"    {name}," for name in names), ")"]

    def use(self, source: str, name: str) -> None:
        """Note that a name is needed."""
        self.imports.setdefault(source, set()).add(name)

    def use_names(self, annotation: ast.AST | None, module: Module) -> None:
        """Note the names in an annotation."""
        for node in ast.walk(annotation) if annotation is not None else []:
            if isinstance(node, ast.Name) and not hasattr(builtins, node.id):
                if node.id in HERE:
                    self.use_here(node.id)
                elif node.id in BY_HAND:
                    self.use("sullae.sync.running", node.id)
                else:
                    self.use(module.imports[node.id], node.id)

    def use_here(self, name: str) -> None:
        """Note that a class of the synchronous face is needed."""
        if HERE[name] != self.module.name:
            self.use(f"sullae.sync.{HERE[name]}", name)

    def write_class(self, name: str) -> None:
        """A class that holds its asynchronous twin."""
        body = self.module.body(name)
        base = "BulkWriter" if name in BULK else "DatabaseBase" if name == "Database" else ""
        self.use("sullae", self.module.name)
        if base:
            self.use("sullae.sync.running", base)
        it = f"{self.module.name}.{name}"
        self.lines += ["", "", f"class {name}{f'({base}[{it}])' if base else ''}:"]
        self.lines += self.docstring(body[0], "    ")
        if not base:
            self.use("sullae.sync.running", "Runner")
            self.lines += ["", f"    def __init__(self, runner: Runner, it: {it}) -> None:"]
            self.lines += ["        self._runner = runner", "        self._it = it"]
        if name in BASES:
            base_module, _, base_class = BASES[name].partition(".")
            module = Module(base_module)
            for function in public_functions(module.body(base_class)):
                self.write_function(function, module, "    ")
        for function in public_functions(body):
            self.write_function(function, self.module, "    ")

    def write_function(self, function: Function, module: Module, indent: str = "") -> None:
        """A method, or a function of the module."""
        self.lines += [""] if indent else ["", ""]
        for decorator in function.decorator_list:
            self.lines.append(f"{indent}@{ast.unparse(decorator)}")
        for argument in (*function.args.args, *function.args.kwonlyargs, function.returns):
            self.use_names(argument.annotation if isinstance(argument, ast.arg) else argument, module)
        self.lines += signature(function, indent)
        self.lines += self.docstring(function.body[0], indent + "    ")
        inner = indent + "    "
        if function.decorator_list:
            call = f"self._it.{function.name}"
        elif indent:
            call = f"self._it.{function.name}({arguments(function)})"
        else:
            call = f"{module.name}.{function.name}({arguments(function)})"
        wraps = wrapper(function.returns)
        if isinstance(function, ast.AsyncFunctionDef):
            call = f"self._runner.run({call})"
        if wraps:
            call = f"{wraps}({'self._runner' if indent else 'Runner()'}, {call})"
            if not indent:
                self.use("sullae.sync.running", "Runner")
        is_none = function.returns is not None and ast.unparse(function.returns) == "None"
        self.lines += wrapped(f"{'' if is_none else 'return '}{call}", inner)

    @staticmethod
    def docstring(node: ast.stmt, indent: str) -> list[str]:
        """A docstring as it was written, but for its examples."""
        assert isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        text = str(node.value.value).replace("async with", "with").replace("await ", "")
        return (indent + '"""' + text + '"""').split("\n")


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """The methods that have a twin."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            if node.name not in {"open", "close"}:
                yield node


def wrapper(returns: ast.expr | None) -> str:
    """The class that a result is wrapped in, if any."""
    node = returns.value if isinstance(returns, ast.Subscript) else returns
    name = node.id if isinstance(node, ast.Name) else ""
    return name if name in HERE or name in BY_HAND else ""


def arguments(function: Function) -> str:
    """What the call of the twin passes on."""
    positional = [argument.arg for argument in function.args.args if argument.arg != "self"]
    by_name = [f"{argument.arg}={argument.arg}" for argument in function.args.kwonlyargs]
    return ", ".join(positional + by_name)


def signature(function: Function, indent: str) -> list[str]:
    """The head of a function."""
    parameters = ast.unparse(function.args)
    returns = f" -> {ast.unparse(function.returns)}:" if function.returns is not None else ":"
    noqa = "  # noqa: A002" if "filter:" in parameters else ""
    one = f"{indent}def {function.name}({parameters}){returns}"
    if len(one + noqa) <= WIDTH + 4:
        return [one + noqa]
    lines = textwrap.wrap(parameters, WIDTH - len(indent), break_on_hyphens=False)
    if noqa:
        lines = [line + ("  # noqa: A002" if "filter:" in line else "") for line in lines]
    body = [f"{indent}    {line}" for line in lines]
    return [f"{indent}def {function.name}(", *body, f"{indent}){returns}"]


def wrapped(code: str, indent: str) -> list[str]:
    """A statement, over several lines where one is too short."""
    if len(indent + code) <= WIDTH + 4:
        return [indent + code]
    depth = code.rindex("(", 0, code.index("=") if "=" in code else len(code)) + 1
    head, rest = code[:depth], code[depth:]
    tail_at = len(rest) - (len(rest) - len(rest.rstrip(")")))
    inside, tail = rest[:tail_at], rest[tail_at:]
    lines = textwrap.wrap(inside, WIDTH - len(indent), break_on_hyphens=False)
    return [indent + head, *(f"{indent}    {line}" for line in lines), indent + tail]


def generated() -> dict[Path, str]:
    """What is to be in which file."""
    return {SOURCE / "sync" / f"{name}.py": Writer(Module(name)).text() for name in CLASSES}


def main() -> None:
    """Write all files."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
