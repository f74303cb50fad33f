"""Names in proposals: those that would lead to objects of other namespaces are refused before anybody's rights are looked at."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.blueprints import objects
from pipelines.policy.reading import Document
from pipelines.proposals import reading
from warehouse.errors import ClusterError, ConfigError

BAD = ["shop-x/../payroll", "..", "shop/x", "Shop", "shop%2fx", "shop ", "a" * 64, "shop\n"]


def manifest(namespace: str, name: str = "web") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": {}}


@pytest.mark.parametrize("namespace", BAD)
def test_a_namespace_that_no_api_server_accepts_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigError, match=r"web.yaml: CiliumNetworkPolicy web: metadata.namespace '.*' must be lower-case"):
        reading.read([Document(manifest(namespace), "web.yaml", {})])
    with pytest.raises(ConfigError, match=r"CiliumNetworkPolicy web: metadata.namespace '.*' must be lower-case"):
        reading.read([], [("CiliumNetworkPolicy", namespace, "web")])


@pytest.mark.parametrize("name", ["../../payroll/web", "..", "a/b", "A", ""])
def test_a_name_that_no_api_server_accepts_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"metadata.name"):
        reading.read([Document(manifest("shop", name), "web.yaml", {})])
    with pytest.raises(ConfigError, match=r"metadata.name"):
        reading.read([], [("CiliumNetworkPolicy", "shop", name)])


def test_valid_names_are_taken() -> None:
    ((one,), (other,)) = reading.read([Document(manifest("shop"), "", {})], [("CiliumClusterwideNetworkPolicy", "", "a.b")])
    assert (str(one.key), str(other.key)) == ("CiliumNetworkPolicy shop/web", "CiliumClusterwideNetworkPolicy a.b")


class Recorder:
    """Keeps the paths that are asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def request(self, _method: str, path: str) -> dict[str, Any]:
        self.paths.append(path)
        return {}


def test_no_name_changes_which_object_an_address_is_of() -> None:
    api: Any = Recorder()
    objects.read(api, manifest("shop-x/../payroll", "a b?x=%2e"))
    objects.read(api, manifest("shop"))
    assert api.paths == [
        "/apis/cilium.io/v2/namespaces/shop-x%2F..%2Fpayroll/ciliumnetworkpolicies/a%20b%3Fx%3D%252e",
        "/apis/cilium.io/v2/namespaces/shop/ciliumnetworkpolicies/web",
    ]
    for wrong in (manifest(".."), manifest("shop", ".."), manifest("shop") | {"apiVersion": "cilium.io/../v1"}):
        with pytest.raises(ClusterError, match="cannot stand in the address"):
            objects.read(api, wrong)
    assert len(api.paths) == 2
