"""The configuration file: its models, and errors that name file, line and key.

One YAML file, read once and passed down. Secrets appear by reference only (a file's path or an environment
variable's name). Opening what it names is other modules' work.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from warehouse.documents import parse_document
from warehouse.errors import ConfigError
from warehouse.selectors import Selector

ENVIRONMENT_VARIABLE = "HINDCAST_CONFIG"
DEFAULT_PATH = Path("hindcast.yaml")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdwy])")


def parse_duration(text: str | timedelta) -> timedelta:
    """Turn `90s`, `1h30m`, `30d` or `3y` (365 days each) into a timedelta; raises ValueError."""
    if isinstance(text, timedelta):
        return text
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write a number and a unit (ms, s, m, h, d, w, y), e.g. 90s, 1h30m or 30d")
    return timedelta(seconds=sum(float(number) * (0.001 if unit == "ms" else _UNITS[unit]) for number, unit in parts))


Duration = Annotated[timedelta, pydantic.BeforeValidator(parse_duration)]
_CLUSTER_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
ClusterName = Annotated[str, Field(pattern=_CLUSTER_NAME)]


def check_cluster_name(name: str) -> None:
    """Raise ConfigError unless `name` may name a cluster: it becomes a folder of the lake."""
    if not re.match(_CLUSTER_NAME, name):
        raise ConfigError(
            f"cluster name {name!r}: use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends"
        )


class Section(BaseModel):
    """A part of the file: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lake(Section):
    """Where the tables are."""

    url: str = "./lake"
    """A folder (relative to the configuration file), or s3://, gs://, az:// with a prefix."""
    options: dict[str, str] = {}
    """Options of the object store (region, endpoint); values of the form env:NAME are read from the environment."""

    @property
    def is_local(self) -> bool:
        return "://" not in self.url


