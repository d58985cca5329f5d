"""Why a change of the schema was refused, in the words of Cassandra, which tools and tests look for.

The metadata log refuses in words that suit every door, with a code; here the code and the statement's own
change give the sentence that users of CQL know, and the log's, which says more, follows it.
"""

from __future__ import annotations

import re
from typing import Final

from core.metadata import Change, CreateIndex
from core.requests import Changed

_PART: Final = re.compile(r"(?:column|field) ([^\s;,]+)")
_TEXTS: Final = {
    "already_exists": "{what} already exists",
    "no_such_keyspace": "Keyspace '{keyspace}' doesn't exist",
    "no_such_table": "Table '{keyspace}.{name}' doesn't exist (unconfigured table {name}: table {name} does "
    "not exist)",
    "no_such_type": "Type '{keyspace}.{name}' doesn't exist (Type {keyspace}.{name} doesn't exist)",
    "no_such_index": "Index '{keyspace}.{name}' doesn't exist",
    "no_such_column": "Column {part} was not found in table '{keyspace}.{name}'",
    "no_such_field": "Unkown field {part} in user type {keyspace}.{name}",
    "column_exists": "Column with name '{part}' already exists",
    "field_exists": "Cannot add field {part} to type {keyspace}.{name}: a field with name {part} already "
    "exists",
    "type_exists": "A user type with name '{name}' already exists",
}
_INVALID: Final = (
    (r"(\S+) is part of the primary key, which stays", "Cannot drop PRIMARY KEY column {0}"),
    (r"can be renamed, which (\S+) is not", "Cannot rename non PRIMARY KEY column {0}"),
    (
        r"the type (\S+) is used by",
        "Cannot drop user type '{keyspace}.{0}' as it is still used by tables or types",
    ),
    (
        r"keys are made of the type (\S+) in (.+?): ",
        "Cannot add new field to user type {keyspace}.{0} as the type is being used in keys by tables: {1}",
    ),
    (r"two fields have one name", "Duplicate field name in type '{name}'"),
    (r"the index (\S+) is on", "Index {name} already exists or is a duplicate of existing index {0}"),
    (r"index \S+?\.(\S+) exists already", "Index '{0}' already exists"),
    (r"there is no role (\S+)", "{0} doesn't exist"),
    (r"the role (\S+) exists already", "{0} already exists"),
    (r"the column (\S+) has an index", "Cannot drop column {0} because it has dependent secondary indexes"),
)
"""Sentences for refusals that have no code of their own, found by the log's."""


def words_for(changed: Changed, change: Change) -> str:
    """The text of a refusal of this change."""
    keyspace = getattr(change, "keyspace", "") or getattr(change, "name", "")
    name = getattr(change, "name", "") or getattr(change, "table", "")
    if isinstance(change, CreateIndex):
        name = change.table if changed.code.startswith("no_such") else change.index.name
    found = _PART.search(changed.error)
    words = {"keyspace": keyspace, "name": name, "part": found[1] if found else ""}
    for pattern, sentence in _INVALID:
        match = re.search(pattern, changed.error)
        if match:
            return f"{sentence.format(*match.groups(), **words)}: {changed.error}"
    text = _TEXTS.get(changed.code, "")
    if text:
        what = f"Table '{keyspace}.{name}'" if hasattr(change, "columns") else f"Keyspace '{name}'"
        sentence = text.format(what=what, **words)
        says_more = not changed.error.startswith("there is no ") or "; " in changed.error
        return f"{sentence}: {changed.error}" if says_more else sentence
    return changed.error
