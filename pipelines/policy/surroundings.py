"""What policies refer to, gathered from the documents beside them: groups of addresses and Services. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from pipelines.policy.peers import Network
from pipelines.policy.reading import CidrGroup, Document, Service, Surroundings

CONTEXT_KINDS = frozenset({"CiliumCIDRGroup", "Service"})
"""Kinds of documents that are no policies, but that policies refer to."""


def gather(documents: Iterable[Document], known: Surroundings) -> Surroundings:
    """The surroundings with the groups and Services among the documents, which replace those of the same name.

    A set of policies with no group in it leaves the groups as unknown as they were.
    """
    groups: dict[str, CidrGroup] = {}
    services: list[Service] = []
    for document in documents:
        if document.kind == "CiliumCIDRGroup":
            groups[_metadata(document).get("name", "")] = _group(document)
        elif document.kind == "Service":
            services.append(_service(document))
    if groups:
        known = dataclasses.replace(known, cidr_groups={**(known.cidr_groups or {}), **groups})
    if services:
        known = dataclasses.replace(known, services=(*(known.services or ()), *services))
    return known


def _metadata(document: Document) -> Mapping[str, Any]:
    found = document.manifest.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _group(document: Document) -> CidrGroup:
    spec = document.manifest.get("spec")
    texts = spec.get("externalCIDRs") if isinstance(spec, Mapping) else None
    networks: list[Network] = []
    for text in texts or []:
        try:
            networks.append(ip_network(str(text), strict=False))
        except ValueError:
            continue  # the agent passes over an entry that it cannot read, and takes the others
    return CidrGroup(dict(_metadata(document).get("labels") or {}), tuple(networks))


def _service(document: Document) -> Service:
    metadata, spec = _metadata(document), document.manifest.get("spec")
    selector = spec.get("selector") if isinstance(spec, Mapping) else None
    return Service(metadata.get("namespace", "default"), metadata.get("name", ""), metadata.get("labels") or {}, selector or {})