class Tls(Section):
    """Transport security of a Hubble address: TLS 1.3 at least, which Hubble's own servers ask for too."""

    ca: Path | None = None
    """Certificates that sign the server's; the public authorities' of certifi when absent."""
    cert: Path | None = None
    """Client certificate, for mutual TLS; read again when it changes."""
    key: Path | None = None
    """Key of the client certificate."""
    server_name: str | None = None
    """Name the server's certificate must carry, where it is not the address's host."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both for mutual TLS, or neither")
        return self


class Auth(Section):
    """A token or password for a gateway in front of relay, sent as gRPC metadata. Never over plaintext."""

    bearer_file: Path | None = None
    bearer_env: str | None = None
    username: str | None = None
    password_file: Path | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bearer = [value for value in (self.bearer_file, self.bearer_env) if value is not None]
        password = [value for value in (self.password_file, self.password_env) if value is not None]
        if len(bearer) > 1 or len(password) > 1 or bool(bearer) == bool(password) or (self.username is None) == bool(password):
            raise ValueError("give bearer_file or bearer_env, or username with password_file or password_env")
        return self


class Hubble(Section):
    """A hubble-relay, or nodes, to stream flows from."""

    address: str | None = None
    """host:port of hubble-relay."""
    nodes: tuple[str, ...] = ()
    """host:port of Hubble nodes, instead of a relay."""
    plaintext: bool = False
    """No TLS. Has to be said; without it TLS is used."""
    tls: Tls = Tls()
    auth: Auth | None = None
    allow: tuple[dict[str, Any], ...] = ()
    """Flow filters in the form of Hubble's FlowFilter: only flows that match one are sent."""
    deny: tuple[dict[str, Any], ...] = ()
    """Flow filters: flows that match one are not sent."""
    silent_after: Duration = timedelta(minutes=2)
    """A node that relay calls connected but that sent nothing for this long is asked for anew."""
    poll_every: Duration = timedelta(seconds=10)
    """How often nodes' states and counters are asked for."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address,) if self.address else self.nodes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.address is None) == (not self.nodes):
            raise ValueError("give address (hubble-relay) or nodes (a list of Hubble nodes), one of them")
        if self.plaintext and self.tls != Tls():
            raise ValueError("plaintext: true and tls exclude each other")
        if self.plaintext and self.auth:
            raise ValueError("auth over plaintext would show the secret to the network: use tls")
        for address in self.addresses:
            host, colon, port = address.rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{address!r} is not host:port")
        return self


class Kubernetes(Section):
    """Where the cluster's configuration is read from: its API server, or a folder of manifests."""

    kubeconfig: Path | None = None
    """File with the API server's address and the credentials."""
    context: str | None = None
    """Context of the kubeconfig; its current one when absent. Alone, it is looked for in kubectl's own kubeconfig."""
    in_cluster: bool = False
    """Hindcast runs in a pod of the cluster: its service account is used."""
    manifests: Path | None = None
    """Folder with YAML or JSON files that hold the objects, as GitOps keeps them; needs no API server."""
    audit_log: Path | None = None
    """The API server's audit log, JSON lines: says who changed what, and when, more exactly than the objects do."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [self.kubeconfig is not None or self.context is not None, self.in_cluster, self.manifests is not None]
        if sum(sources) != 1:
            raise ValueError("give one of: kubeconfig (with or without context), in_cluster: true, manifests")
        if self.manifests is not None and self.audit_log is not None:
            raise ValueError("audit_log goes with an API server, not with manifests")
        return self


class Cluster(Section):
    """One cluster of the fleet."""

    name: ClusterName
    labels: dict[str, str] = {}
    hubble: Hubble | None = None
    kubernetes: Kubernetes | None = None


def parse_moment(given: Any) -> datetime | None:
    """A time of the file, UTC where it names no zone: `2026-03-02`, `2026-03-02T14:00Z`. Raises ValueError."""
    if given is None or isinstance(given, datetime):
        moment = given
    elif isinstance(given, date):
        moment = datetime(given.year, given.month, given.day)  # noqa: DTZ001
    else:
        try:
            moment = datetime.fromisoformat(str(given))
        except ValueError as error:
            raise ValueError(f"{given!r} is not a time like 2026-03-02 or 2026-03-02T14:00Z") from error
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, pydantic.BeforeValidator(parse_moment)]


def parse_selector(text: str) -> str:
    """Check a label selector; raises ValueError."""
    Selector.parse(text)
    return text


LabelSelector = Annotated[str, pydantic.AfterValidator(parse_selector)]


class Grant(Section):
    """Who has a role, and where. Names may hold * and ?."""

    subject: str = Field(min_length=1)
    """A user, or `group:NAME`."""
    role: Literal["platform-admin", "cluster-admin", "namespace-owner", "auditor"] | None = None
    clusters: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ()
    selector: LabelSelector | None = None
    """Kubernetes label selector: namespaces while they carry such labels, by the recorded configuration."""
    since: Moment | None = None
    """Only flows of this time on."""
    until: Moment | None = None
    """Only flows before this time."""
    deny: bool = False
    """Takes away what other grants give; namespaces, or whole clusters where none are named."""
    reason: str = ""
    """Why, for people."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.deny == (self.role is not None):
            raise ValueError("give a role, or deny: true to take away; one of them")
        if self.role not in (None, "namespace-owner") and (self.namespaces or self.selector is not None):
            raise ValueError(f"a {self.role} sees whole clusters: leave namespaces and selector away, or make it a namespace-owner")
        if self.since and self.until and self.since >= self.until:
            raise ValueError("since must be before until")
        return self


