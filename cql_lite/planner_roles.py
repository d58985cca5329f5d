"""Statements about roles and permissions: recorded in the metadata log, listed back, and not yet enforced.

Whoever changes them is told so with each answer. Passwords leave the statement as salted hashes (scrypt, RFC
7914): the log never sees them. Resources are named as Cassandra names them: data/keyspace/table, roles/name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from core.metadata import Change
from core.requests import AdminRequest, Changed, MetadataRequest
from core.roles import AlterRole, CreateRole, DropRole, GrantPermissions, GrantRole, Role
from core.schema import Keyspace, Table
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_results import (
    PEER_EPOCHS,
    Execution,
    Options,
    ResultColumn,
    RowsResult,
    VoidResult,
    unless_failed,
)
from cql_lite.planner_terms import Context, MarkerSpec
from cql_lite.planner_words import words_for
from cql_lite.types import BOOLEAN, TEXT, Type, parse_type

NOT_ENFORCED: Final = "Roles and permissions are recorded, but this version does not enforce them."
SCRYPT: Final = {"n": 2**14, "r": 8, "p": 1}
SALT_BYTES: Final = 16
_DATA: Final = ("CREATE", "ALTER", "DROP", "SELECT", "MODIFY", "AUTHORIZE")
_ONE_ROLE: Final = ("ALTER", "DROP", "AUTHORIZE")
_FUNCTIONS: Final = ("CREATE", "ALTER", "DROP", "AUTHORIZE", "EXECUTE")
_BEANS: Final = ("AUTHORIZE", "DESCRIBE", "EXECUTE", "MODIFY", "SELECT")
APPLICABLE: Final[dict[str, tuple[str, ...]]] = {
    "all keyspaces": _DATA,
    "keyspace": _DATA,
    "all tables": _DATA,
    "table": _DATA[1:],
    "all roles": ("CREATE", "ALTER", "DROP", "AUTHORIZE", "DESCRIBE"),
    "role": _ONE_ROLE,
    "all functions": _FUNCTIONS,
    "function": _FUNCTIONS[1:],
    "all mbeans": _BEANS,
    "mbean": _BEANS,
}
"""Which permissions there are on a kind of resource."""
_OPTIONS: Final = parse_type("map<text, text>")
ROLE_COLUMNS: Final[tuple[tuple[str, Type], ...]] = (
    ("role", TEXT), ("super", BOOLEAN), ("login", BOOLEAN), ("options", _OPTIONS), ("datacenters", TEXT),
)  # fmt: skip
USER_COLUMNS: Final[tuple[tuple[str, Type], ...]] = (
    ("name", TEXT),
    ("super", BOOLEAN),
    ("datacenters", TEXT),
)
PERMISSION_COLUMNS: Final[tuple[tuple[str, Type], ...]] = (
    ("role", TEXT), ("username", TEXT), ("resource", TEXT), ("permission", TEXT),
)  # fmt: skip


class Schema(Protocol):
    """What is looked up in the metadata state."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """All roles by name."""

    @property
    def keyspaces(self) -> Mapping[str, Keyspace]:
        """All keyspaces by name."""

    def table(self, keyspace: str, name: str) -> Table | None:
        """The table of that name."""


class RolePlan:
    """A change of the roles; a password is hashed when it is executed."""

    is_read: Final = False
    markers: tuple[MarkerSpec, ...] = ()
    key_markers: tuple[int, ...] = ()

    def __init__(self, statement: ast.SchemaStatement, schema: Schema, keyspace: str) -> None:
        self._statement = statement
        self._schema = schema
        self._keyspace = keyspace

    def execute(self, context: Context, options: Options) -> Execution:
        """One request to the metadata log, and one that is answered once the live peers have heard of it."""
        change = self._change(context)
        (answer,) = yield (MetadataRequest(change),)
        changed = unless_failed(answer)
        assert isinstance(changed, Changed), changed
        if changed.error:
            raise InvalidRequestError(words_for(changed, change))
        yield (AdminRequest(PEER_EPOCHS),)  # drivers wait for peers to agree on tables, not on roles
        options.warn(NOT_ENFORCED)
        return VoidResult()

    def _change(self, context: Context) -> Change:
        statement = self._statement
        match statement:
            case ast.CreateRole():
                return CreateRole(_role(statement, context)[0], statement.if_not_exists)
            case ast.AlterRole():
                role, only = _role(statement, context)
                if not only:
                    raise InvalidRequestError(
                        "ALTER ROLE says what to change: WITH PASSWORD = '...', LOGIN = ..."
                    )
                return AlterRole(role, only, statement.if_exists)
            case ast.DropRole():
                return DropRole(statement.role.text, statement.if_exists)
            case ast.GrantRole():
                return GrantRole(statement.role.text, statement.to.text)
            case ast.RevokeRole():
                return GrantRole(statement.role.text, statement.of.text, revoke=True)
        assert isinstance(statement, ast.Grant | ast.Revoke), statement
        resource = resource_of(statement.resource, self._schema, self._keyspace)
        permissions = applicable(statement.permissions, statement.resource)
        revoke = isinstance(statement, ast.Revoke)
        return GrantPermissions(statement.role.text, resource, permissions, revoke)


def _role(statement: ast.CreateRole | ast.AlterRole, context: Context) -> tuple[Role, tuple[str, ...]]:
    """The role that a statement tells, and the fields that it names."""
    said = statement.options
    given: dict[str, Any] = {
        "superuser": said.superuser,
        "login": said.login,
        "options": said.options,
        "datacentres": said.datacenters,
    }
    if said.password is not None:
        hashed = (
            said.password if said.hashed else hash_of(said.password, context.entropy.token_bytes(SALT_BYTES))
        )
        given["hash"] = hashed
    fields = {name: value for name, value in given.items() if value is not None}
    return Role(statement.role.text, **fields), tuple(sorted(fields))


def hash_of(password: str, salt: bytes) -> str:
    """A salted hash with its parameters, as text: scrypt$n$r$p$salt$key."""
    key = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **SCRYPT)
    return f"scrypt${SCRYPT['n']}${SCRYPT['r']}${SCRYPT['p']}${salt.hex()}${key.hex()}"


def applicable(permissions: Sequence[str], resource: ast.Resource) -> tuple[str, ...]:
    """The permissions named, all if none is; raises InvalidRequestError for one that cannot be there."""
    there = APPLICABLE[resource.kind]
    wrong = [name for name in permissions if name not in there]
    if wrong:
        raise InvalidRequestError(
            f"{wrong[0]} is no permission on {resource.kind}: there are {', '.join(there)}"
        )
    return tuple(permissions) or there


def resource_of(resource: ast.Resource, schema: Schema, keyspace: str) -> str:
    """A resource as Cassandra writes it; raises InvalidRequestError if it is not there."""
    kind, name = resource.kind, resource.name
    if kind in ("all keyspaces", "all roles", "all mbeans"):
        return {"all keyspaces": "data", "all roles": "roles", "all mbeans": "mbean"}[kind]
    if kind == "all functions":
        return "functions" if name is None else f"functions/{_there(name.keyspace, schema)}"
    assert name is not None, kind
    if kind == "keyspace":
        return f"data/{_there(name.name, schema)}"
    if kind == "all tables":
        return f"data/{_there(name.keyspace, schema)}/*"
    if kind == "role":
        if name.name not in schema.roles:
            raise InvalidRequestError(f"<role {name.name}> doesn't exist")
        return f"roles/{name.name}"
    if kind == "mbean":
        return f"mbean/{name.name}"
    place = name.keyspace or keyspace
    if not place:
        raise InvalidRequestError(
            f"No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.{name.name}"
        )
    if kind == "function":
        raise InvalidRequestError(
            f"<function {place}.{name.name}> doesn't exist: this version has none of its users'"
        )
    if schema.table(_there(place, schema), name.name) is None:
        raise InvalidRequestError(f"<table {place}.{name.name}> doesn't exist")
    return f"data/{place}/{name.name}"


def _there(keyspace: str, schema: Schema) -> str:
    if keyspace not in schema.keyspaces:
        raise InvalidRequestError(f"<keyspace {keyspace}> doesn't exist")
    return keyspace


def shown_resource(resource: str) -> str:
    """A resource as LIST shows it."""
    head, *rest = resource.split("/", 2)
    words = {"data": "keyspace", "roles": "role", "functions": "functions in", "mbean": "mbean"}
    if not rest:
        return f"<all {'keyspaces' if head == 'data' else 'mbeans' if head == 'mbean' else head}>"
    if head == "data" and len(rest) == 2:
        return f"<all tables in {rest[0]}>" if rest[1] == "*" else f"<table {rest[0]}.{rest[1]}>"
    return f"<{words[head]} {'/'.join(rest)}>"


# --- LIST


class ListPlan:
    """LIST ROLES, USERS or permissions."""

    is_read: Final = True
    markers: tuple[MarkerSpec, ...] = ()
    key_markers: tuple[int, ...] = ()

    def __init__(self, statement: ast.ListRoles | ast.ListPermissions, schema: Schema, keyspace: str) -> None:
        self._statement = statement
        self._schema = schema
        self._keyspace = keyspace

    def execute(self, context: Context, options: Options) -> Execution:
        """Nothing to ask: every peer knows the roles."""
        del context
        yield from ()
        options.warn(NOT_ENFORCED)
        statement = self._statement
        if isinstance(statement, ast.ListPermissions):
            return _result("role_permissions", PERMISSION_COLUMNS, self._permissions(statement))
        if statement.users:
            users = (role for role in self._roles(statement) if role.login)
            rows = ((role.name, role.superuser, _datacentres(role)) for role in users)
            return _result("users", USER_COLUMNS, rows)
        told = (
            (role.name, role.superuser, role.login, dict(role.options), _datacentres(role))
            for role in self._roles(statement)
        )
        return _result("roles", ROLE_COLUMNS, told)

    def _roles(self, statement: ast.ListRoles) -> list[Role]:
        names = self._named(statement.of, statement.recursive)
        return [self._schema.roles[name] for name in sorted(names)]

    def _named(self, of: ast.Name | None, recursive: bool) -> list[str]:
        roles = self._schema.roles
        if of is None:
            return list(roles)
        if of.text not in roles:
            raise InvalidRequestError(f"<role {of.text}> doesn't exist")
        found = [of.text]
        for name in found:
            if recursive or name == of.text:
                found += [one for one in roles[name].member_of if one not in found]
        return found

    def _permissions(self, statement: ast.ListPermissions) -> Iterator[tuple[str, str, str, str]]:
        on: tuple[str, ...] = ()
        if statement.resource is not None:
            on = _with_parents(resource_of(statement.resource, self._schema, self._keyspace))
        roles = self._named(statement.of, recursive=True)
        if statement.of is not None and not statement.recursive:
            roles = roles[:1]
        for name in sorted(roles):
            for held in self._schema.roles[name].permissions:
                named = not statement.permissions or held.name in statement.permissions
                if named and (not on or held.resource in on):
                    yield name, name, shown_resource(held.resource), held.name


def _with_parents(resource: str) -> tuple[str, ...]:
    parts = resource.split("/")
    found = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if parts[0] == "data" and len(parts) == 3:
        found.append(f"data/{parts[1]}/*")
    return tuple(found)


def _datacentres(role: Role) -> str:
    return ", ".join(role.datacentres) or "ALL"


def _result(table: str, columns: Sequence[tuple[str, Type]], rows: Iterator[tuple[Any, ...]]) -> RowsResult:
    told = tuple(ResultColumn("system_auth", table, name, of) for name, of in columns)
    encoded = [[of.encode(value) for (_, of), value in zip(columns, row, strict=True)] for row in rows]
    return RowsResult(told, encoded)


ROLE_STATEMENTS: Final = (
    ast.CreateRole, ast.AlterRole, ast.DropRole, ast.GrantRole, ast.RevokeRole, ast.Grant, ast.Revoke,
)  # fmt: skip


def plan_roles(statement: ast.Statement, schema: Schema, keyspace: str) -> RolePlan | ListPlan | None:
    """The plan of a statement about roles; None for any other."""
    if isinstance(statement, ROLE_STATEMENTS):
        return RolePlan(statement, schema, keyspace)
    if isinstance(statement, ast.ListRoles | ast.ListPermissions):
        return ListPlan(statement, schema, keyspace)
    return None
