"""Reading the types in result metadata: [option]s, and the class names of custom types.

Writing them is `Type.option`. A peer of another make may send types we do not have; their values are shown as
blobs under the name they came with.

Source: native_protocol_v5.spec, section 4.2.5.2.
"""

from __future__ import annotations

import re

from core.limits import TYPE_DEPTH_MAX, TYPE_FIELDS_MAX, VECTOR_DIMENSIONS_MAX
from cql_lite import types
from cql_lite.frames import MalformedError
from cql_lite.types import Type
from cql_lite.wire_parts import Reader

_CUSTOM, _LIST, _MAP, _SET, _UDT, _TUPLE = 0x0000, 0x0020, 0x0021, 0x0022, 0x0030, 0x0031
_PLAIN = {of.option_id: of for of in types.SCALARS.values() if of is not types.JSON}
_BY_CLASS = {of.class_name: of for of in types.SCALARS.values() if of is not types.JSON}
_VECTOR = re.compile(r"org\.apache\.cassandra\.db\.marshal\.VectorType\(([\w.]+)\s*,\s*([0-9]{1,5})\)")


def read_option(reader: Reader, depth: int = 0) -> Type:
    """The type at the reader; raises MalformedError."""
    if depth >= TYPE_DEPTH_MAX:
        raise MalformedError(f"types nested more than {TYPE_DEPTH_MAX} deep", fatal=False)
    code = reader.short()
    if code in _PLAIN:
        return _PLAIN[code]
    if code == _CUSTOM:
        return _of_class(reader.string())
    if code == _LIST:
        return types.ListType(element=read_option(reader, depth + 1))
    if code == _SET:
        return types.SetType(element=read_option(reader, depth + 1))
    if code == _MAP:
        keys = read_option(reader, depth + 1)
        return types.MapType(keys=keys, values=read_option(reader, depth + 1))
    if code == _TUPLE:
        parts = [read_option(reader, depth + 1) for _ in range(_count(reader))]
        return types.TupleType(types=tuple(parts))
    if code == _UDT:
        return _udt(reader, depth)
    raise MalformedError(f"a type with the unknown code 0x{code:04x}", fatal=False)


def _count(reader: Reader) -> int:
    count = reader.short()
    if count > TYPE_FIELDS_MAX:
        raise MalformedError(f"a type with {count} fields", fatal=False)
    return count


def _udt(reader: Reader, depth: int) -> types.UserType:
    keyspace, name = reader.string(), reader.string()
    fields = [(reader.string(), read_option(reader, depth + 1)) for _ in range(_count(reader))]
    names = tuple(field for field, _ in fields)
    return types.UserType(keyspace=keyspace, name=name, names=names, types=tuple(of for _, of in fields))


def _of_class(name: str) -> Type:
    if name in _BY_CLASS:
        return _BY_CLASS[name]
    match = _VECTOR.fullmatch(name)
    if match and match[1] in _BY_CLASS and 0 < int(match[2]) <= VECTOR_DIMENSIONS_MAX:
        return types.VectorType(element=_BY_CLASS[match[1]], dimensions=int(match[2]))
    return types.Blob(f"'{name}'", _CUSTOM, name.rpartition(".")[2])
