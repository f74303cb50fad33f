"""The lake and the clusters: where the tables are, and how to reach Hubble and the API server of each cluster."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from warehouse.config.values import ClusterName, Duration, Section
from warehouse.wording import counted


class Lake(Section):
    """Where the tables are."""

    url: str = "./lake"
    """A folder (relative to the configuration file), or s3://, gs://, az:// with a prefix."""
    options: dict[str, str] = Field(default_factory=dict)
    """Options of the object store (region, endpoint); values of the form env:NAME are read from the environment."""
    cache: Path | None = None
    """Folder for copies of a remote lake's files; hindcast-<user> in the system's temporary folder by default."""
    cache_bytes: int = Field(default=2 * 1024**3, ge=0)
    """Maximum size of the copies in bytes; 0 disables copying."""

    @property
    def is_local(self) -> bool:
        return "://" not in self.url


class Tls(Section):
    """Transport security of a Hubble address. TLS 1.3 is the minimum, as for Hubble's own servers."""

    ca: Path | None = None
    """Certificates of the authorities that sign the server's; the public ones from certifi by default."""
    cert: Path | None = None
    """Client certificate, for mutual TLS; read again when it changes."""
    key: Path | None = None
    """Key of the client certificate."""
    server_name: str | None = None
    """Name that the server's certificate must have, if it is not the host of the address."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both for mutual TLS, or neither")
        return self


class Auth(Section):
    """A token or password for a gateway in front of relay, sent as gRPC metadata. It is never sent over plaintext."""

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
    parts: int = Field(default=1, ge=1, le=1_000)
    """Number of parts into which `nodes` are divided, by the hash of their address, so that several collectors can store the cluster."""
    plaintext: bool = False
    """True to connect without TLS."""
    tls: Tls = Tls()
    auth: Auth | None = None
    allow: tuple[dict[str, Any], ...] = ()
    """Flow filters in the form of Hubble's FlowFilter: only flows that match one are sent."""
    deny: tuple[dict[str, Any], ...] = ()
    """Flow filters: flows that match one are not sent."""
    silent_after: Duration = timedelta(minutes=2)
    """If relay reports a node as connected but it has sent nothing for this long, its flows are requested again."""
    poll_every: Duration = timedelta(seconds=10)
    """How often the states and counters of nodes are polled."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address,) if self.address else self.nodes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.address is None) == (not self.nodes):
            raise ValueError("give either address (hubble-relay) or nodes (a list of Hubble nodes)")
        if self.parts > max(1, len(self.nodes)):
            raise ValueError(
                f"parts: {counted(len(self.nodes), 'node')} cannot be divided into {self.parts} parts; nor can a relay's stream"
            )
        if self.plaintext and self.tls != Tls():
            raise ValueError("plaintext: true and tls exclude each other")
        if self.plaintext and self.auth:
            raise ValueError("auth over plaintext would expose the secret on the network: use tls")
        for address in self.addresses:
            host, colon, port = address.rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{address!r} is not host:port, with a port from 1 to 65535")
        return self


class Kubernetes(Section):
    """The source of the cluster's configuration: its API server, or a folder of manifests."""

    kubeconfig: Path | None = None
    """File with the API server's address and the credentials."""
    context: str | None = None
    """Context of the kubeconfig; its current context by default. Without kubeconfig, kubectl's own kubeconfig is used."""
    in_cluster: bool = False
    """True if Hindcast runs in a pod of the cluster, to use its service account."""
    manifests: Path | None = None
    """Folder of YAML or JSON files with the objects, as in a GitOps repository; no API server is needed."""
    exclude: tuple[str, ...] = ()
    """Files and folders below the manifests folder to skip: path patterns with * and ?."""
    render: tuple[str, ...] = ()
    """Command that writes the manifests to its standard output, e.g. [kubectl, kustomize, .]: program and arguments, run in the
    folder without a shell; {folder} is replaced by the folder's absolute path."""
    render_timeout: Duration = timedelta(minutes=2)
    """Time limit of the command."""
    audit_log: Path | None = None
    """The API server's audit log, in JSON lines: it records who changed what and when more exactly than the objects do."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = [self.kubeconfig is not None or self.context is not None, self.in_cluster, self.manifests is not None]
        if sum(sources) != 1:
            raise ValueError("give one of: kubeconfig (with or without context), in_cluster: true, manifests")
        if self.manifests is not None and self.audit_log is not None:
            raise ValueError("audit_log can only be used with an API server, not with manifests")
        if self.manifests is None and (self.render or self.exclude):
            raise ValueError("render and exclude can only be used with manifests, not with an API server")
        if self.render and self.exclude:
            raise ValueError("exclude cannot be used with render: the render command decides which manifests it writes")
        if any(not argument for argument in self.render[:1]):
            raise ValueError("render: the name of the program is empty; give a list such as [kubectl, kustomize, .]")
        return self


class _Credentials(Section):
    """Credentials of their own for what is written to a cluster."""

    kubeconfig: Path | None = None
    """File with the API server's address and the credentials."""
    context: str | None = None
    """Context of the kubeconfig; its current context by default."""
    in_cluster: bool = False
    """True to use the service account of Hindcast's own pod."""

    @property
    def access(self) -> Kubernetes:
        return Kubernetes(kubeconfig=self.kubeconfig, context=self.context, in_cluster=self.in_cluster)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.kubeconfig is not None or self.context is not None) == self.in_cluster:
            raise ValueError("give one of: kubeconfig (with or without context), in_cluster: true")
        return self


class Proposer(_Credentials):
    """Credentials with which approved proposals are applied: they may impersonate users, and need no other right."""


class OpenReports(_Credentials):
    """Credentials with which findings and drift are written into the cluster as OpenReports: they need the rights to those alone."""


class Cluster(Section):
    """One cluster of the fleet."""

    name: ClusterName
    labels: dict[str, str] = Field(default_factory=dict)
    hubble: Hubble | None = None
    kubernetes: Kubernetes | None = None
    proposer: Proposer | None = None
    """How approved proposals are applied; with the credentials of `kubernetes` by default."""
    open_reports: OpenReports | None = None
    """How findings and drift are written into the cluster as OpenReports; they are not written by default."""

    @property
    def proposing(self) -> Kubernetes | None:
        """The access with which proposals are checked and applied; None if there is no API server to ask."""
        if self.proposer is not None:
            return self.proposer.access
        return self.kubernetes if self.kubernetes is not None and self.kubernetes.manifests is None else None
