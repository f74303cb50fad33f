"""Scripts of ours that the dashboard's server sends to browsers: where they are, and their address."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "assets"
ADDRESS = "/assets"
"""Where the server has the folder."""


def script(name: str, module: str) -> str:
    """The JavaScript of a Streamlit component that is drawn by `draw` of one of our modules.

    The module is fetched once and kept by the browser, instead of being sent with each drawing.
    """
    address = f"{ADDRESS}/{name}"
    return f"""export default function(component) {{
  import(new URL({address!r}, window.location.origin).href).then(({module}) => {module}.draw(component));
}}"""