class OwnershipSource(Section):
    """Where, besides the file's grants, ownership is read from: the recorded configuration of the clusters."""

    kind: Literal["label", "annotation", "role_bindings"]
    clusters: tuple[str, ...] = ("*",)
    key: str | None = None
    """Label or annotation of namespaces that names the owners; an annotation may name several, with commas."""
    subject: str = "group:{value}"
    """The subject that a value stands for."""
    roles: tuple[str, ...] = ("admin", "edit")
    """Roles or ClusterRoles whose RoleBindings make an owner."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.key is None) != (self.kind == "role_bindings"):
            raise ValueError("label and annotation need a key, role_bindings take none")
        if "{value}" not in self.subject:
            raise ValueError("subject must hold {value}")
        return self


class Ownership(Section):
    """Who owns which namespaces."""

    grants: tuple[Grant, ...] = ()
    sources: tuple[OwnershipSource, ...] = ()
    """Read besides the grants, and added to them."""
    peer_detail: Literal["full", "workload", "namespace", "hidden"] = "workload"
    """How much of the other side an owner sees of a flow."""


SECRET_HEADERS = (
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token", "x-access-token",
    "x-csrf-token", "x-xsrf-token", "x-amz-security-token", "x-goog-iam-authorization-token", "x-vault-token", "x-gitlab-token",
    "x-hub-signature", "x-hub-signature-256", "x-forwarded-client-cert", "x-ms-token-aad-access-token", "private-token",
)  # fmt: skip
SECRET_PARAMETERS = (
    "access_token", "refresh_token", "id_token", "token", "api_key", "apikey", "password", "passwd", "pwd", "secret",
    "client_secret", "session", "sessionid", "sig", "signature", "X-Amz-Signature", "X-Amz-Credential",
    "X-Amz-Security-Token", "X-Goog-Signature", "X-Goog-Credential",
)  # fmt: skip


class Redact(Section):
    """Secrets that are taken out of flows before they are stored."""

    headers: tuple[str, ...] = SECRET_HEADERS
    """HTTP headers whose values are not stored, whatever their case."""
    url_user_info: bool = True
    """Whether user and password of URLs are left out."""
    url_parameters: tuple[str, ...] = SECRET_PARAMETERS
    """Parameters of URLs whose values are not stored, whatever their case."""
    url_query: bool = False
    """Whether all parameters of URLs are left out."""


class Collect(Section):
    """How collectors batch, spool and report."""

    flush_every: Duration = timedelta(seconds=10)
    """The longest a flow waits before it is written."""
    flush_rows: int = Field(default=500_000, gt=0)
    """Flows after which a flush comes early."""
    spool: Path | None = None
    """Folder for batches on their way to the lake; beside a local lake, else below the working directory, when absent."""
    spool_max_bytes: int = Field(default=2 * 1024**3, gt=0)
    """When the lake is away, batches wait here up to this size; then the streams are held."""
    listen: str = "127.0.0.1:9965"
    """Address of /metrics, /healthz and /readyz; empty for none. Loopback unless told otherwise."""
    redact: Redact = Redact()
    """Secrets that are not stored; `hindcast import` leaves them out too."""


class Rollups(Section):
    """How finely rollups tell peers and ports apart. A change holds for hours rolled up from then on."""

    world_prefix_ipv4: int = Field(default=24, ge=0, le=32)
    """Peers outside that have no DNS name count together by ranges of so many leading bits."""
    world_prefix_ipv6: int = Field(default=48, ge=0, le=128)
    ports_per_edge: int = Field(default=50, ge=1)
    """Of the ports between two ends in an hour, so many, the busiest, are told apart; the rest count as one without port."""


class KeptOtherwise(Section):
    """Other times for some clusters or namespaces. Names may hold * and ?; tables not named keep their time."""

    cluster: str = "*"
    namespace: str = "*"
    """Of either side of a flow. With * all that the clusters have is meant, also what has no namespace."""
    flows: Duration | None = None
    coverage: Duration | None = None
    edges_1h: Duration | None = None
    timeline_1m: Duration | None = None
    label_sets: Duration | None = None
    dns_names: Duration | None = None
    findings: Duration | None = None
    config: Duration | None = None
    others: Duration | None = None

    def time_of(self, table: str) -> timedelta | None:
        """What is said of a table, by its name; None for nothing."""
        time: timedelta | None = getattr(self, _kept_as(table), None)
        return time


_KEPT = frozenset(KeptOtherwise.model_fields) - {"cluster", "namespace", "others"} | {"access_log"}
"""The tables that have times of their own; the access log is the whole fleet's, so no override speaks of it."""
CONFIGURATION_TABLES = ("policies", "namespaces", "workloads", "services", "role_bindings", "cluster_settings", "config_coverage")
"""The tables whose time is that of `config`."""


def _kept_as(table: str) -> str:
    """Where the time of a table is said."""
    if table in CONFIGURATION_TABLES:
        return "config"
    return table if table in _KEPT else "others"


