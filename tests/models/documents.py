"""What edits make of a document, said once more and as plainly as possible, on plain Python values.

`MISSING` is where there is nothing. What cannot be done raises `Refused`, with the word of the problem. Every
edit gives a new value; the one that it was given stays.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal, localcontext
from typing import Any

from tests.query.document_oracle import canonical, meets, ordered

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING", "__deepcopy__": lambda s, m: s})()
Operators = dict[str, dict[str, Any]]


class Refused(Exception):
    """The edit is refused."""


CONFLICT = "patch-conflict"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def exact(value: Any) -> Decimal:
    return Decimal(repr(value) if isinstance(value, float) else value)


def is_whole(value: Any) -> bool:
    """Written without fraction and exponent."""
    return isinstance(value, int) and not isinstance(value, bool)


# --- merge patches and JSON patches


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def json_patched(document: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902; but the document itself is not removed."""
    document = deepcopy(document)
    for operation in operations:
        document = _json_patched(document, operation)
    return document


def _json_patched(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation["op"], _pointer(operation["path"])
    if name == "test":
        if canonical(_at(document, path)) != canonical(operation["value"]):
            raise Refused(CONFLICT)
        return document
    if name in ("add", "replace"):
        if name == "replace":
            _at(document, path)
        return _with(document, path, deepcopy(operation["value"]), name == "add")
    if name == "remove":
        _at(document, path)
        return _without(document, path)
    source = _pointer(operation["from"])
    value = deepcopy(_at(document, source))
    if name == "move":
        if path == source:
            return document
        document = _without(document, source)
    return _with(document, path, value, True)


def _pointer(text: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in text.split("/")[1:]]


def _at(document: Any, path: list[str]) -> Any:
    for key in path:
        if isinstance(document, list):
            document = document[_position(key, len(document) - 1)]
        elif isinstance(document, dict) and key in document:
            document = document[key]
        else:
            raise Refused(CONFLICT)
    if document is MISSING:
        raise Refused(CONFLICT)
    return document


def _position(key: str, most: int) -> int:
    if not key.isdigit() or (key != "0" and key.startswith("0")) or int(key) > most:
        raise Refused(CONFLICT)
    return int(key)


def _with(document: Any, path: list[str], value: Any, is_new: bool) -> Any:
    if not path:
        return value
    *above, last = path
    holder = _at(document, above)
    if isinstance(holder, dict):
        holder[last] = value
    elif isinstance(holder, list) and is_new:
        holder.insert(len(holder) if last == "-" else _position(last, len(holder)), value)
    elif isinstance(holder, list):
        holder[_position(last, len(holder) - 1)] = value
    else:
        raise Refused(CONFLICT)
    return document


def _without(document: Any, path: list[str]) -> Any:
    if not path:
        raise Refused(CONFLICT)
    *above, last = path
    holder = _at(document, above)
    del holder[int(last) if isinstance(holder, list) else last]
    return document


# --- updates that make a document, and pipelines


def upserted(wanted: dict[str, Any], step: dict[str, Any]) -> tuple[str | None, Any]:
    """The id, if the filter says it, and the document that an update makes where nothing meets its filter."""
    kind, change = step["kind"], step["body"]
    equal: dict[str, Any] = {}
    for path, value in _equalities(wanted):
        if path in equal and canonical(equal[path]) != canonical(value):
            raise Refused("bad-patch")
        equal[path] = value
    one = equal.pop("_id", None)
    if one is not None and not isinstance(one, str):
        raise Refused("bad-patch")
    if any(f"{path}.".startswith(f"{other}.") for path in equal for other in equal if path != other):
        raise Refused("bad-patch")
    base = updated(MISSING, {"$set": equal}) if equal else MISSING
    if kind == "merge":
        return one, merged(base, change)
    if kind == "pipeline":
        return one, staged({} if base is MISSING else base, change)
    sets = {**change.get("$setOnInsert", {}), **change.get("$set", {})}
    others = {name: paths for name, paths in change.items() if name not in ("$setOnInsert", "$set")}
    made = updated(base, {"$set": sets, **others}, step["array_filters"])
    return one, {} if made is MISSING else made


def _equalities(wanted: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in wanted.items():
        if key == "$and" or (key == "$or" and len(value) == 1):
            found += [pair for one in value for pair in _equalities(one)]
        elif key.startswith("$"):
            continue
        elif not isinstance(value, dict) or not any(name.startswith("$") for name in value):
            found.append((key, value))
        elif "$eq" in value:
            found.append((key, value["$eq"]))
        else:
            found += [(key, one) for one in value.get("$all", [])]
            if len({canonical(one) for one in value.get("$in", [])}) == 1:
                found.append((key, value["$in"][0]))
    return found


def staged(document: Any, stages: list[dict[str, Any]]) -> Any:
    """`$set` of constants and of other members, and `$unset`."""
    document = deepcopy(document)
    for stage in stages:
        before = deepcopy(document)
        for name, value in stage.get("$set", {}).items():
            if isinstance(value, str) and value.startswith("$"):
                value = before.get(value[1:], MISSING)
            if value is MISSING:
                document.pop(name, None)
            else:
                document[name] = deepcopy(value)
        if "$unset" in stage:
            document.pop(stage["$unset"], None)
    return document


# --- update operators


def updated(document: Any, operators: Operators, array_filters: list[Any] | None = None) -> Any:
    """The operators of MongoDB, with the differences that docs/document-queries.md tells."""
    is_new = document is MISSING
    root = {} if is_new else {"": deepcopy(document)}
    steps = [(name, path, value) for name, paths in operators.items() for path, value in paths.items()]
    plain = [
        (name, keys, value)
        for name, path, value in steps
        for keys in _meant(root.get("", MISSING), path.split("."), array_filters or [])
    ]
    for name, keys, value in plain:
        _OPERATORS[name](root, ["", *keys], value, is_new)
    return root.get("", MISSING)


def _meant(here: Any, keys: list[str], array_filters: list[Any]) -> list[list[str]]:
    """The paths that one with `$[]` and `$[name]` stands for."""
    for at, key in enumerate(keys):
        if key.startswith("$["):
            if not isinstance(here, list):
                raise Refused(CONFLICT)
            found = []
            for position, item in enumerate(here):
                name = key[2:-1]
                if not name or all(meets({name: item}, one) for one in array_filters if _names(one, name)):
                    rest = _meant(item, keys[at + 1 :], array_filters)
                    found += [[*keys[:at], str(position), *below] for below in rest]
            return found
        here = _below(here, key)
    return [keys]


def _names(array_filter: dict[str, Any], name: str) -> bool:
    return any(path.split(".")[0] == name for path in array_filter)


def _below(here: Any, key: str) -> Any:
    if isinstance(here, dict):
        return here.get(key, MISSING)
    if isinstance(here, list) and key.isdigit() and int(key) < len(here):
        return here[int(key)]
    return MISSING


def _read(root: Any, keys: list[str]) -> Any:
    """What is there; refused if something that has nothing below it is in the way."""
    here = root
    for key in keys:
        if here is MISSING:
            return MISSING
        if not isinstance(here, dict) and not (isinstance(here, list) and key.isdigit()):
            raise Refused(CONFLICT)
        here = _below(here, key)
    return here


def _put(here: Any, keys: list[str], value: Any) -> Any:
    """The value `here` with another below it."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(here, list) and key.isdigit():
        here += [None] * (int(key) + 1 - len(here))
        here[int(key)] = _put(here[int(key)], rest, value)
        return here
    if not isinstance(here, dict):
        here = {}
    here[key] = _put(here.get(key, MISSING), rest, value)
    return here


def _set(root: Any, keys: list[str], value: Any, _: bool) -> None:
    _put(root, keys, deepcopy(value))


def _set_on_insert(root: Any, keys: list[str], value: Any, is_new: bool) -> None:
    if is_new:
        _put(root, keys, deepcopy(value))


def _unset(root: Any, keys: list[str], _: Any, __: bool) -> None:
    holder = root
    for key in keys[:-1]:
        holder = _below(holder, key)
    if _below(holder, keys[-1]) is MISSING:
        return
    if isinstance(holder, list):
        holder[int(keys[-1])] = None
    else:
        del holder[keys[-1]]


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, list[str], Any, bool], None]:
    def act(root: Any, keys: list[str], value: Any, _: bool) -> None:
        found = _read(root, keys)
        found = 0 if found is MISSING else found
        if not is_number(found):
            raise Refused(CONFLICT)
        if is_whole(found) and is_whole(value):
            _put(root, keys, compute(found, value))
            return
        with localcontext() as context:
            context.prec = 10_000
            _put(root, keys, compute(exact(found), exact(value)))

    return act


def _extreme(is_wanted: Callable[[Any, Any], bool]) -> Callable[[Any, list[str], Any, bool], None]:
    def act(root: Any, keys: list[str], value: Any, _: bool) -> None:
        found = _read(root, keys)
        if found is MISSING or is_wanted(ordered(value), ordered(found)):
            _put(root, keys, deepcopy(value))

    return act


def _bit(root: Any, keys: list[str], value: dict[str, int], _: bool) -> None:
    found = _read(root, keys)
    found = 0 if found is MISSING else found
    if not is_whole(found):
        raise Refused(CONFLICT)
    for name, bits in value.items():
        found = found & bits if name == "and" else found | bits if name == "or" else found ^ bits
    _put(root, keys, found)


def _rename(root: Any, keys: list[str], value: str, is_new: bool) -> None:
    target = ["", *value.split(".")]
    for path in (keys, target):
        here = root
        for key in path:
            if isinstance(here, list):
                raise Refused(CONFLICT)
            here = _below(here, key)
    found = _read(root, keys)
    if found is not MISSING:
        _unset(root, keys, None, is_new)
        _put(root, target, found)


def _array(root: Any, keys: list[str]) -> Any:
    found = _read(root, keys)
    if found is not MISSING and not isinstance(found, list):
        raise Refused(CONFLICT)
    return found


def _push(root: Any, keys: list[str], value: Any, _: bool) -> None:
    found = _array(root, keys)
    items = [] if found is MISSING else found
    how: dict[str, Any] = value if isinstance(value, dict) and "$each" in value else {"$each": [value]}
    at = how.get("$position", len(items))
    at = max(0, len(items) + at) if at < 0 else min(at, len(items))
    items = items[:at] + deepcopy(how["$each"]) + items[at:]
    if "$sort" in how:
        items = sorted(items, key=ordered, reverse=how["$sort"] < 0)
    if "$slice" in how:
        kept = how["$slice"]
        items = items[:kept] if kept >= 0 else items[max(0, len(items) + kept) :]
    _put(root, keys, items)


def _add_to_set(root: Any, keys: list[str], value: Any, _: bool) -> None:
    found = _array(root, keys)
    items = [] if found is MISSING else found
    for item in value["$each"] if isinstance(value, dict) and "$each" in value else [value]:
        if all(canonical(item) != canonical(one) for one in items):
            items = [*items, deepcopy(item)]
    _put(root, keys, items)


def _pull(root: Any, keys: list[str], value: Any, _: bool) -> None:
    if not isinstance(value, dict) or not value:
        _pull_where(root, keys, lambda item: canonical(item) == canonical(value))
    elif any(name.startswith("$") for name in value):
        _pull_where(root, keys, lambda item: meets({"e": [item]}, {"e": {"$elemMatch": value}}))
    else:
        _pull_where(root, keys, lambda item: isinstance(item, dict) and meets(item, value))


def _pull_all(root: Any, keys: list[str], value: list[Any], _: bool) -> None:
    _pull_where(root, keys, lambda item: any(canonical(item) == canonical(one) for one in value))


def _pull_where(root: Any, keys: list[str], is_unwanted: Callable[[Any], bool]) -> None:
    items = _array(root, keys)
    if items is not MISSING:
        items[:] = [item for item in items if not is_unwanted(item)]


def _pop(root: Any, keys: list[str], value: int, _: bool) -> None:
    items = _array(root, keys)
    if items is not MISSING and items:
        items.pop(-1 if value > 0 else 0)


_OPERATORS: dict[str, Callable[[Any, list[str], Any, bool], None]] = {
    "$set": _set,
    "$unset": _unset,
    "$setOnInsert": _set_on_insert,
    "$inc": _arithmetic(lambda a, b: a + b),
    "$mul": _arithmetic(lambda a, b: a * b),
    "$min": _extreme(lambda new, old: new < old),
    "$max": _extreme(lambda new, old: new > old),
    "$bit": _bit,
    "$rename": _rename,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
    "$pullAll": _pull_all,
    "$pop": _pop,
}
