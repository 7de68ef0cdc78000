"""Which router answers a path: the app's prefix, mounts in mounts, and what wins over what."""

from __future__ import annotations

from cvx.backend.functions.components import ComponentTree
from cvx.backend.functions.http_actions import HttpRoutes, Routed, find_route
from cvx.backend.model.components import Instance, Mount


def routes(*listed: str) -> HttpRoutes:
    """From texts such as `GET /a` and `POST /b/*`."""
    pairs = [text.split(" ") for text in listed]
    return HttpRoutes.of([{"route": {"method": method, "path": path}} for method, path in pairs])


def tree(prefix: str | None, **mounts: dict[str, str]) -> ComponentTree:
    """By path (`app` is the app, `_` stands for the slash): what each mounts where."""
    found = {}
    for name, mounted in mounts.items():
        path = "" if name == "app" else name.replace("_", "/")
        mount = Mount(path, "../x", prefix if path == "" else None, mounted)
        found[path] = Instance("id", "active", mount)
    return ComponentTree(found, 0)


def test_the_longest_prefix_wins_and_an_exact_route_over_all() -> None:
    shop = tree(None, app={"/shop/": "shop"}, shop={"/admin/": "deep"}, shop_deep={})
    routers = {
        "": routes("GET /", "GET /shop/help", "GET /shop/admin/*", "POST /*"),
        "shop": routes("GET /", "GET /items/*", "POST /items"),
        "shop/deep": routes("GET /users"),
    }

    def found(method: str, path: str) -> Routed | None:
        return find_route(shop, routers.get, method, path)

    assert found("GET", "/") == Routed("", "/", "/")
    assert found("HEAD", "/shop/help") == Routed("", "/shop/help", "/shop/help")
    assert found("GET", "/shop/") == Routed("shop", "/", "/")
    assert found("GET", "/shop/items/7") == Routed("shop", "/items/7", "/items/*")
    assert found("GET", "/shop/admin/users") == Routed("", "/shop/admin/users", "/shop/admin/*")
    assert found("POST", "/shop/admin/users") == Routed("shop/deep", "/users", None)
    assert found("POST", "/shop") == Routed("", "/shop", "/*")
    assert found("GET", "/nowhere") == Routed("", "/nowhere", None), "the router itself may know more"


def test_an_apps_own_prefix_is_taken_off_first() -> None:
    app = tree("/api/", app={"/c/": "c"}, c={})
    routers = {"": routes("GET /hello"), "c": routes("GET /x")}
    assert find_route(app, routers.get, "GET", "/api/hello") == Routed("", "/hello", "/hello")
    assert find_route(app, routers.get, "GET", "/api/c/x") == Routed("c", "/x", "/x")
    assert find_route(app, routers.get, "GET", "/hello") is None
    assert find_route(app, routers.get, "GET", "/c/x") is None


def test_components_without_a_router() -> None:
    app = tree(None, app={"/c/": "c"}, c={"/d/": "d"}, c_d={})
    routers = {"c/d": routes("GET /x")}
    assert find_route(app, routers.get, "GET", "/c/d/x") == Routed("c/d", "/x", "/x")
    assert find_route(app, routers.get, "GET", "/c/x") is None
    assert find_route(app, routers.get, "GET", "/x") is None
