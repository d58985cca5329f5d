"""JSON Patch (RFC 6902): operations in turn, all of them or none.

Every operation looks at the document, so a patch always takes the conditional path. Pointers are RFC 6901:
`/a~1b/0` is the first element under the key `a/b`. What is copied counts, so that a patch which doubles the
document again and again ends with an error and not with the memory.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Final

import msgspec

from core import limits
from core.json_values import Value, render
from documents.cells import Path
from documents.edits import Edit, Edited, EditError, parsed
from query.document_values import MISSING, PATH_CHARS_MAX, equal

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_MEMBERS: Final = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "from"),
    "copy": ("path", "from"),
    "test": ("path", "value"),
}


class Operation(msgspec.Struct, frozen=True):
    """One operation; `source` is `from`."""

    number: int
    op: str
    path: Path
    source: Path = ()
    value: Value = None


def json_patch(text: bytes, bytes_max: int = limits.DOCUMENT_BYTES_MAX) -> Edit:
    """A JSON Patch; raises EditError, also from its `apply`."""
    listed = parsed(text, bytes_max)
    if type(listed) is not list:
        raise EditError("bad_patch", "a JSON Patch is an array of operations")
    if len(listed) > limits.DOCUMENT_OPERATIONS_MAX:
        limit = limits.DOCUMENT_OPERATIONS_MAX
        raise EditError(
            "bad_patch", f"a JSON Patch has at most {limit} operations; this one has {len(listed)}"
        )
    operations = [_operation(number, item) for number, item in enumerate(listed)]

    def apply(document: Value) -> Edited:
        if document is MISSING:
            raise EditError("no_such_document", "there is no document of this id to patch")
        return _Patching(document, bytes_max).run(operations)

    return Edit(apply, None, len(text))


def _operation(number: int, item: Value) -> Operation:
    where = f"operation {number}"
    if type(item) is not dict:
        raise EditError("bad_patch", f"{where}: an operation is an object")
    op = item.get("op")
    if type(op) is not str or op not in _MEMBERS:
        known = ", ".join(_MEMBERS)
        raise EditError("bad_patch", f"{where}: op is one of {known}; found {str(op)[:40]!r}")
    for name in _MEMBERS[op]:
        if name not in item:
            raise EditError("bad_patch", f"{where}: {op} needs {name!r}")
    path = pointer(item["path"], where)
    source = pointer(item["from"], where) if "from" in _MEMBERS[op] else ()
    if op == "move" and len(path) > len(source) and path[: len(source)] == source:
        raise EditError("bad_patch", f"{where}: a value cannot be moved into itself")
    return Operation(number, op, path, source, item.get("value"))


def pointer(text: Value, where: str = "pointer") -> Path:
    """The keys of a JSON Pointer (RFC 6901); raises EditError."""
    if type(text) is not str or (text and text[0] != "/"):
        raise EditError("bad_patch", f"{where}: a path is empty or begins with /; found {str(text)[:60]!r}")
    if len(text) > PATH_CHARS_MAX or text.count("/") > limits.DOCUMENT_DEPTH_MAX:
        detail = f"at most {PATH_CHARS_MAX} characters and {limits.DOCUMENT_DEPTH_MAX} keys"
        raise EditError("bad_patch", f"{where}: a path has {detail}")
    if _BAD_ESCAPE.search(text):
        raise EditError("bad_patch", f"{where}: ~ is written ~0, and / within a key ~1; found {text[:60]!r}")
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in text.split("/")[1:])


class _Patching:
    """One patch being applied."""

    def __init__(self, document: Value, bytes_max: int) -> None:
        self._document = document
        self._touched: list[Path] = []
        self._bytes_left = bytes_max
        self._where = ""

    def run(self, operations: list[Operation]) -> Edited:
        for operation in operations:
            self._where = f"operation {operation.number} ({operation.op})"
            self._do(operation)
        return Edited(self._document, self._touched)

    def _do(self, operation: Operation) -> None:
        op, path = operation.op, operation.path
        if op == "add":
            self._add(path, deepcopy(operation.value))
        elif op == "remove":
            self._remove(path)
        elif op == "replace":
            self._replace(path, deepcopy(operation.value))
        elif op == "move":
            if operation.source != path or self._found(path) is MISSING:
                self._add(path, self._remove(operation.source))
        elif op == "copy":
            self._add(path, self._copied(self._found(operation.source)))
        elif not equal(self._found(path), operation.value):
            raise self._conflict(path, "the value there is another one")

    def _copied(self, value: Value) -> Value:
        self._bytes_left -= len(render(value))
        if self._bytes_left < 0:
            raise EditError(
                "document_too_large", f"{self._where}: the patch copies more than a document holds"
            )
        return deepcopy(value)

    def _conflict(self, path: Path, why: str) -> EditError:
        text = "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)
        return EditError("patch_conflict", f"{self._where} at {text[:200]!r}: {why}")

    def _found(self, path: Path) -> Value:
        here = self._document
        for depth in range(len(path)):
            here = self._below(here, path, depth)
        return here

    def _below(self, here: Value, path: Path, depth: int) -> Value:
        key = path[depth]
        if type(here) is dict:
            if key not in here:
                raise self._conflict(path, f"there is no {key[:60]!r}")
            return here[key]
        if type(here) is list:
            return here[self._index(here, path, depth, 0)]
        raise self._conflict(path, f"what should hold {key[:60]!r} is no object and no array")

    def _index(self, here: list[Any], path: Path, depth: int, beyond: int) -> int:
        """The index that a key is, below the length plus `beyond`."""
        key = path[depth]
        if key == "-" and beyond:
            return len(here)
        if not _INDEX.fullmatch(key):
            raise self._conflict(path, f"{key[:60]!r} is no index of an array")
        if int(key) >= len(here) + beyond:
            raise self._conflict(path, f"the array has {len(here)} elements")
        return int(key)

    def _holder(self, path: Path) -> Value:
        self._touched.append(path)
        return self._found(path[:-1])

    def _add(self, path: Path, value: Value) -> None:
        if not path:
            self._touched.append(path)
            self._document = value
            return
        holder = self._holder(path)
        if type(holder) is dict:
            holder[path[-1]] = value
        elif type(holder) is list:
            holder.insert(self._index(holder, path, len(path) - 1, 1), value)
        else:
            raise self._conflict(path, f"what should hold {path[-1][:60]!r} is no object and no array")

    def _replace(self, path: Path, value: Value) -> None:
        if not path:
            self._add(path, value)
            return
        holder = self._holder(path)
        self._below(holder, path, len(path) - 1)
        holder[self._index(holder, path, len(path) - 1, 0) if type(holder) is list else path[-1]] = value

    def _remove(self, path: Path) -> Value:
        if not path:
            raise self._conflict(path, "a document is removed by DELETE")
        holder = self._holder(path)
        value = self._below(holder, path, len(path) - 1)
        if type(holder) is list:
            holder.pop(self._index(holder, path, len(path) - 1, 0))
        else:
            del holder[path[-1]]
        return value
