"""How one change of the roles is applied. Everything is checked first; what cannot be done raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from core import limits
from core.roles import (
    AlterRole,
    CreateRole,
    DropRole,
    GrantPermissions,
    GrantRole,
    Permission,
    Role,
    RoleChange,
)
from node.metadata_checks import NothingToDoError, RefusedError

Roles = Mapping[str, Role]


def changed_roles(roles: Roles, change: RoleChange) -> Roles:
    """The roles after a change; raises RefusedError or NothingToDoError."""
    match change:
        case CreateRole():
            return _created(roles, change)
        case AlterRole():
            if change.if_exists and change.role.name not in roles:
                raise NothingToDoError("absent")
            unknown = [name for name in change.only if name not in Role.__struct_fields__]
            if unknown:
                raise RefusedError("invalid", f"a role has no {unknown[0][:60]!r}")
            only: dict[str, Any] = {name: getattr(change.role, name) for name in change.only}
            return _with(roles, msgspec.structs.replace(_role(roles, change.role.name), **only))
        case DropRole():
            if change.if_exists and change.name not in roles:
                raise NothingToDoError("absent")
            _role(roles, change.name)
            return {name: _without(role, change.name) for name, role in roles.items() if name != change.name}
        case GrantRole():
            return _granted(roles, change)
        case GrantPermissions():
            role = _role(roles, change.role)
            named = {Permission(change.resource, name) for name in change.permissions}
            held = {*role.permissions} - named if change.revoke else {*role.permissions} | named
            return _with(roles, msgspec.structs.replace(role, permissions=tuple(sorted(held))))


def _created(roles: Roles, change: CreateRole) -> Roles:
    role = change.role
    if role.name in roles:
        if change.if_not_exists:
            raise NothingToDoError("exists")
        raise RefusedError("already_exists", f"the role {role.name} exists already")
    if not 0 < len(role.name) <= limits.ROLE_CHARS_MAX:
        raise RefusedError("bad_name", f"a role's name has 1 to {limits.ROLE_CHARS_MAX} characters")
    if len(roles) >= limits.ROLES_MAX:
        raise RefusedError("too_many", f"there are {limits.ROLES_MAX} roles, which is the most there can be")
    return _with(roles, role)


def _granted(roles: Roles, change: GrantRole) -> Roles:
    _role(roles, change.role)
    to = _role(roles, change.to)
    held = change.role in to.member_of
    if change.revoke:
        if not held:
            raise RefusedError("invalid", f"{change.to} is not a member of {change.role}")
        return _with(roles, _without(to, change.role))
    if held:
        raise RefusedError("invalid", f"{change.to} is a member of {change.role} already")
    if change.to in inherited(roles, change.role):
        raise RefusedError(
            "invalid", f"{change.role} is a member of {change.to}, so it cannot be granted to it"
        )
    return _with(roles, msgspec.structs.replace(to, member_of=tuple(sorted((*to.member_of, change.role)))))


def inherited(roles: Roles, name: str) -> tuple[str, ...]:
    """A role, the roles granted to it, those granted to them..., each once."""
    found = [name]
    for at in found:
        role = roles.get(at)
        found += [one for one in (() if role is None else role.member_of) if one not in found]
    return tuple(found)


def _role(roles: Roles, name: str) -> Role:
    role = roles.get(name)
    if role is None:
        raise RefusedError("no_such_role", f"there is no role {name}")
    return role


def _with(roles: Roles, role: Role) -> Roles:
    return {**roles, role.name: role}


def _without(role: Role, gone: str) -> Role:
    if gone not in role.member_of:
        return role
    return msgspec.structs.replace(role, member_of=tuple(one for one in role.member_of if one != gone))
