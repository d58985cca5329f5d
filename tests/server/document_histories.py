"""Random histories of a collection: what is written to it and asked of it, one request after the other."""

from __future__ import annotations

from random import Random
from typing import Any

from core import limits

Step = dict[str, Any]

IDS = ["a", "b", "c", "d", "a/b", "..", "%", "한 글", "_bulk"]
ODD = [
    *(".", "a/", "/", "//", "a/../b", "%2F", "😀", "\0", "a\0b", "\0\0", " ", "+", "a b", "?", "#", '"'),
    *("\\", "a\nb", "\r\n", "\x7f", "A", "_find", "_search", "\ufeff", "\uffff", "\U0010ffff", "é"),
    *("e\u0301", "*", "a" * limits.KEY_BYTES_MAX),
]
"""Ids that are text all the same."""
KEYS = ["a", "b", "c", "n", "0"]
SCALARS: list[Any] = [None, True, False, -2, 0, 1, 2, 3, 1.0, 0.5, 1.5, 10**20, "", "a", "ab", "b", "한"]
RARE: list[Any] = [
    -0.0,
    1e-7,
    1e300,
    -(10**40),
    "a\0",
    "\uffff",
    "\U00010000",
    "x" * 1024 + "a",
    "x" * 1024 + "b",
]
PATHS = ["a", "b", "c", "n", "a.b", "a.0", "b.0.a", "a.b.c", "b.a", "n.0", "_id"]
TTL_S = 5
"""Between the steps of time, which are even."""
WRITTEN = [path for path in PATHS if path != "_id"]
CONDITIONS = ["current", "stale", "*", "weak", "among", "other"]


def value(random: Random, depth: int = 2) -> Any:
    kind = random.random()
    if depth and kind < 0.2:
        return [value(random, depth - 1) for _ in range(random.randrange(4))]
    if depth and kind < 0.35:
        return {random.choice(KEYS): value(random, depth - 1) for _ in range(random.randrange(3))}
    return random.choice(SCALARS if random.random() < 0.9 else RARE)


def document(random: Random) -> Any:
    if random.random() < 0.04:
        return value(random)
    return {key: value(random) for key in KEYS[:4] if random.random() < 0.7}


# --- filters


