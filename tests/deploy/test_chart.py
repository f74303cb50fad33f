"""The chart as rendered: what it refuses, what a real API server says to it, and who gets to see which Secret."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from warehouse import config

pytestmark = pytest.mark.peers

CLUSTER: dict[str, Any] = {"name": "a", "hubble": {"address": "relay.example:443"}}
PodSpecs = Callable[[list[dict[str, Any]]], dict[str, dict[str, Any]]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "/clusters"),
        ({"clusters": [{"name": "a", "kubernetes": {"in_cluster": True}}]}, "/clusters"),
        ({"clusters": [CLUSTER | {"hubbel": {}}]}, "'hubbel'"),
        ({"clusters": [CLUSTER | {"name": "a b"}]}, "/clusters/0/name"),
        ({"collectr": {"replicas": 1}}, "'collectr'"),
        ({"collector": {"replicas": "two"}}, "/collector/replicas"),
        ({"collector": {"spool": {"size": "a lot"}}}, "/collector/spool/size"),
        ({"collector": {"leases": "etcd"}}, "/collector/leases"),
        ({"lake": {"url": "/var/lake"}}, "/lake/url"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"dashboard": {"auth": {"mode": "oidc"}}}, "/dashboard/auth/oidc/secretName"),
        ({"dashboard": {"ingress": {"enabled": True, "host": "h.example", "tlsSecretName": "t"}}}, "/dashboard/auth/mode"),
        ({"dashboard": {"ingress": {"enabled": True, "host": "h.example"}}}, "/dashboard/ingress/tlsSecretName"),
        ({"serve": {"enabled": True}}, "/serve/tls/secretName"),
        ({"maintenance": {"hourly": "often"}}, "/maintenance/hourly"),
        ({"rbac": {"proposer": {"groups": ["system:masters"]}}}, "/rbac/proposer/groups/0"),
        ({"rbac": {"proposer": {"users": ["a@b.example"]}}}, "rbac.proposer: cannot be given with dashboard.auth.mode: local"),
        ({"rbac": {"proposer": {"groups": ["shop"]}}, "dashboard": {"auth": {"mode": "local"}}}, "set dashboard.auth.mode: oidc"),
        ({"rbac": {"openReports": True}, "maintenance": {"mode": "cronjobs"}}, "runs with maintenance.mode: embedded"),
        ({"mounts": [{"name": "a", "secretName": "b"}]}, "/mounts/0"),
        ({"config": {"lake": {"url": "s3://b/l"}}}, "config.lake: give it as the value `lake` instead"),
        ({"config": {"collect": {"listen": "127.0.0.1:1"}}}, "config.collect.listen: the chart sets it"),
        ({"maintenance": {"mode": "airflow", "airflow": {"namespace": "other"}}}, "maintenance.airflow.namespace"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(helm: Any, chart: Path, values: dict[str, Any], said: str) -> None:
    given = {"clusters": [CLUSTER]} | values if values else {}
    assert said in helm("template", "hindcast", str(chart), values=given, fails=True)


def test_a_set_of_values_passes_lint_and_a_real_api_server_takes_each_object(
    helm: Any, server: Any, chart: Path, value_set: Path, pod_specs: PodSpecs
) -> None:
    helm("lint", "--strict", str(chart), "-f", str(value_set))
    objects = helm.objects("-f", str(value_set), "--set", "serviceMonitor.enabled=false")
    # The pods by themselves, too: for their owners, what is not restricted is only a warning.
    for place, template in pod_specs(objects).items():
        name = place.lower().replace("/", "-")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name, "namespace": "hindcast"}}
        claims = next((each for each in objects if place == f"{each['kind']}/{each['metadata']['name']}"), {})
        made = [{"name": each["metadata"]["name"], "emptyDir": {}} for each in claims["spec"].get("volumeClaimTemplates", [])]
        # Its account is not there in a dry run.
        spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], *made], "serviceAccountName": "default"}
        objects.append(pod | {"spec": spec})
    said = server.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=objects, check=False)
    assert said.count("serverside-applied") == len(objects), said
    assert "Warning" not in said, said


def test_the_configuration_that_is_rendered_is_one_that_hindcast_reads(helm: Any, value_set: Path, tmp_path: Path) -> None:
    for each in helm.objects("-f", str(value_set)):
        if each["kind"] == "ConfigMap":
            settings = config.parse_config(each["data"]["hindcast.yaml"], source=tmp_path / "hindcast.yaml")
            assert [cluster.name for cluster in settings.clusters] == [
                cluster["name"] for cluster in yaml.safe_load(value_set.read_text()).get("clusters", [])
            ]


def test_every_secret_is_mounted_where_it_is_needed_and_nowhere_else(helm: Any, chart: Path, pod_specs: PodSpecs) -> None:
    objects = helm.objects("-f", str(chart / "ci" / "object-storage.yaml"))
    mounted = {
        place.removeprefix("StatefulSet/").removeprefix("Deployment/"): {
            volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume
        }
        for place, template in pod_specs(objects).items()
    }
    assert mounted == {
        "hindcast-collector": {"hubble-relay-client-certs", "relay-us-2"},
        "hindcast-history": {"kubeconfig-us-2"},
        "hindcast-dashboard": {"hindcast-oidc"},
        "hindcast-serve": {"hindcast-serve-tls", "hindcast-clients"},
        "hindcast-maintenance": {"chat-webhook"},
    }
    assert not [each for each in objects if each["kind"] == "Secret"]
    tokens = {place for place, template in pod_specs(objects).items() if template["spec"]["automountServiceAccountToken"]}
    assert tokens == {"Deployment/hindcast-history", "Deployment/hindcast-dashboard", "StatefulSet/hindcast-collector"}


def test_every_path_of_the_configuration_is_mounted_in_the_component_that_reads_it(helm: Any, chart: Path, pod_specs: PodSpecs) -> None:
    objects = helm.objects("-f", str(chart / "ci" / "object-storage.yaml"))
    text = next(each["data"]["hindcast.yaml"] for each in objects if each["kind"] == "ConfigMap")
    mounts = {
        mount["mountPath"]
        for template in pod_specs(objects).values()
        for container in template["spec"]["containers"]
        for mount in container["volumeMounts"]
    }
    named = {word for word in text.split() if word.startswith(("/etc/hindcast/", "/var/"))}
    assert named
    assert [path for path in sorted(named) if not any(Path(path).is_relative_to(mount) for mount in mounts)] == []


def test_the_dags_are_where_the_values_for_an_existing_airflow_look_for_them(helm: Any, chart: Path) -> None:
    objects = helm.objects("-f", str(chart / "ci" / "existing-airflow.yaml"))
    given = next(each for each in objects if each["metadata"]["name"] == "hindcast-airflow")
    assert given["metadata"]["namespace"] == "airflow"
    values = yaml.safe_load(given["data"]["values.yaml"])
    assert values["images"]["airflow"] == {"repository": "hindcast-airflow", "digest": f"sha256:{'a' * 64}"}
    bundle = yaml.safe_load(next(each["value"] for each in values["env"] if each["name"].endswith("BUNDLE_CONFIG_LIST")))
    place = bundle[0]["kwargs"]["path"]
    assert "python3.11" in (chart.parents[2] / "Containerfile").read_text()
    assert place == "/opt/hindcast/lib/python3.11/site-packages/dags"


def test_objects_of_the_prometheus_operator_are_there_only_where_they_are_asked_for(helm: Any, chart: Path) -> None:
    kinds = {each["kind"] for each in helm.objects("-f", str(chart / "ci" / "one-cluster.yaml"))}
    assert "ServiceMonitor" not in kinds
    monitor = next(each for each in helm.objects("-f", str(chart / "ci" / "object-storage.yaml")) if each["kind"] == "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "interval": "30s"}]


def test_the_chart_has_the_version_of_the_distribution(chart: Path) -> None:
    described = yaml.safe_load((chart / "Chart.yaml").read_text())
    done = subprocess.run(["grep", "-m1", "^version", chart.parents[2] / "pyproject.toml"], capture_output=True, text=True, check=True)
    assert done.stdout.split('"')[1] == described["appVersion"]
