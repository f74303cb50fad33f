"""Which extra of the distribution brings a module that a command needs, for the message when it is not installed."""

from __future__ import annotations

from collections.abc import Mapping

EXTRA_OF_MODULE: Mapping[str, frozenset[str]] = {
    "collectors": frozenset({"certifi", "google", "grpc", "prometheus_client", "ptars", "pycurl"}),
    "pipelines": frozenset({"kubernetes", "urllib3"}),
    "dashboards": frozenset({"altair", "starlette", "streamlit"}),
    "airflow": frozenset({"airflow"}),
}
"""The modules that each extra brings, by their top-level names."""


def missing(error: ModuleNotFoundError) -> str | None:
    """What to install when an import failed, as a sentence; None if the module belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRA_OF_MODULE.items():
        if module in modules:
            return f"this command needs the {extra} extra, which is not installed: pip install 'hindcast-flows[{extra}]'"
    return None
