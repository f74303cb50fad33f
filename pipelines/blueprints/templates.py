"""The library of policy templates for blueprints: each has a few parameters and renders one Kubernetes object.

The docstring of a template says what it protects from; `hindcast blueprint templates` prints it. The templates
themselves are in `kubernetes_templates`, `cilium_templates` and `own_templates`. No I/O.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from pipelines.blueprints.cilium_templates import (
    AllowFromIngress,
    AllowToKubeApiserver,
    AllowToNames,
    ClusterDefaultDeny,
    DenyCloudMetadata,
    DenyFromWorld,
    DnsVisibility,
)
from pipelines.blueprints.kubernetes_templates import (
    AllowDns,
    AllowFromNamespaces,
    AllowSameNamespace,
    AllowToCidrs,
    AllowToNamespaces,
    DefaultDeny,
    DefaultDenyEgress,
    DefaultDenyIngress,
)
from pipelines.blueprints.own_templates import ClusterManifest, NamespaceManifest
from pipelines.blueprints.template_parts import Template

NamespaceTemplate = Annotated[
    DefaultDenyIngress
    | DefaultDenyEgress
    | DefaultDeny
    | AllowDns
    | AllowSameNamespace
    | AllowFromNamespaces
    | AllowToNamespaces
    | AllowToCidrs
    | AllowToNames
    | AllowToKubeApiserver
    | AllowFromIngress
    | NamespaceManifest,
    Field(discriminator="template"),
]
"""An entry of a blueprint that renders one object in each of its namespaces."""

ClusterTemplate = Annotated[
    ClusterDefaultDeny | DenyCloudMetadata | DenyFromWorld | DnsVisibility | ClusterManifest,
    Field(discriminator="template"),
]
"""An entry of a blueprint that renders one object per cluster."""


def all_templates() -> dict[str, type[Template]]:
    """Return every template by its name, those for namespaces first."""
    classes = [model for union in (NamespaceTemplate, ClusterTemplate) for model in get_args(get_args(union)[0])]
    return {get_args(model.model_fields["template"].annotation)[0]: model for model in classes}
