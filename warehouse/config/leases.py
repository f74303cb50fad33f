"""Where the collectors of one lake tell each other that they are alive, so that they can share its clusters."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import model_validator

from warehouse.config.clusters import Kubernetes
from warehouse.config.values import Duration, Section


class LeaseObjects(Section):
    """The API server whose Lease objects are used."""

    kubeconfig: Path | None = None
    """File with the API server's address and the credentials."""
    context: str | None = None
    """Context of the kubeconfig; its current context by default."""
    in_cluster: bool = False
    """True to use the service account of the collector's own pod."""
    namespace: str | None = None
    """Namespace of the Lease objects; with `in_cluster`, the pod's own by default."""

    @property
    def access(self) -> Kubernetes:
        return Kubernetes(kubeconfig=self.kubeconfig, context=self.context, in_cluster=self.in_cluster)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kubeconfig is not None or self.context is not None) == self.in_cluster:
            raise ValueError("give one of: kubeconfig (with or without context), in_cluster: true")
        if self.namespace is None and not self.in_cluster:
            raise ValueError("give namespace: the Lease objects' own, in which the credentials may create, read and delete them")
        return self


class Leases(Section):
    """How collectors share clusters. Collectors of the same lake and the same clusters divide these evenly."""

    duration: Duration = timedelta(seconds=10)
    """A collector that has given no sign of life for this long has lost its clusters to the others; a sign comes three times as often."""
    kubernetes: LeaseObjects | None = None
    """Lease objects of an API server. By default, signs of life are small files of the lake."""

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.duration < timedelta(seconds=1):
            raise ValueError("duration: a lease of less than a second is lost by every pause; give 1s or more")
        return self
