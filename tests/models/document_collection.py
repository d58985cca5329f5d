"""What a collection holds: documents by id, their entity tags, when they run out, what no two may share."""

from __future__ import annotations

from itertools import product
from typing import Any

from tests.models.documents import MISSING, Refused, json_patched, merged, staged, updated
from tests.query.document_oracle import canonical, meets, reached, sorted_by

Step = dict[str, Any]


def unique_values(index: dict[str, Any], document: Any) -> set[Any]:
    if document is MISSING or not meets(document, index.get("filter", {})):
        return set()
    each: list[list[Any]] = []
    for path in index["paths"]:
        found = []
        for item in reached(document, path.split(".")):
            found += item if isinstance(item, list) else [item]
        kinds = [canonical(item) for item in found]
        if any(kind[0] == "object" for kind in kinds):
            raise Refused("bad-unique-value")
        each.append([kind for kind in kinds if kind[0] not in ("null", "array")])
    return set(product(*each))


class Collection:
    """What a collection holds."""

    def __init__(self, indexes: dict[str, dict[str, Any]]) -> None:
        self.unique = [index for index in indexes.values() if index.get("unique")]
        self.documents: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.old: dict[str, str] = {}
        self.dies: dict[str, int] = {}

    def tag(self, one: str, how: str) -> str:
        """An If-Match that is so."""
        current = self.tags.get(one, '"0-0"')
        return {
            "current": current,
            "stale": self.old.get(one, '"1-1"'),
            "*": "*",
            "weak": "W/" + current,
            "among": f'W/"9-9", {current} ,"1-1"',
            "other": '"1-1"',
        }[how]

    def condition_holds(self, step: Step) -> bool:
        one = step["id"]
        is_there = one in self.documents
        if "match" in step and not (is_there and step["match"] in ("current", "*", "among")):
            return False
        return not (is_there and step.get("none_match") in ("current", "*", "weak", "among"))

    def after(self, one: str, step: Step) -> Any:
        """What a write of one document makes of it; raises Refused."""
        before = self.documents.get(one, MISSING)
        kind = step["kind"]
        if kind in ("put", "delete"):
            made = step["body"] if kind == "put" else MISSING
        elif kind == "merge":
            made = merged(before, step["body"])
        elif kind == "pipeline":
            if not isinstance(before, dict):
                raise Refused("patch-conflict")
            made = staged(before, step["body"])
        elif kind == "patch":
            if before is MISSING:
                raise Refused("no-such-document")
            made = json_patched(before, step["body"])
        else:
            made = updated(before, step["body"], step.get("array_filters"))
        self.check_unique(one, made)
        return made

    def check_unique(self, one: str, made: Any) -> None:
        for index in self.unique:
            wanted = unique_values(index, made)
            for other, document in self.documents.items():
                if other != one and wanted & unique_values(index, document):
                    raise Refused("unique-violation")

    def put(self, one: str, document: Any) -> None:
        if document is MISSING:
            self.documents.pop(one, None)
            self.dies.pop(one, None)
        else:
            self.documents[one] = document

    def having(self, wanted: dict[str, Any]) -> list[str]:
        return [one for one in self.documents if meets(self.shown(one), wanted)]

    def shown(self, one: str) -> Any:
        document = self.documents[one]
        return {**document, "_id": one} if isinstance(document, dict) else document

    def rank(self, one: str, sort: dict[str, int]) -> list[Any]:
        return [
            Ranked(sorted_by(self.shown(one), path.split("."), way < 0), way) for path, way in sort.items()
        ]


class Ranked:
    """A value in an order of this direction."""

    def __init__(self, key: Any, way: int) -> None:
        self.key = key
        self.way = way

    def __lt__(self, other: Ranked) -> bool:
        return bool(self.key < other.key) if self.way > 0 else bool(self.key > other.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranked) and bool(self.key == other.key)

    __hash__ = None  # type: ignore[assignment]


def known(value: Any) -> Any:
    return MISSING if value is MISSING else canonical(value)


def same(found: Any, expected: Any) -> bool:
    return bool(canonical(found) == canonical(expected))
