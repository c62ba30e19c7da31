"""Routers whose routes declare the roles that may use them. A route that declares no roles is closed to every key."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from fastapi import APIRouter
from fastapi.types import DecoratedCallable
from starlette.routing import Mount, Route

from shared.web.api_keys import Role

Roles: TypeAlias = frozenset[Role | None]
"""The roles that may use a route; None stands for a request without a key."""
RouteRoles: TypeAlias = Mapping[tuple[str, str], Roles]
"""Roles by method and path as the framework has it, such as ("GET", "/predicciones/{id}")."""

PUBLIC: Roles = frozenset({None, *Role})
"""Open to every caller, with a key or without."""
PEOPLE: Roles = frozenset({Role.MEDICO, Role.ANALISTA, Role.OPS})
"""Open to every key of a person."""
NOBODY: Roles = frozenset()
"""The roles of a route that declares none."""


SCHEMAS = "#/components/schemas/{model}"
"""Where a schema of the OpenAPI document is, as Pydantic's `ref_template`."""


class Body(NamedTuple):
    """The JSON body of a handler that reads it by itself: its name and JSON schema in the OpenAPI document."""

    name: str
    schema: Mapping[str, Any]


class Router(APIRouter):
    """An `APIRouter` whose `get` and `post` take the roles of the route."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of APIRouter
        super().__init__(**options)
        self.declared: dict[tuple[str, str], Roles] = {}
        self.bodies: dict[str, Mapping[str, Any]] = {}

    def get(
        self,
        path: str,
        *,
        roles: Iterable[Role | None] = NOBODY,
        **options: Any,  # noqa: ANN401 - those of APIRouter.get
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Add a GET route that only `roles` may use."""
        self.declared["GET", self.prefix + path] = frozenset(roles)
        return super().get(path, **options)

    def post(
        self,
        path: str,
        *,
        roles: Iterable[Role | None] = NOBODY,
        body: Body | None = None,
        **options: Any,  # noqa: ANN401 - those of APIRouter.post
    ) -> Callable[[DecoratedCallable], DecoratedCallable]:
        """Add a POST route that only `roles` may use; `body` documents a body that the framework does not read."""
        self.declared["POST", self.prefix + path] = frozenset(roles)
        if body is not None:
            self.bodies[body.name] = body.schema
            content = {"application/json": {"schema": {"$ref": SCHEMAS.format(model=body.name)}}}
            options["openapi_extra"] = {"requestBody": {"required": True, "content": content}}
        return super().post(path, **options)


def route_roles(*routers: APIRouter) -> RouteRoles:
    """Return the roles of each route of `routers`, in order; NOBODY for a route that declares none."""
    roles: dict[tuple[str, str], Roles] = {}
    for router in routers:
        declared = router.declared if isinstance(router, Router) else {}
        roles |= {address: declared.get(address, NOBODY) for address in addresses(router)}
    return roles


def addresses(router: APIRouter) -> Iterator[tuple[str, str]]:
    """Yield method and path of each route of `router`. HEAD counts as GET."""
    for route in router.routes:
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/{{path:path}}"
        elif isinstance(route, Route):
            yield from ((method, route.path) for method in sorted((route.methods or set()) - {"HEAD"}))
