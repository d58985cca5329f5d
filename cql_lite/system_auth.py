"""The rows of `system_auth`: roles, who has them and what they may. Hashes of passwords are not told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from core.roles import Role

Row = dict[str, Any]


class State(Protocol):
    """What is read of the metadata state."""

    @property
    def roles(self) -> Mapping[str, Role]:
        """All roles by name."""


def _ordered(state: State) -> list[Role]:
    return sorted(state.roles.values(), key=lambda role: role.name)


def roles(state: State, _place: object) -> Iterator[Row]:
    """`system_auth.roles`."""
    for role in _ordered(state):
        yield {
            "role": role.name,
            "can_login": role.login,
            "is_superuser": role.superuser,
            "member_of": list(role.member_of) or None,
            "salted_hash": None,
        }


def role_members(state: State, _place: object) -> Iterator[Row]:
    """`system_auth.role_members`."""
    for role in _ordered(state):
        for member in _ordered(state):
            if role.name in member.member_of:
                yield {"role": role.name, "member": member.name}


def role_permissions(state: State, _place: object) -> Iterator[Row]:
    """`system_auth.role_permissions`."""
    for role in _ordered(state):
        held: dict[str, list[str]] = {}
        for permission in role.permissions:
            held.setdefault(permission.resource, []).append(permission.name)
        for resource in sorted(held):
            yield {"role": role.name, "resource": resource, "permissions": held[resource]}


def network_permissions(state: State, _place: object) -> Iterator[Row]:
    """`system_auth.network_permissions`."""
    for role in _ordered(state):
        if role.datacentres:
            yield {"role": role.name, "dcs": list(role.datacentres)}
