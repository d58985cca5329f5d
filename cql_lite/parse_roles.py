"""The part of the parser that reads statements about roles and permissions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from cql_lite import ast, lexer
from cql_lite.ast import Name, QualifiedName, Resource, RoleOptions
from cql_lite.parse_rows import Rows

PERMISSIONS: Final = (
    "CREATE",
    "ALTER",
    "DROP",
    "SELECT",
    "MODIFY",
    "AUTHORIZE",
    "DESCRIBE",
    "EXECUTE",
    "UNMASK",
    "SELECT_MASKED",
)
_ALL: Final = {
    "KEYSPACES": "all keyspaces",
    "ROLES": "all roles",
    "FUNCTIONS": "all functions",
    "TABLES": "all tables",
    "MBEANS": "all mbeans",
}
_IN_KEYSPACE: Final = ("FUNCTIONS", "TABLES")

_Item = TypeVar("_Item")


class Roles(Rows):
    """Reads statements about roles."""

    def _either(self, read: Callable[[], _Item]) -> tuple[_Item, ...]:
        """One or several, with parentheses around or not."""
        if not self.accept("("):
            return self.several(read)
        items = self.several(read)
        self.expect(")", "the last of these")
        return items

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """A map of constants, as text."""
        at = self.at()
        if self.ups[self.index] != "{":
            self.fail("a map: {'name': 'value'}")
        found = self.value()
        if isinstance(found, ast.SetLiteral) and not found.items:
            return ()
        pairs: dict[str, str] = {}
        if isinstance(found, ast.MapLiteral):
            for key, value in found.entries:
                if not isinstance(key, ast.Literal) or not isinstance(value, ast.Literal):
                    self.wrong(
                        key.at, "this map holds something else than constants", "write {'name': 'value'}"
                    )
                if key.text in pairs:
                    self.wrong(key.at, f"{key.text} stands twice in this map")
                pairs[key.text] = value.text
        else:
            self.wrong(at, "this is no map", "write {'name': 'value'}")
        return tuple(pairs.items())

    def create_role(self, at: ast.At, *, user: bool) -> ast.CreateRole:
        """What follows CREATE ROLE or USER."""
        if_not_exists = self.if_not_exists()
        role = self.role()
        options = self._user_options() if user else self._role_options()
        if user and options.login is None:
            options = RoleOptions(options.password, options.hashed, login=True, superuser=options.superuser)
        return ast.CreateRole(role, options, if_not_exists, user, at)

    def alter_role(self, at: ast.At, *, user: bool) -> ast.AlterRole:
        """What follows ALTER ROLE or USER."""
        if_exists = self.if_exists()
        role = self.role()
        options = self._user_options() if user else self._role_options()
        return ast.AlterRole(role, options, if_exists, user, at)

    def _user_options(self) -> RoleOptions:
        password, hashed, superuser = None, False, None
        if self.accept("WITH"):
            hashed = self.accept("HASHED")
            self.expect("PASSWORD", "WITH")
            password = self.string("the password")
        if self.ups[self.index] in ("SUPERUSER", "NOSUPERUSER"):
            superuser = self.ups[self.index] == "SUPERUSER"
            self.index += 1
        self.following = "WITH PASSWORD, SUPERUSER, NOSUPERUSER or "
        return RoleOptions(password, hashed, superuser=superuser)

    def _role_options(self) -> RoleOptions:
        self.following = "WITH or "
        if not self.accept("WITH"):
            return RoleOptions()
        found: dict[str, object] = {}
        while True:
            at = self.at()
            for name, value in self._role_option():
                if name in found:
                    self.wrong(at, f"the option {name} stands twice")
                found[name] = value
            if not self.accept("AND"):
                break
        self.following = "AND or "
        return RoleOptions(**found)  # type: ignore[arg-type]  # each value is of its own option

    def _role_option(self) -> tuple[tuple[str, object], ...]:
        up = self.ups[self.index]
        self.index += 1
        if up == "HASHED":
            self.expect("PASSWORD", "HASHED")
            self.expect("=", "PASSWORD")
            return (("password", self.string("the hashed password")), ("hashed", True))
        if up == "PASSWORD":
            self.expect("=", up)
            return (("password", self.string("the password")),)
        if up in ("LOGIN", "SUPERUSER"):
            self.expect("=", up)
            if self.ups[self.index] not in ("TRUE", "FALSE"):
                self.fail(f"TRUE or FALSE after {up} =")
            self.index += 1
            return ((up.lower(), self.ups[self.index - 1] == "TRUE"),)
        if up == "OPTIONS":
            self.expect("=", up)
            return (("options", self.pairs()),)
        if up == "ACCESS":
            self.expect("TO", up)
            return (("datacenters", self._datacentres()),)
        self.index -= 1
        return self.fail("PASSWORD, HASHED PASSWORD, LOGIN, SUPERUSER, OPTIONS or ACCESS TO")

    def _datacentres(self) -> tuple[str, ...]:
        if self.accept("ALL"):
            self.expect("DATACENTERS", "ALL")
            return ()
        self.expect("DATACENTERS", "ACCESS TO")
        self.expect("{", "DATACENTERS")
        names = self.several(lambda: self.string("a datacentre"))
        self.expect("}", "the datacentres")
        return names

    # --- permissions

    def grant(self) -> ast.Grant | ast.GrantRole:
        """GRANT, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        self.following = ""
        if self._is_permission("TO"):
            permissions, resource = self._permissions(), self._on()
            self.expect("TO", "what is granted")
            return ast.Grant(permissions, resource, self.role(), at)
        role = self.role()
        if not self.accept("TO"):
            self.fail("TO after a role", f"permissions are ALL, {', '.join(PERMISSIONS[:8])}")
        return ast.GrantRole(role, self.role(), at)

    def revoke(self) -> ast.Revoke | ast.RevokeRole:
        """REVOKE, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        self.following = ""
        if self._is_permission("FROM"):
            permissions, resource = self._permissions(), self._on()
            self.expect("FROM", "what is revoked")
            return ast.Revoke(permissions, resource, self.role(), at)
        role = self.role()
        if not self.accept("FROM"):
            self.fail("FROM after a role", f"permissions are ALL, {', '.join(PERMISSIONS[:8])}")
        return ast.RevokeRole(role, self.role(), at)

    def _is_permission(self, then: str) -> bool:
        up = self.ups[self.index]
        return (up == "ALL" or up in PERMISSIONS) and self.ups[self.index + 1] != then

    def _permissions(self) -> tuple[str, ...]:
        if self.accept("ALL"):
            self.accept("PERMISSIONS")
            return ()
        return self.several(self._permission)

    def _permission(self) -> str:
        up = self.ups[self.index]
        if up not in PERMISSIONS:
            self.fail(f"a permission ({', '.join(PERMISSIONS[:8])})")
        self.index += 1
        if not self.accept("PERMISSION"):
            self.accept("PERMISSIONS")
        return up

    def _on(self) -> Resource:
        self.expect("ON", "the permission")
        return self._resource()

    def _resource(self) -> Resource:
        at = self.at()
        up = self.ups[self.index]
        if up == "ALL":
            self.index += 1
            every = self.ups[self.index]
            kind = _ALL.get(every)
            if kind is None:
                self.fail("KEYSPACES, TABLES, ROLES or FUNCTIONS after ALL")
            self.index += 1
            if every == "TABLES" or (every in _IN_KEYSPACE and self.ups[self.index] == "IN"):
                self.expect("IN", every)
                self.expect("KEYSPACE", "IN")
                return Resource(kind, QualifiedName(self.ident("a keyspace"), "", at), at)
            return Resource(kind, None, at)
        if up in ("KEYSPACE", "SCHEMA"):
            self.index += 1
            return Resource("keyspace", QualifiedName("", self.ident("a keyspace"), at), at)
        if up == "ROLE" and (self.is_name(1) or self.kinds[self.index + 1] == lexer.STRING):
            self.index += 1
            return Resource("role", QualifiedName("", self.role().text, at), at)
        if up == "FUNCTION" and self.is_name(1):
            self.index += 1
            name = self.qualified("a function")
            if self.accept("("):
                if self.ups[self.index] != ")":
                    self.several(self.type)
                self.expect(")", "the types")
            return Resource("function", name, at)
        if up in ("MBEAN", "MBEANS") and self.kinds[self.index + 1] == lexer.STRING:
            self.index += 1
            return Resource("mbean", QualifiedName("", self.string("a bean"), at), at)
        if up in ("TABLE", "COLUMNFAMILY"):
            self.index += 1
        return Resource("table", self.qualified("KEYSPACE, TABLE, ROLE, ALL or a table after ON"), at)

    def list(self) -> ast.ListRoles | ast.ListPermissions:
        """LIST, of which the first word was read."""
        at = self.lexemes.at(self.index - 1)
        self.following = ""
        if self.accept("USERS"):
            return ast.ListRoles(users=True, at=at)
        if self.accept("ROLES"):
            of = self._of()
            self.following = "OF, NORECURSIVE or "
            return ast.ListRoles(of, not self.accept("NORECURSIVE"), at=at)
        if self.ups[self.index] != "ALL" and self.ups[self.index] not in PERMISSIONS:
            self.fail(f"ROLES, USERS, ALL or a permission ({', '.join(PERMISSIONS[:8])})")
        permissions = self._permissions()
        resource = self._resource() if self.accept("ON") else None
        of = self._of()
        self.following = "ON, OF, NORECURSIVE or "
        return ast.ListPermissions(permissions, resource, of, not self.accept("NORECURSIVE"), at)

    def _of(self) -> Name | None:
        return self.role() if self.accept("OF") else None
