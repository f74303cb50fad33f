"""The dashboard's server: Streamlit with our middleware in front. `hindcast dashboard` starts it as a process of its own.

Secrets are read from the files or variables that the configuration names, and handed over in memory.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import pkgutil
import threading
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dashboards import arriving, front, views
from dashboards.access import sign_in
from dashboards.frame import assets
from warehouse import config

SCRIPT = Path(__file__).with_name("app.py")


def build(settings: config.Dashboard) -> st.App:
    """The application with the middleware that its mode of sign-in needs. Raises ConfigError for a secret that cannot be read."""
    auth = settings.auth
    middleware: list[Any] = []
    secrets: dict[str, Any] = {}
    if auth.proxy:
        secret = config.read_secret(auth.proxy.secret_file, auth.proxy.secret_env)
        middleware.append(Middleware(sign_in.ProxySecret, settings=auth.proxy, secret=secret))
    if auth.oidc:
        middleware.append(Middleware(sign_in.KeepLink, settings=auth))
        secrets["auth"] = {
            "redirect_uri": auth.oidc.redirect_uri,
            "cookie_secret": config.read_secret(auth.oidc.cookie_secret_file, auth.oidc.cookie_secret_env),
            "client_id": auth.oidc.client_id,
            "client_secret": config.read_secret(auth.oidc.client_secret_file, auth.oidc.client_secret_env),
            "server_metadata_url": auth.oidc.metadata_url,
            "client_kwargs": {"scope": auth.oidc.scope},
        }
    middleware.append(Middleware(sign_in.OwnMedia, settings=auth))
    pages = [page.name.replace("_", "-") for page in pkgutil.iter_modules(views.__path__)]
    routes = [
        Route("/overview", _to_first_page),
        *(Route(f"/{page}", front.page(connects_at_once=auth.oidc is None, then=arriving.begin)) for page in ("", *pages)),
        Mount(assets.ADDRESS, StaticFiles(directory=assets.FOLDER)),
    ]
    return st.App(SCRIPT, secrets=secrets or None, routes=routes, middleware=middleware)


def _to_first_page(request: Request) -> RedirectResponse:
    """The overview is the first page, which Streamlit serves at the root alone."""
    return RedirectResponse(f"/?{request.url.query}" if request.url.query else "/")


def options(settings: config.Dashboard, host: str, port: int) -> dict[str, Any]:
    """Settings of Streamlit that depend on ours."""
    # The pages' files do not change while they are served: watching each of them for every visitor would only cost.
    found: dict[str, Any] = {"server.address": host, "server.port": port, "server.fileWatcherType": "none"}
    if settings.auth.mode == "local":
        # A page elsewhere on the web must not reach this one by a name that it lets lead to loopback.
        found["server.allowedHosts"] = ["localhost", "127.0.0.1", "::1"]
    if settings.auth.proxy:
        found["server.trustedUserHeaders"] = {settings.auth.proxy.user_header: "user", settings.auth.proxy.groups_header: "groups"}
    return found


def _import_pages() -> None:
    """Import the pages, so that the first visitor does not wait for it.

    Streamlit collects garbage after each run of a page; what was imported stays for good and need not be looked through each time.
    """
    for page in pkgutil.iter_modules(views.__path__, f"{views.__name__}."):
        importlib.import_module(page.name)
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve until stopped; the configuration is the one that the environment names."""
    parser = argparse.ArgumentParser(description="Serve the dashboard; started by `hindcast dashboard`.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    settings = config.load_config().dashboard
    threading.Thread(target=_import_pages, name="import pages", daemon=True).start()
    build(settings).run(config=options(settings, asked.host, asked.port))


if __name__ == "__main__":
    main()