def _condition(random: Random, depth: int) -> Any:
    kind = random.randrange(13)
    if kind < 4:
        return value(random, 1)
    if kind < 7:
        name = random.choice(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
        return {name: value(random, 1)}
    if kind == 7:
        return {"$gte": random.choice(SCALARS), "$lt": random.choice(SCALARS)}
    if kind == 8:
        name = random.choice(["$in", "$nin", "$all"])
        return {name: [value(random, 1) for _ in range(random.randrange(4))]}
    if kind == 9:
        return {"$exists": random.random() < 0.6}
    if kind == 10:
        return random.choice(
            [
                {"$size": random.randrange(3)},
                {"$type": random.choice(["null", "bool", "number", "string", "array", "object"])},
                {"$regex": random.choice(["^a", "^ab", "b$", "^한"])},
                {"$mod": [2, random.randrange(2)]},
            ]
        )
    if kind == 11 and depth:
        inner: dict[str, Any] = {
            random.choice(["$gt", "$lte", "$eq", "$in"]): random.choice([0, 1, "a", None])
        }
        if "$in" in inner:
            inner = {"$in": [1, "a", None]}
        return {"$elemMatch": inner if random.random() < 0.6 else {"a": _condition(random, 0)}}
    if kind == 12 and depth:
        return {"$not": {random.choice(["$gt", "$eq", "$lte"]): random.choice(SCALARS)}}
    return {"$exists": True}


def wanted(random: Random, depth: int = 1) -> dict[str, Any]:
    """A filter."""
    if random.random() < 0.1:
        return {}
    if depth and random.random() < 0.2:
        name = random.choice(["$and", "$or", "$or", "$nor"])
        return {name: [wanted(random, depth - 1) for _ in range(random.randint(1, 3))]}
    found: dict[str, Any] = {}
    for _ in range(random.choice([1, 1, 1, 2, 2, 3])):
        path = random.choice(PATHS)
        if path == "_id":
            some = random.sample([*IDS, *ODD[:-1]] if random.random() < 0.3 else IDS, 3)
            found[path] = random.choice([some[0], {"$in": some}, {"$gt": some[0]}, {"$ne": some[0]}])
        else:
            found[path] = _condition(random, 1)
    return found


# --- edits


def merge_patch(random: Random) -> Any:
    if random.random() < 0.03:
        return random.choice([5, [1], "x", {}])
    found: dict[str, Any] = {}
    for key in random.sample(KEYS, random.randint(1, 2)):
        found[key] = random.choice([None, value(random), {"b": value(random, 1)}, {"b": None}])
    return found


def json_patch(random: Random) -> list[dict[str, Any]]:
    found = []
    for _ in range(random.randint(1, 3)):
        name = random.choice(["add", "add", "remove", "replace", "move", "copy", "test"])
        paths = ["/a", "/b", "/a/b", "/a/0", "/a/-", "/b/0/a", "/n", "/c", ""]
        path = random.choices(paths, [4, 4, 3, 3, 3, 1, 4, 4, 0.3])[0]
        step: dict[str, Any] = {"op": name, "path": path}
        if name in ("add", "replace", "test"):
            step["value"] = value(random)
        if name in ("move", "copy"):
            step["from"] = random.choice([p for p in paths[:-1] if not (path + "/").startswith(p + "/")])
        found.append(step)
    return found


def operators(random: Random, marks: bool = True) -> dict[str, dict[str, Any]]:
    """Update operators whose paths are apart."""
    found: dict[str, dict[str, Any]] = {}
    taken: list[str] = []
    for _ in range(random.choice([1, 1, 2, 3])):
        path = random.choice(WRITTEN)
        if marks and random.random() < 0.12:
            path = random.choice(["a.$[]", "b.$[].a", "a.$[x]", "b.$[x].n"])
        if any(_meet(path, other) for other in taken):
            continue
        name, argument = _operator(random)
        if name == "$rename":
            target = random.choice(WRITTEN)
            if any(_meet(target, other) for other in [*taken, path]) or "$" in path:
                continue
            argument = target
            taken.append(target)
        taken.append(path)
        found.setdefault(name, {})[path] = argument
    return found or {"$set": {"n": 1}}


def _meet(one: str, other: str) -> bool:
    """Whether paths may lead to one place."""
    if "$" in one + other and one[0] == other[0]:
        return True
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _operator(random: Random) -> tuple[str, Any]:
    number = random.choice([1, -1, 2, 0.5, 1.25, 10**20, 0])
    bits = {random.choice(["and", "or", "xor"]): random.randrange(8)}
    some = [value(random, 1) for _ in range(random.randrange(3))]
    push: dict[str, Any] = {"$each": some}
    if random.random() < 0.4:
        push["$position"] = random.choice([0, 1, -1, 5, -5])
    if random.random() < 0.4:
        push["$slice"] = random.choice([0, 1, 2, -1, -2])
    if random.random() < 0.3:
        push["$sort"] = random.choice([1, -1])
    conditions = [{"$gt": 0}, {"$in": [1, "a", None]}, {"a": 1}, {"$exists": True}, {"$ne": 1}]
    choices: list[tuple[str, Any]] = [
        ("$set", value(random)),
        ("$set", value(random)),
        ("$unset", ""),
        ("$setOnInsert", value(random)),
        ("$inc", number),
        ("$inc", number),
        ("$mul", number),
        ("$min", value(random, 1)),
        ("$max", value(random, 1)),
        ("$bit", bits),
        ("$rename", ""),
        ("$push", random.choice([value(random, 1), push, push])),
        ("$addToSet", random.choice([value(random, 1), {"$each": some}])),
        ("$pull", random.choice([value(random, 1), *conditions])),
        ("$pullAll", some),
        ("$pop", random.choice([1, -1])),
    ]
    return random.choice(choices)


def stages(random: Random) -> list[dict[str, Any]]:
    """A pipeline of constants and of members that are moved."""
    found: list[dict[str, Any]] = []
    for _ in range(random.randint(1, 3)):
        if random.random() < 0.3:
            found.append({"$unset": random.choice(KEYS[:4])})
            continue
        some = random.sample(KEYS[:4], random.randint(1, 2))
        values = [random.choice(["$a", "$b", "$n", 1, True, None, 0.5]) for _ in some]
        found.append({"$set": dict(zip(some, values, strict=True))})
    return found


def marks_of(update: dict[str, dict[str, Any]]) -> bool:
    """Whether the array filter `x` is used."""
    operators = all(name.startswith("$") for name in update)
    return operators and any("$[x]" in path for paths in update.values() for path in paths)


# --- steps


def _with_condition(random: Random, step: Step) -> Step:
    if random.random() < 0.25:
        step["match" if random.random() < 0.6 else "none_match"] = random.choice(CONDITIONS)
    return step


def single(random: Random) -> Step:
    """A write of one document, by itself or as a line of a bulk."""
    kind = random.choice(["put", "put", "put", "merge", "patch", "update", "update", "delete"])
    step: Step = {"kind": kind, "id": random.choice(IDS[:6] if random.random() < 0.9 else IDS)}
    if random.random() < 0.05:
        step["id"] = random.choice(ODD)
    if kind == "put":
        step["body"] = document(random)
        step["ttl"] = TTL_S if random.random() < 0.15 else 0
    elif kind == "merge":
        step["body"] = merge_patch(random)
    elif kind == "patch":
        step["body"] = json_patch(random)
    elif kind == "update":
        step["body"] = operators(random)
        while marks_of(step["body"]):
            step["body"] = operators(random)
    return _with_condition(random, step)


def _many(random: Random) -> Step:
    step: Step = {"kind": "_update", "filter": wanted(random), "multi": random.random() < 0.6}
    if random.random() < 0.3:
        step = {"kind": "_delete", "filter": wanted(random, 0), "multi": random.random() < 0.4}
    else:
        update = random.choice([operators, operators, merge_patch, json_patch])(random)
        step["update"] = {"n": 1} if update in (5, [1], "x", {}) else update
        if isinstance(update, dict) and marks_of(update):
            below = any("$[x]." in path for paths in update.values() for path in paths)
            step["array_filters"] = [{"x.a": {"$exists": True}} if below else {"x": {"$gte": 1}}]
        if random.random() < 0.15:
            step["update"] = stages(random)
            step.pop("array_filters", None)
        is_patch = isinstance(step["update"], list) and "op" in step["update"][0]
        step["upsert"] = random.random() < 0.3 and not is_patch
    if step["multi"] and random.random() < 0.3:
        step["limit"] = random.choice([1, 2, 4])
    if not step["multi"]:
        step["sort"] = random.choice([{"_id": 1}, {"n": -1, "_id": 1}, {"a": 1, "_id": -1}])
        images = ["before", "after"] if step["kind"] == "_update" else ["before"]
        step["return"] = random.choice(images)
    return step


def asked(random: Random) -> Step:
    """A question."""
    kind = random.choice(["_find", "_find", "_find", "_count", "_distinct", "_aggregate", "_list"])
    step: Step = {"kind": kind, "filter": wanted(random)}
    if kind == "_find":
        step["limit"] = random.choice([1, 2, 3, 100])
        step["skip"] = random.choice([0, 0, 0, 1, 2])
        paths = random.sample(["a", "b", "n", "a.b", "_id"], random.choice([0, 1, 1, 2]))
        step["sort"] = {path: random.choice([1, -1]) for path in paths}
    elif kind == "_list":
        step["limit"] = random.choice([1, 2, 100])
    elif kind == "_distinct":
        step["path"] = random.choice(PATHS)
    return step


def history(random: Random, length: int) -> list[Step]:
    """So many steps."""
    found: list[Step] = []
    while len(found) < length:
        kind = random.random()
        if kind < 0.04:
            found.append({"kind": "kill" if random.random() < 0.5 else "revive", "peer": random.randrange(3)})
            continue
        if kind < 0.09:
            found.append({"kind": "wait", "s": random.choice([2, 8]), "peer": 0})
            continue
        if kind < 0.5:
            step = single(random)
            step |= {"returning": random.random() < 0.3, "once": random.random() < 0.2}
        elif kind < 0.6:
            step = {"kind": "_bulk", "lines": [single(random) for _ in range(random.randint(1, 6))]}
        elif kind < 0.75:
            step = _many(random)
        else:
            step = asked(random)
        found.append({**step, "peer": random.randrange(3)})
    return found
