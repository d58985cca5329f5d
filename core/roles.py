"""Roles and what they may, as the metadata log has them. They are recorded, told and not yet enforced."""

from __future__ import annotations

from typing import Final

import msgspec

from core.schema import Pairs


class Permission(msgspec.Struct, frozen=True, order=True):
    """A permission (in capitals) on a resource, written as Cassandra does: data/ks/table, roles/name..."""

    resource: str
    name: str


class Role(msgspec.Struct, frozen=True):
    """A role. `hash` is that of its password, with salt and parameters; empty for one without.

    `member_of` are the roles granted to it. `datacentres` empty means all.
    """

    name: str
    superuser: bool = False
    login: bool = False
    hash: str = ""
    options: Pairs = ()
    datacentres: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()
    permissions: tuple[Permission, ...] = ()


class CreateRole(msgspec.Struct, frozen=True, tag="create_role"):
    """Create a role."""

    role: Role
    if_not_exists: bool = False


class AlterRole(msgspec.Struct, frozen=True, tag="alter_role"):
    """Give a role those fields of `role` that are named in `only`."""

    role: Role
    only: tuple[str, ...]
    if_exists: bool = False


class DropRole(msgspec.Struct, frozen=True, tag="drop_role"):
    """Drop a role; it is taken from all that have it."""

    name: str
    if_exists: bool = False


class GrantRole(msgspec.Struct, frozen=True, tag="grant_role"):
    """Make `to` a member of `role`; or, with `revoke`, no more."""

    role: str
    to: str
    revoke: bool = False


class GrantPermissions(msgspec.Struct, frozen=True, tag="grant_permissions"):
    """Give a role permissions on a resource; or, with `revoke`, take them."""

    role: str
    resource: str
    permissions: tuple[str, ...]
    revoke: bool = False


RoleChange = CreateRole | AlterRole | DropRole | GrantRole | GrantPermissions
ROLE_CHANGES: Final = (CreateRole, AlterRole, DropRole, GrantRole, GrantPermissions)
