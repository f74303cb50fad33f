"""The configuration file: its models, and errors that name file, line and key.

One YAML file, read once and passed down. Secrets appear by reference only (a file's path or an environment
variable's name). Opening the files and connections it names does not belong here.

This module holds the top-level model and reads the file; each of the other modules in this package holds some of the sections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from warehouse.config.alerts import Alertmanager, AlertRules, Alerts, Route, Silence
from warehouse.config.clusters import Auth, Cluster, Hubble, Kubernetes, Lake, OpenReports, Proposer, Tls
from warehouse.config.collecting import SECRET_HEADERS, SECRET_PARAMETERS, Collect, Redact, Rollups
from warehouse.config.dashboard import QUICK_FILTERS, Dashboard, DashboardAuth, Oidc, Proxy, QuickFilter
from warehouse.config.delivery import Delivery, Folder, Hook, Smtp
from warehouse.config.documents import parse_document
from warehouse.config.engines import Engine
from warehouse.config.leases import LeaseObjects, Leases
from warehouse.config.ownership import Grant, Ownership, OwnershipSource
from warehouse.config.proposals import Git, Proposals
from warehouse.config.reports import (
    OWNERS,
    READY_REPORTS,
    REPORT_FORMATS,
    WEEKLY,
    ZONE_OTHER,
    ZONE_OUTSIDE,
    Reports,
    Schedule,
    Segmentation,
)
from warehouse.config.retention import CONFIGURATION_TABLES, Hold, Retention, RetentionOverride
from warehouse.config.serving import Serve, ServeCertificates, ServeLimits, ServeOidc, ServeTls
from warehouse.config.values import (
    ClusterName,
    Duration,
    LabelSelector,
    Moment,
    Section,
    check_cluster_name,
    environment,
    parse_duration,
    parse_moment,
    parse_selector,
    read_secret,
)
from warehouse.errors import ConfigError

__all__ = [
    "CONFIGURATION_TABLES",
    "DASHBOARD_CODE_VARIABLE",
    "DEFAULT_PATH",
    "ENVIRONMENT_VARIABLE",
    "OWNERS",
    "QUICK_FILTERS",
    "READY_REPORTS",
    "REPORT_FORMATS",
    "SECRET_HEADERS",
    "SECRET_PARAMETERS",
    "WEEKLY",
    "ZONE_OTHER",
    "ZONE_OUTSIDE",
    "AlertRules",
    "Alertmanager",
    "Alerts",
    "Auth",
    "Cluster",
    "ClusterName",
    "Collect",
    "Config",
    "Dashboard",
    "DashboardAuth",
    "Delivery",
    "Duration",
    "Engine",
    "Folder",
    "Git",
    "Grant",
    "Hold",
    "Hook",
    "Hubble",
    "Kubernetes",
    "LabelSelector",
    "Lake",
    "LeaseObjects",
    "Leases",
    "Moment",
    "Oidc",
    "OpenReports",
    "Ownership",
    "OwnershipSource",
    "Proposals",
    "Proposer",
    "Proxy",
    "QuickFilter",
    "Redact",
    "Reports",
    "Retention",
    "RetentionOverride",
    "Rollups",
    "Route",
    "Schedule",
    "Section",
    "Segmentation",
    "Serve",
    "ServeCertificates",
    "ServeLimits",
    "ServeOidc",
    "ServeTls",
    "Silence",
    "Smtp",
    "Tls",
    "check_cluster_name",
    "environment",
    "load_config",
    "parse_config",
    "parse_duration",
    "parse_moment",
    "parse_selector",
    "read_secret",
    "source_path",
]  # fmt: skip

ENVIRONMENT_VARIABLE = "HINDCAST_CONFIG"
DASHBOARD_CODE_VARIABLE = "HINDCAST_DASHBOARD_CODE"
"""Holds the code with which whoever started the dashboard decides there without sign-in; set by `hindcast dashboard`."""
DEFAULT_PATH = Path("hindcast.yaml")


class Config(Section):
    """The whole file."""

    lake: Lake = Lake()
    engine: Engine = Engine()
    clusters: tuple[Cluster, ...] = ()
    ownership: Ownership = Ownership()
    blueprints: tuple[Path, ...] = ()
    """Blueprint files; names may contain * and ?."""
    proposals: Proposals = Proposals()
    collect: Collect = Collect()
    rollups: Rollups = Rollups()
    retention: Retention = Retention()
    deliveries: tuple[Delivery, ...] = ()
    """Targets to which reports and alerts are sent."""
    alerts: Alerts = Alerts()
    reports: Reports = Reports()
    dashboard: Dashboard = Dashboard()
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _names(self) -> Self:
        for what, names in (
            ("cluster", [cluster.name for cluster in self.clusters]),
            ("delivery", [delivery.name for delivery in self.deliveries]),
        ):
            for name in names:
                if names.count(name) > 1:
                    section = "clusters" if what == "cluster" else "deliveries"
                    raise ValueError(f"{section}: the name {name!r} is used {names.count(name)} times; each {what} needs a different name")
        named = [("alerts.deliver_to", name) for name in self.alerts.deliver_to]
        named += [(f"alerts.routes.{place}.to", name) for place, route in enumerate(self.alerts.routes) for name in route.to]
        named += [(f"reports.schedules: {one.name}: deliver_to", name) for one in self.reports.schedules for name in one.deliver_to]
        for where, name in named:
            if name not in {delivery.name for delivery in self.deliveries}:
                raise ValueError(f"{where}: there is no delivery named {name!r}")
        return self


def source_path() -> Path:
    """Return the file that is read if none is given."""
    return Path(environment().get(ENVIRONMENT_VARIABLE) or DEFAULT_PATH)


def load_config(path: Path | None = None) -> Config:
    """Read the configuration from `path`, else from $HINDCAST_CONFIG, else from ./hindcast.yaml.

    Paths in the file are relative to its folder. Raises ConfigError naming file, line and key.
    """
    source = path or source_path()
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{source}: there is no such file. Give --config FILE or set {ENVIRONMENT_VARIABLE}; `hindcast demo` needs no configuration"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read: {error}") from error
    return parse_config(text, source=source)


def parse_config(text: str, *, source: Path) -> Config:
    """Parse the text of the file `source`; see load_config."""
    document = parse_document(text, source=source, expected=f"a mapping of sections ({', '.join(Config.model_fields)})")
    return _resolve_paths(document.build(Config, secret=("auth", "options")), folder=source.resolve().parent)


def _resolve_paths(config: Config, *, folder: Path) -> Config:
    """Make paths that are relative to the file's folder absolute."""

    def resolve(value: Any) -> Any:
        if isinstance(value, Path):
            return folder / value.expanduser()
        if isinstance(value, Section):
            update = {name: resolve(getattr(value, name)) for name in type(value).model_fields}
            if isinstance(value, Lake | Folder) and value.is_local:
                update["url"] = str(folder / Path(value.url).expanduser())
            return value.model_copy(update=update)
        if isinstance(value, tuple):
            return tuple(resolve(item) for item in value)
        return value

    resolved: Config = resolve(config)
    return resolved