class Hold(Section):
    """A legal hold: what is not deleted, whatever else says so. Names may hold * and ?."""

    cluster: str = "*"
    namespace: str = "*"
    """Of either side of a flow. Rows without any namespace are held by * alone, the ledger's by any."""
    since: Moment | None = None
    """Start of the window, inclusive; the beginning of history when absent."""
    until: Moment | None = None
    """End of the window, exclusive; never ends when absent."""
    reason: str = Field(min_length=1)
    """Why, for whoever finds it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since {self.since.isoformat()} is not before until {self.until.isoformat()}")
        return self


class Retention(Section):
    """How long rows are kept: a whole UTC day goes when its end is older than this."""

    flows: Duration = timedelta(days=30)
    coverage: Duration = timedelta(days=400)
    """The ledger; as long as whatever it speaks of."""
    edges_1h: Duration = timedelta(days=400)
    timeline_1m: Duration = timedelta(days=400)
    label_sets: Duration = timedelta(days=400)
    dns_names: Duration = timedelta(days=400)
    access_log: Duration = timedelta(days=400)
    """Who looked at what."""
    findings: Duration = timedelta(days=3 * 365)
    config: Duration = timedelta(days=3 * 365)
    """Configuration history, from the end of a version on; what is in force stays."""
    others: Duration = timedelta(days=3 * 365)
    """Any other table whose rows belong to a day."""
    overrides: tuple[KeptOtherwise, ...] = ()
    """The first that matches and names the table holds."""
    holds: tuple[Hold, ...] = ()
    vacuum_after: Duration = timedelta(days=1)
    """How long files stay that left the tables: readers that began before need them, and --as-of with a version."""

    def time_of(self, table: str) -> timedelta:
        """How long rows of a table are kept, by its name, where no override says otherwise."""
        time: timedelta = getattr(self, _kept_as(table))
        return time

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.vacuum_after < timedelta(hours=1):
            raise ValueError("vacuum_after: less than an hour could take files from under a reader or a writer")
        spoken_of = ("flows", "edges_1h", "timeline_1m")
        sections: tuple[Retention | KeptOtherwise, ...] = (self, *self.overrides)
        longest = max((getattr(section, name) or timedelta(), name) for section in sections for name in spoken_of)
        shortest = min(section.coverage for section in sections if section.coverage is not None)
        if shortest < longest[0]:
            raise ValueError(
                f"coverage: the ledger would be kept for {shortest.days} days and {longest[1]} for {longest[0].days}; "
                "without it nobody can tell what was not seen: keep it as long"
            )
        return self


class Alerts(Section):
    """Who is told, besides the table `findings`, when a pipeline fails or is late."""

    webhook_file: Path | None = None
    """File that holds the address messages are posted to, as JSON with a `text`; the address is a secret."""
    webhook_env: str | None = None
    """Environment variable that holds it."""
    timeout: Duration = timedelta(seconds=10)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.webhook_file is not None and self.webhook_env is not None:
            raise ValueError("give webhook_file or webhook_env, not both")
        return self

    def webhook_url(self) -> str | None:
        """The address, None if there is none. Raises ConfigError if it cannot be read."""
        if self.webhook_file is None and self.webhook_env is None:
            return None
        return read_secret(self.webhook_file, self.webhook_env)


class QuickFilter(Section):
    """Filters that are set by one click."""

    name: str = Field(min_length=1)
    filters: tuple[str, ...] = Field(min_length=1)
    """As one types them, e.g. `verdict=DROPPED` or `src.ns!=kube-system`."""
    match: Literal["all", "any"] = "all"


QUICK_FILTERS = (
    QuickFilter(name="Applications", filters=("ns!=kube-system", "port!=53")),
    QuickFilter(
        name="Infrastructure", filters=("ns=kube-system", "label~^reserved:(host|remote-node|kube-apiserver|health)$"), match="any"
    ),
    QuickFilter(name="Services", filters=("service~.",)),
    QuickFilter(name="External", filters=("label=reserved:world",)),
    QuickFilter(name="DNS", filters=("port=53",)),
    QuickFilter(name="Dropped", filters=("verdict=DROPPED",)),
)


class Oidc(Section):
    """Sign-in at an OpenID Connect provider."""

    metadata_url: str
    """The provider's discovery document: https://.../.well-known/openid-configuration."""
    client_id: str
    client_secret_file: Path | None = None
    client_secret_env: str | None = None
    redirect_uri: str
    """Where the provider sends people back: this dashboard's address, as their browsers know it, with /oauth2callback."""
    cookie_secret_file: Path | None = None
    """A long random text that signs the cookie of the session; equal on all replicas."""
    cookie_secret_env: str | None = None
    user_claim: str = "email"
    """The claim that holds the name by which ownership knows the user."""
    groups_claim: str = "groups"
    scope: str = "openid email profile"

    @model_validator(mode="after")
    def _safe(self) -> Self:
        for what in ("client_secret", "cookie_secret"):
            if (getattr(self, f"{what}_file") is None) == (getattr(self, f"{what}_env") is None):
                raise ValueError(f"give {what}_file or {what}_env, one of them")
        for key in ("metadata_url", "redirect_uri"):
            url = urlsplit(getattr(self, key))
            if url.scheme != "https" and not (url.scheme == "http" and url.hostname in ("localhost", "127.0.0.1", "::1")):
                raise ValueError(f"{key} must be https, or http on this machine: codes and tokens go over it")
        if not urlsplit(self.redirect_uri).path.endswith("/oauth2callback"):
            raise ValueError("redirect_uri must end in /oauth2callback")
        return self


