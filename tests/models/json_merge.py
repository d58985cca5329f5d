"""The rules of json cells, said a second time: which cell dominates which, checked pair by pair.

A cell is (path, kind, version, is_tombstone, value) with kind "v" (value or tombstone) or "o" (marker). The
normal form of a set of cells is those that no other dominates. Slow and obvious: the oracle of core/row.py.
`operation_cells` makes the cells of a document operation, `reference` does it to a document, `assemble` reads
a document out of cells.
"""

from __future__ import annotations

import copy
from typing import Any

ModelCell = tuple[tuple[str, ...], str, int, bool, Any]


def is_above(p: tuple[str, ...], q: tuple[str, ...]) -> bool:
    """Whether p is a proper prefix of q."""
    return len(p) < len(q) and q[: len(p)] == p


def dominates(a: ModelCell, b: ModelCell) -> bool:
    """Whether b is not kept beside a."""
    if a == b:
        return False
    if a[0] == b[0] and a[1] == b[1]:
        return (a[2], a[3], repr(a[4])) > (b[2], b[3], repr(b[4]))
    if a[1] != "v":
        return False
    if a[0] == b[0]:
        return a[2] >= b[2]
    return is_above(a[0], b[0]) and (a[2] > b[2] or (a[2] == b[2] and a[3]))


def normal(cells: list[ModelCell]) -> list[ModelCell]:
    """The cells that no other dominates."""
    different = list({repr(cell): cell for cell in cells}.values())
    return [cell for cell in different if not any(dominates(other, cell) for other in different)]


def operation_cells(operation: tuple[Any, ...], version: int) -> list[ModelCell]:
    """The cells that an operation writes, blindly."""
    kind = operation[0]
    if kind == "put":
        return [((), "v", version, False, operation[1])]
    if kind == "delete":
        return [((), "v", version, True, None)]
    if kind == "unset":
        return [(operation[1], "v", version, True, None)]
    if kind == "set":
        path = operation[1]
        markers: list[ModelCell] = [(path[:i], "o", version, False, None) for i in range(len(path))]
        return [*markers, (path, "v", version, False, operation[2])]
    out: list[ModelCell] = []

    def patch_at(path: tuple[str, ...], patch: Any) -> None:
        if isinstance(patch, dict):
            out.append((path, "o", version, False, None))
            for key, value in patch.items():
                patch_at((*path, key), value)
        else:
            out.append((path, "v", version, patch is None, patch))

    patch_at((), operation[1])
    return out


def reference(document: Any, operation: tuple[Any, ...]) -> Any:
    """What the operation makes of a document; None is no document."""
    kind = operation[0]
    if kind == "put":
        return copy.deepcopy(operation[1])
    if kind == "delete":
        return None
    if kind == "patch":
        return _patched(document, operation[1])
    path = operation[1]
    if kind == "set":
        root = copy.deepcopy(document) if isinstance(document, dict) else {}
        here = root
        for key in path[:-1]:
            if not isinstance(here.get(key), dict):
                here[key] = {}
            here = here[key]
        here[path[-1]] = copy.deepcopy(operation[2])
        return root
    root = copy.deepcopy(document)
    below: Any = root
    for key in path[:-1]:
        below = below.get(key) if isinstance(below, dict) else None
    if isinstance(below, dict):
        below.pop(path[-1], None)
    return root


def _patched(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _patched(result.get(key), value)
    return result


def assemble(cells: list[ModelCell]) -> Any:
    """The document that cells in normal form make, applied by (version, depth); None if there is none."""
    holder: dict[str, Any] = {}
    for path, kind, _, is_tombstone, value in sorted(
        cells, key=lambda c: (c[2], len(c[0]), c[1] == "v", c[0])
    ):
        here, key = holder, ""
        reached = True
        for step in path:
            below = here.get(key)
            if not isinstance(below, dict):
                if is_tombstone:
                    reached = False
                    break
                below = here[key] = {}
            here, key = below, step
        if not reached:
            continue
        if kind == "o":
            if not isinstance(here.get(key), dict):
                here[key] = {}
        elif is_tombstone:
            here.pop(key, None)
        else:
            here[key] = copy.deepcopy(value)
    return holder.get("")
