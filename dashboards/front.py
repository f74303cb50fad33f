"""The page of HTML in which Streamlit's front end starts, with what makes our pages appear sooner.

Streamlit serves the same file for every address, and its front end finds out one thing after another: where its server is, which
settings the server has, and with each element that it is to draw, which script draws it. The server here knows all of that at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse
from streamlit import file_util

from dashboards.frame import assets

ON_EVERY_PAGE = ("Html", "Button", "PageLink", "ButtonGroup")
"""Streamlit's scripts that every page needs."""
_TABLE, _FILTERS = ("DataFrame",), ("MenuButton", "Autocomplete")
_CHART = ("ArrowVegaLiteChart", "loadVegaEmbed", "embed", "vega-interpreter")
OF_PAGE = {
    "": (*_FILTERS, "Metric", *_CHART, *_TABLE),
    "flows": (*_FILTERS, *_CHART, *_TABLE),
    "map": (*_FILTERS, "BidiComponent"),
    "compare": (*_FILTERS, *_CHART, *_TABLE),
    "policies": _TABLE,
    "what-if": ("BidiComponent", "Metric", *_CHART, *_TABLE),
    "posture": _TABLE,
    "findings": _TABLE,
    "coverage": ("Metric", *_CHART, *_TABLE),
    "sql": ("BidiComponent",),
    "access": _TABLE,
}
"""Which of Streamlit's scripts a page needs, by its address: those that Streamlit loads when it has such an element to draw."""
_FONTS = ("inter-400", "inter-600")

# Read by Streamlit's front end when it starts. With an address and settings it connects at once and asks for both while it
# draws; without them it first asks for the one and then for the other, on a page other than the first at two addresses. Nobody may
# send messages to the page from outside of it: the only origin that is named is its own.
_SETTINGS = """<script>
  window.__streamlit = {
    BACKEND_BASE_URL: location.origin,
    MAIN_PAGE_BASE_URL: location.origin,
    HOST_CONFIG: {allowedOrigins: [location.origin], useExternalAuthToken: false},
  };
</script>"""


def page(*, connects_at_once: bool, then: Callable[[Request], None]) -> Callable[[Request], HTMLResponse]:
    """Return what answers with the page for an address, and then calls `then` with the request.

    It must not connect at once where people sign in: Streamlit takes who they are only from a connection with a cookie that it sets
    when it is asked for its health, and the browser forgets that cookie before it forgets that they have signed in.
    """

    def answer(request: Request) -> HTMLResponse:
        written = _html(request.url.path.strip("/"), connects_at_once)
        return HTMLResponse(written, headers={"Cache-Control": "no-cache"}, background=BackgroundTask(then, request))

    return answer


@cache
def _html(address: str, connects_at_once: bool) -> str:
    folder = Path(file_util.get_static_dir())
    scripts = _with_imports(folder / "static" / "js", (*ON_EVERY_PAGE, *OF_PAGE.get(address, ())))
    links = [f'<link rel="preload" href="/app/static/fonts/{name}.woff2" as="font" type="font/woff2" crossorigin />' for name in _FONTS]
    written = (folder / "index.html").read_text(encoding="utf-8").replace('"./', '"/')
    links += [f'<link rel="modulepreload" crossorigin href="/static/js/{name}" />' for name in scripts if name not in written]
    # The font of Streamlit's own look, which ours does not use.
    written = re.sub(r'<link\s+rel="preload"[^>]*SourceSans[^>]*>', "", written)
    ours = "\n".join([*([_SETTINGS] if connects_at_once else []), f'<script defer src="{assets.ADDRESS}/page.js"></script>', *links])
    return written.replace("</head>", f"{ours}\n</head>", 1)


def _with_imports(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Return the files of scripts and of all that they import; a script that this version of Streamlit does not have is left out."""
    found: list[str] = []
    wanted = [file.name for name in names for file in sorted(folder.glob(f"{name}.*.js"))]
    while wanted:
        file = wanted.pop(0)
        if file not in found:
            found.append(file)
            wanted += re.findall(r'from"\./([^"]+\.js)"', (folder / file).read_text(encoding="utf-8"))
    return found
