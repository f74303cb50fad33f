"""A namespace of a real cluster in which a test proposes changes, with owners in Hindcast and in RBAC. It knows nothing of pytest."""

from __future__ import annotations

import itertools
import urllib.error
from pathlib import Path
from typing import Any

import yaml

from pipelines.policy.documents import read_documents
from pipelines.proposals import reading, steps, store
from pipelines.proposals.desk import Desk
from tests.modules import load
from warehouse.access.principals import Principal

ROOT = Path(__file__).parents[2]
office_module: Any = load(ROOT / "tests" / "pipelines" / "proposals" / "conftest.py")
_numbers = itertools.count()
OWN = {"role": "namespace-owner"}


class Place:
    """A namespace of one test's own in a cluster, with owners in Hindcast and in RBAC."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self.namespace = f"prop{next(_numbers)}"
        self.office = office_module.Office(folder)
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.may_edit("paula", group="shop-owners")
        self.may_impersonate(["paula", "pete", "carla", "ghost"], ["shop-owners"])
        self.configure()

    def configure(self, **proposals: Any) -> None:
        grants = [
            {"subject": "ada", "role": "platform-admin"},
            {"subject": "otto", "role": "auditor"},
            *(OWN | {"subject": name, "namespaces": [self.namespace]} for name in ("paula", "pete", "ghost", "nobody")),
            OWN | {"subject": "carla", "namespaces": ["cart"]},
        ]
        access = {"kubeconfig": str(self.server.kubeconfig("proposer"))}
        self.office.configure(
            ownership={"grants": grants},
            clusters=[{"name": "c1", "proposer": access}],
            proposals={"approval": "none"} | proposals,
            dashboard={"auth": {"decide_without_sign_in": ["ada", "paula"]}},
        )

    def may_edit(self, user: str, *, group: str) -> None:
        """Give a group, and not the user herself, the right to change policies of the namespace."""
        name, api = f"edit-{user}", "rbac.authorization.k8s.io"
        rule = {"apiGroups": ["networking.k8s.io", "cilium.io"], "resources": ["networkpolicies", "ciliumnetworkpolicies"]}
        self.server.apply(
            {
                "apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": name, "namespace": self.namespace},
                "rules": [rule | {"verbs": ["get", "create", "patch", "update", "delete"]}],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": self.namespace},
                "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
                "subjects": [{"apiGroup": api, "kind": "Group", "name": group}],
            },
        )  # fmt: skip

    def may_impersonate(self, users: list[str], groups: list[str]) -> None:
        """Apply the manifest that is delivered, for these users and groups and for the token of the tests."""
        _, role, binding = yaml.safe_load_all((ROOT / "deploy" / "helm" / "hindcast" / "files" / "proposer.yaml").read_text())
        role["rules"][0]["resourceNames"], role["rules"][1]["resourceNames"] = users, groups
        binding["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "proposer"}]
        self.server.apply(role, binding)

    def desk(self, user: str, *groups: str) -> Desk:
        desk = self.office.desk(user)
        return Desk(settings=desk.settings, lake=desk.lake, door=desk.door, who=Principal(user=user, groups=frozenset(groups)))

    @property
    def paula(self) -> Desk:
        return self.desk("paula", "shop-owners")

    def propose(self, desk: Desk, *texts: str, removed: tuple[tuple[str, str, str], ...] = ()) -> steps.Made:
        documents = [document for text in texts for document in read_documents(text, "web.yaml")]
        (asked,) = reading.read(documents, removed)
        return steps.propose(desk, "c1", asked)

    def policy(self, *apps: str, name: str = "web") -> str:
        return str(office_module.policy(*({"app": app} for app in apps), name=name, namespace=self.namespace))

    def stored(self, name: str = "web") -> dict[str, Any] | None:
        path = f"/apis/cilium.io/v2/namespaces/{self.namespace}/ciliumnetworkpolicies/{name}"
        try:
            found: dict[str, Any] = self.server.request("GET", path)
            return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def spec(self, name: str = "web") -> Any:
        found = self.stored(name)
        return found and found["spec"]

    def events(self, made: Any) -> list[tuple[str, str, str]]:
        rows = self.office.rows(made)
        return [(row["event"], row["actor"], row["result"]) for row in rows]

    def again(self, made: Any) -> Any:
        return store.one(self.office.lake, made.id)

