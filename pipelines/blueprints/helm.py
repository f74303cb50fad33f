"""Installs and upgrades Cilium with the real `helm`. The only module that runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.blueprints.model import Helm
from warehouse import config
from warehouse.errors import HindcastError

_ENOUGH_CHARACTERS = 2000


class HelmError(HindcastError):
    """`helm` is not installed, or failed; the message has its output."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What helm would do, or has done."""

    name: str
    namespace: str
    chart: str
    action: str
    """install, upgrade or unchanged."""
    changed: tuple[str, ...]
    """Objects of the chart that are created, changed or removed, as kind namespace/name."""


def plan_release(helm: Helm, settings: config.Kubernetes, *, folder: Path) -> Release:
    """Return what installing or upgrading would change, by a dry run against the API server. Raises HelmError."""
    before = _installed(helm, settings)
    answer = _upgrade(helm, settings, folder, ["--dry-run=server"])
    after = _objects(str(answer.get("manifest", "")))
    changed = tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
    action = "install" if not before else "upgrade" if changed else "unchanged"
    return Release(name=helm.release, namespace=helm.namespace, chart=_chart_of(answer), action=action, changed=changed)


def publish_release(helm: Helm, settings: config.Kubernetes, *, folder: Path, wait: bool = True) -> Release:
    """Install or upgrade, and wait until the chart's objects are ready. Raises HelmError."""
    before = _installed(helm, settings)
    answer = _upgrade(helm, settings, folder, ["--wait", "--timeout", helm.timeout] if wait else [])
    after = _objects(str(answer.get("manifest", "")))
    changed = tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
    return Release(
        name=helm.release, namespace=helm.namespace, chart=_chart_of(answer), action="upgrade" if before else "install", changed=changed
    )


def _upgrade(helm: Helm, settings: config.Kubernetes, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    chart = folder / helm.chart
    version = ["--version", helm.version] if helm.version else []
    # Values may contain secrets: they are passed in a private file, not on the command line.
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as values:
        yaml.safe_dump(helm.values, values)
        values.flush()
        arguments = ["upgrade", "--install", helm.release, str(chart) if chart.exists() else helm.chart, *version, "--values", values.name]
        output = _run([*arguments, "--namespace", helm.namespace, "--output", "json", *more], settings)
    try:
        answer = json.loads(output[output.index("{") :])
    except ValueError as error:
        raise HelmError(f"helm upgrade {helm.release}: its answer is not JSON: {output[:_ENOUGH_CHARACTERS]}") from error
    return answer if isinstance(answer, dict) else {}


def _installed(helm: Helm, settings: config.Kubernetes) -> dict[str, Any]:
    try:
        return _objects(_run(["get", "manifest", helm.release, "--namespace", helm.namespace], settings))
    except HelmError as error:
        if "not found" in str(error):
            return {}
        raise


def _objects(text: str) -> dict[str, Any]:
    """Return the objects of a chart's manifest, by kind, namespace and name."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError as error:
        raise HelmError(f"helm's manifest is not YAML: {error}") from error
    out = {}
    for document in documents:
        metadata = document.get("metadata") or {}
        place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
        out[f"{document.get('kind')} {place}{metadata.get('name')}"] = document
    return out


def _chart_of(answer: dict[str, Any]) -> str:
    about = (answer.get("chart") or {}).get("metadata") or {}
    return f"{about.get('name')} {about.get('version')}"


def _run(arguments: Sequence[str], settings: config.Kubernetes) -> str:
    program = shutil.which("helm")
    if program is None:
        raise HelmError("the blueprint names a Helm chart, but `helm` is not on the PATH: install it, or remove cilium.helm")
    place = ["--kubeconfig", str(settings.kubeconfig)] if settings.kubeconfig else []
    place += ["--kube-context", settings.context] if settings.context else []
    done = subprocess.run([program, *arguments, *place], capture_output=True, text=True, check=False, env=config.environment())  # noqa: S603
    if done.returncode:
        raise HelmError(f"helm {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-_ENOUGH_CHARACTERS:]}")
    return done.stdout
