"""Finds the extra of the distribution that provides a missing module, for the error message."""

from __future__ import annotations

from collections.abc import Mapping

EXTRA_OF_MODULE: Mapping[str, frozenset[str]] = {
    "collectors": frozenset({"certifi", "google", "grpc", "prometheus_client", "ptars", "pycurl", "re2"}),
    "api": frozenset({"cel_expr_python", "cryptography", "grpclib", "joserfc", "uvloop"}),
    "pipelines": frozenset({"kubernetes", "urllib3"}),
    "dashboards": frozenset({"starlette", "streamlit"}),
    "client": frozenset({"adbc_driver_flightsql", "adbc_driver_manager"}),
    "airflow": frozenset({"airflow"}),
    "spark": frozenset({"pyspark", "sqlglot"}),
}
"""The top-level modules that each extra provides."""


def missing(error: ModuleNotFoundError) -> str | None:
    """Return a sentence that says what to install after a failed import; None if the module does not belong to an extra."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRA_OF_MODULE.items():
        if module in modules:
            return f"this command needs the {extra} extra, which is not installed: pip install 'hindcast-flows[{extra}]'"
    return None