class Proxy(Section):
    """Sign-in at a proxy in front, which names the user in headers and shows that it is the proxy by a secret."""

    secret_file: Path | None = None
    secret_env: str | None = None
    secret_header: str = "X-Hindcast-Proxy-Secret"  # noqa: S105 - a name
    user_header: str = "X-Forwarded-User"
    groups_header: str = "X-Forwarded-Groups"
    """Groups with commas between them."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret_file is None) == (self.secret_env is None):
            raise ValueError("give secret_file or secret_env, one of them")
        if len({self.secret_header.lower(), self.user_header.lower(), self.groups_header.lower()}) < 3:
            raise ValueError("secret_header, user_header and groups_header must differ")
        return self


class DashboardAuth(Section):
    """How people show who they are."""

    mode: Literal["local", "oidc", "proxy"] = "local"
    """local: no sign-in, whoever sits at the machine chooses who to be; on loopback only."""
    oidc: Oidc | None = None
    proxy: Proxy | None = None

    @model_validator(mode="after")
    def _settings_of_the_mode(self) -> Self:
        for mode in ("oidc", "proxy"):
            if (self.mode == mode) != (getattr(self, mode) is not None):
                raise ValueError(
                    f"mode {self.mode} and the section {mode} do not go together: give {mode} with mode: {mode}, and only then"
                )
        return self


class Dashboard(Section):
    """The dashboard's address, its sign-in, and what it offers."""

    listen: str = "127.0.0.1:8501"
    auth: DashboardAuth = DashboardAuth()
    quick_filters: tuple[QuickFilter, ...] = QUICK_FILTERS


class Config(Section):
    """The whole file."""

    lake: Lake = Lake()
    clusters: tuple[Cluster, ...] = ()
    ownership: Ownership = Ownership()
    blueprints: tuple[Path, ...] = ()
    """Files of blueprints; names may hold * and ?."""
    collect: Collect = Collect()
    rollups: Rollups = Rollups()
    retention: Retention = Retention()
    alerts: Alerts = Alerts()
    dashboard: Dashboard = Dashboard()

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [cluster.name for cluster in self.clusters]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"clusters: the name {name!r} is given {names.count(name)} times; each cluster needs its own")
        return self


def source_path() -> Path:
    """The file that is read where none is named."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_PATH)


def load_config(path: Path | None = None) -> Config:
    """Read the configuration from `path`, else from $HINDCAST_CONFIG, else from ./hindcast.yaml.

    Relative paths in it are relative to its folder. Raises ConfigError naming file, line and key.
    """
    source = path or source_path()
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{source}: there is no such file. Give --config FILE or set {ENVIRONMENT_VARIABLE}; `hindcast demo` needs none"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read: {error}") from error
    return parse_config(text, source=source)


def parse_config(text: str, *, source: Path) -> Config:
    """Parse the text of the file `source`; see load_config."""
    document = parse_document(text, source=source, expected=f"a mapping of sections ({', '.join(Config.model_fields)})")
    return _resolve_paths(document.build(Config, secret=("auth", "options")), folder=source.resolve().parent)


def _resolve_paths(config: Config, *, folder: Path) -> Config:
    """Make relative paths absolute, taken from the file's folder."""

    def resolve(value: Any) -> Any:
        if isinstance(value, Path):
            return folder / value.expanduser()
        if isinstance(value, Section):
            update = {name: resolve(getattr(value, name)) for name in type(value).model_fields}
            if isinstance(value, Lake) and value.is_local:
                update["url"] = str(folder / Path(value.url).expanduser())
            return value.model_copy(update=update)
        if isinstance(value, tuple):
            return tuple(resolve(item) for item in value)
        return value

    resolved: Config = resolve(config)
    return resolved


def read_secret(file: Path | None, variable: str | None) -> str:
    """The secret held by a file or an environment variable; raises ConfigError naming which is missing, never the value."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"{file}: the secret cannot be read: {error.strerror}") from error
    if variable is not None and variable in os.environ:
        return os.environ[variable]
    raise ConfigError(f"the environment variable {variable} is not set")


def environment(**more: str) -> dict[str, str]:
    """The environment for a program that is started, with additions."""
    return {**os.environ, **more}
