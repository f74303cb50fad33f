"""One policy for two real clusters: planned, tried on recorded traffic, published to a canary, watched, gone on with, rolled back."""

from __future__ import annotations

import itertools
import json
import subprocess
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from hindcast.cli import app
from pipelines.blueprints import model
from pipelines.central import acting, aftermath, editing, handing_over, previewing, store, watching_all
from pipelines.central.editing import Edit
from pipelines.central.model import Change, Status
from pipelines.central.previewing import Preview
from pipelines.proposals.desk import Desk
from tests.modules import load
from warehouse.access.access_log import flush
from warehouse.errors import AccessDeniedError, ClusterError, HindcastError, ProposalError
from warehouse.schema import ACCESS_LOG, CONFIG_COVERAGE, NAMESPACES, POLICY_CHANGES, POLICY_VERSIONS

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
office_module: Any = load(ROOT / "tests" / "pipelines" / "proposals" / "conftest.py")
_numbers = itertools.count()
RBAC = "rbac.authorization.k8s.io"


class Fleet:
    """Two clusters, c1 and c2, with a namespace of the test's own and traffic to `web` in both; ada is their platform-admin."""

    def __init__(self, clusters: dict[str, Any], folder: Path) -> None:
        self.servers = {"c1": clusters["one"], "c2": clusters["two"]}
        self.folder, self.space = folder, f"central{next(_numbers)}"
        self.office = office_module.Office(folder)
        self.tokens = dict.fromkeys(self.servers, "")
        self.has_own_credentials = True
        self.rights = [*self._rights()]
        span = {"from": self.office.now - office_module.timedelta(days=1), "to": self.office.now + office_module.timedelta(days=1)}
        span |= {"recorded": self.office.now, "state": "observed", "kinds": office_module.KINDS, "source": "watch"}
        self.office._put(CONFIG_COVERAGE, {"cluster": "c2", **span})
        begin = span["from"]
        for name, server in self.servers.items():
            manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.space}}
            server.apply(manifest, *self.rights)
            row = {
                "cluster": name,
                "kind": "Namespace",
                "namespace": self.space,
                "name": self.space,
                "valid_from": begin,
                "recorded": begin,
            }
            self.office._put(NAMESPACES, row | {"hash": name, "manifest": json.dumps(manifest)})
            for source, times in (("api", 3), ("batch", 5)):
                self.office.flows(f"{self.space}/{source}", f"{self.space}/web", times=times, cluster=name)
        self.configure()

    def _rights(self) -> Iterator[dict[str, Any]]:
        """Ada may change policies, and the proposer's token may act as ada."""
        rules = yaml.safe_load((ROOT / "deploy" / "helm" / "hindcast" / "files" / "publisher.yaml").read_text().split("\n---\n")[1])[
            "rules"
        ]
        impersonate = [{"apiGroups": [""], "resources": ["users"], "resourceNames": ["ada", "paula", "otto"], "verbs": ["impersonate"]}]
        for name, user, given in (("publishes", "ada", rules), ("impersonates", "proposer", impersonate)):
            name = f"{self.space}-{name}"
            yield {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": given}
            yield {
                "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
            }  # fmt: skip

    def configure(self, **more: Any) -> None:
        clusters = []
        for name, server in self.servers.items():
            written = {user: self.folder / f"{name}-{user}.json" for user in ("admin", "proposer")}
            for user, file in written.items():
                file.write_text(server.kubeconfig(user, token=self.tokens[name] or None).read_text())
            proposer = {"kubeconfig": str(written["proposer"])}
            own = {"kubernetes": {"kubeconfig": str(written["admin"])}} if self.has_own_credentials else {}
            clusters.append({"name": name, "proposer": proposer, **own})
        self.office.configure(clusters=clusters, dashboard={"auth": {"decide_without_sign_in": ["ada"]}}, **more)

    def desk(self, user: str = "ada") -> Desk:
        made: Desk = self.office.desk(user)
        return made

    def policy(self, *apps: str, name: str = "web") -> str:
        return str(office_module.policy(*({"app": app} for app in apps), name=name, namespace=self.space))

    def put(self, cluster: str, *apps: str) -> None:
        """Somebody applies the policy by hand."""
        self.servers[cluster].apply(yaml.safe_load(self.policy(*apps)), manager="somebody")

    def record(self, cluster: str, *apps: str) -> None:
        """Configuration history has the policy in force since yesterday."""
        manifest = json.dumps(yaml.safe_load(self.policy(*apps)), sort_keys=True)
        begin = self.office.now - office_module.timedelta(days=1)
        row = {"cluster": cluster, "kind": "CiliumNetworkPolicy", "namespace": self.space, "name": "web", "valid_from": begin}
        row |= {"recorded": begin, "hash": "web", "manifest": manifest, "api_version": "cilium.io/v2", "uid": f"web-{cluster}"}
        self.office._put(POLICY_VERSIONS, row)

    def stored(self, cluster: str, name: str = "web") -> dict[str, Any] | None:
        path = f"/apis/cilium.io/v2/namespaces/{self.space}/ciliumnetworkpolicies/{name}"
        try:
            found: dict[str, Any] = self.servers[cluster].request("GET", path)
            return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def apps(self, cluster: str) -> list[str] | None:
        """The labels that the policy lets in; None if there is no policy."""
        found = self.stored(cluster)
        if found is None:
            return None
        return [next(iter(rule["fromEndpoints"][0]["matchLabels"].values())) for rule in found["spec"]["ingress"]]

    def preview(self, text: str, *, user: str = "ada", clusters: tuple[str, ...] = ("c1", "c2"), blueprint: str = "") -> Preview:
        desk = self.desk(user)
        files = model.load(desk.settings.blueprints) if desk.settings.blueprints else []
        edit = Edit(text=text, blueprint=blueprint or self.space, clusters=clusters)
        changed = editing.edited(edit, files, desk.settings.clusters, folder=previewing.folder_of(desk.settings))
        return previewing.preview(desk, changed, clusters)

    def begin(self, *apps: str) -> Change:
        return acting.begin(self.desk(), self.preview(self.policy(*apps)), ["c1"], reason="only these")

    def events(self, change: Change) -> list[str]:
        rows = [row for row in self.office.lake.read(POLICY_CHANGES).to_pylist() if row["cause"] == "change" and row["run"] == change.id]
        return [row["event"] for row in sorted(rows, key=lambda row: row["time"])]

    def steps(self, change: Change) -> list[tuple[str, str, str, str, str]]:
        rows = [row for row in self.office.lake.read(POLICY_CHANGES).to_pylist() if row["run"] == change.id and row["cause"] != "change"]
        return [
            (row["cause"], row["cluster"], row["action"], row["result"], row["actor"]) for row in sorted(rows, key=lambda row: row["time"])
        ]

    def drop(self, cluster: str, app: str = "batch") -> None:
        """A workload calls web right now, and is dropped."""
        self.office.now = datetime.now(UTC)
        self.office.flows(f"{self.space}/{app}", f"{self.space}/web", ago=0, times=1, verdict="DROPPED", cluster=cluster)


@pytest.fixture
def fleet(clusters: dict[str, Any], tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(clusters, tmp_path)
    yield made
    for server in made.servers.values():
        server.kubectl("delete", "--wait=false", "--ignore-not-found", "-f", "-", input=made.rights)


def test_who_is_no_platform_admin_is_refused_and_that_is_recorded(fleet: Fleet) -> None:
    for user in ("paula", "otto"):
        with pytest.raises(AccessDeniedError, match="by their platform-admins, and you are none of c1, c2"):
            fleet.preview(fleet.policy("api"), user=user)
    flush()
    noted = [row for row in fleet.office.lake.read(ACCESS_LOG).to_pylist() if row["question"] == "blueprint_change"]
    assert {row["principal"] for row in noted} == {"paula", "otto"}
    change = fleet.begin("api")
    with pytest.raises(ProposalError, match="no change"):
        store.visible_one(fleet.desk("paula"), change.id)
    seen = store.visible_one(fleet.desk("otto"), change.id)
    assert (seen.status, seen.author) == (Status.CANARY, "ada")
    assert "hidden" in seen.text
    for act in (acting.go_on, acting.roll_back):
        with pytest.raises(AccessDeniedError):
            act(fleet.desk("otto"), seen)
    assert fleet.apps("c2") is None


def test_a_plan_says_for_each_cluster_what_changes_what_it_would_deny_and_what_is_wrong(fleet: Fleet) -> None:
    fleet.put("c2", "api", "batch")
    rails = fleet.folder / "rails.yaml"
    rail = {"name": "no-api", "reason": "ask", "forbid": ["allow-all"]}
    rails.write_text(yaml.safe_dump({"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}, "guard_rails": [rail]}))
    fleet.configure(blueprints=[str(rails)])
    found = fleet.preview(fleet.policy("api"))
    one, two = found.clusters
    assert [[change.action for change in each.plan.changes] for each in (one, two)] == [["create"], ["update"]]
    assert any(difference.path.startswith("spec.ingress") for difference in two.plan.changes[0].differences)
    assert one.foreseen.together is not None
    assert (one.foreseen.together.newly_denied, one.foreseen.together.newly_allowed) == (5, 0)
    assert not found.refusals
    assert any("is not in the configuration yet" in warning for warning in found.warnings)
    assert (fleet.apps("c1"), fleet.apps("c2")) == (None, ["api", "batch"])

    wide = yaml.safe_load(fleet.policy("api"))
    wide["spec"]["ingress"] = [{"fromEntities": ["all"]}]
    (text,) = {text for each in fleet.preview(yaml.safe_dump(wide)).clusters for text in each.against_rails}
    assert "guard-rail no-api of blueprint base forbids" in text

    wide["spec"]["ingress"] = [{"fromEndpoints": [{"matchLabels": {"app": "a"}}], "fromCIDR": ["10.0.0.0/8"]}]
    refused = fleet.preview(yaml.safe_dump(wide))
    assert refused.refusals
    with pytest.raises(ProposalError, match="cannot be published"):
        acting.begin(fleet.desk(), refused, ["c1"])

    chart = {"blueprint": "v1", "name": "chart", "version": "1.0.0", "clusters": {}, "cilium": {"helm": {"chart": "x/y"}}}
    file = model.parse(yaml.safe_dump(chart), fleet.folder / "chart.yaml")
    with_chart = previewing.preview(fleet.desk(), previewing.whole(fleet.desk().settings, file, ["c1"]), ["c1"])
    assert "Cilium's chart is published by `hindcast blueprint publish` without --canary" in with_chart.refusals[0]


def test_what_a_user_may_not_do_in_a_cluster_is_said_in_the_plan_and_nothing_is_done(fleet: Fleet) -> None:
    fleet.servers["c2"].kubectl("delete", "clusterrolebinding", f"{fleet.space}-publishes")
    found = fleet.preview(fleet.policy("api"))
    assert any("cluster c2" in problem and "403" in problem for problem in found.refusals)
    with pytest.raises(ProposalError, match="403"):
        acting.begin(fleet.desk(), found, ["c1"])
    assert fleet.apps("c1") is None


def test_a_new_blueprint_does_not_take_the_name_of_one_that_the_configuration_does_not_have(fleet: Fleet) -> None:
    acting.go_on(fleet.desk(), fleet.begin("api"))
    found = fleet.preview(fleet.policy("api", name="other"))
    assert all("take its file into `blueprints`, or choose another name" in refusal for refusal in found.refusals)
    assert len(found.refusals) == 2


def test_it_goes_to_the_canary_first_is_watched_there_goes_on_and_is_rolled_back_everywhere(fleet: Fleet) -> None:
    fleet.put("c2", "api", "batch")
    before = fleet.stored("c2")
    change = fleet.begin("api")
    assert (change.status, change.published, change.rest) == (Status.CANARY, ("c1",), ("c2",))
    assert (fleet.apps("c1"), fleet.apps("c2")) == (["api"], ["api", "batch"])
    fleet.drop("c1")
    (watched,) = aftermath.seen(fleet.desk(), change).values()
    assert watched.flows == 1
    change = acting.go_on(fleet.desk(), store.visible_one(fleet.desk(), change.id))
    assert (change.status, fleet.apps("c2")) == (Status.PUBLISHED, ["api"])
    with pytest.raises(ProposalError, match="cannot go on: it is published"):
        acting.go_on(fleet.desk(), change)
    change = acting.roll_back(fleet.desk(), change, reason="batch needs it")
    assert (change.status, fleet.apps("c1"), fleet.apps("c2")) == (Status.ROLLED_BACK, None, ["api", "batch"])
    after = fleet.stored("c2")
    assert before is not None
    assert after is not None
    assert after["metadata"].get("labels") == before["metadata"].get("labels")
    assert fleet.events(change) == ["begun", "publishing", "published", "publishing", "published", "rolling_back", "rolled_back"]
    assert fleet.steps(change) == [
        ("publish", "c1", "create", "done", "ada"), ("publish", "c2", "update", "done", "ada"),
        ("roll_back", "c1", "delete", "done", "ada"), ("roll_back", "c2", "update", "done", "ada"),
    ]  # fmt: skip
    with pytest.raises(ProposalError, match="cannot be rolled back: it is rolled-back"):
        acting.roll_back(fleet.desk(), change)


def test_the_rule_rolls_a_change_back_everywhere_as_who_published_it_once_it_drops_what_its_plan_had_not_announced(fleet: Fleet) -> None:
    fleet.has_own_credentials = False
    fleet.configure(proposals={"roll_back_at": 1})
    fleet.put("c2", "api", "batch")
    change = acting.go_on(fleet.desk(), fleet.begin("api"))
    fleet.drop("c1")
    assert watching_all.watch_fleet(fleet.office.settings) == {"watched": 1, "dropping": 1, "rolled_back": 0}
    fleet.drop("c1", "cron")
    assert watching_all.watch_fleet(fleet.office.settings) == {"watched": 1, "dropping": 1, "rolled_back": 1}
    assert (fleet.apps("c1"), fleet.apps("c2")) == (None, ["api", "batch"])
    assert fleet.events(change)[-4:] == ["watched", "watched", "rolling_back", "rolled_back"]
    assert {step[4] for step in fleet.steps(change) if step[0] == "roll_back"} == {"ada"}
    assert watching_all.watch_fleet(fleet.office.settings) == {"watched": 0, "dropping": 0, "rolled_back": 0}


def test_a_cluster_that_changed_since_the_plan_is_not_published_to(fleet: Fleet) -> None:
    change = fleet.begin("api")
    fleet.put("c2", "batch")
    with pytest.raises(ClusterError, match="c2 is not as it was when the change was planned"):
        acting.go_on(fleet.desk(), change)
    change = store.visible_one(fleet.desk(), change.id)
    assert (change.status, change.rest, fleet.apps("c2")) == (Status.FAILED, ("c2",), ["batch"])
    change = acting.stop(fleet.desk(), change, "somebody works on c2")
    with pytest.raises(ProposalError, match="it is stopped"):
        acting.go_on(fleet.desk(), change)
    assert fleet.apps("c1") == ["api"]


def test_what_failed_is_taken_up_and_two_people_do_not_both_go_on(fleet: Fleet) -> None:
    change = fleet.begin("api")
    fleet.tokens["c2"] = "expired"
    fleet.configure()
    with pytest.raises(ClusterError, match="401"):
        acting.go_on(fleet.desk(), change)
    fleet.tokens["c2"] = ""
    fleet.configure()
    failed = store.visible_one(fleet.desk(), change.id)
    assert (failed.status, failed.rest) == (Status.FAILED, ("c2",))
    done = acting.go_on(fleet.desk(), failed)
    assert (done.status, fleet.apps("c2")) == (Status.PUBLISHED, ["api"])
    with pytest.raises(ProposalError, match="somebody else did something with it"):
        acting.go_on(fleet.desk(), failed)


def test_rolling_back_refuses_where_somebody_changed_an_object_since_unless_that_is_wanted(fleet: Fleet) -> None:
    fleet.has_own_credentials = False  # as where the dashboard may act as its users, and has no other right
    fleet.configure()
    change = acting.go_on(fleet.desk(), fleet.begin("api"))
    fleet.put("c2", "batch")
    with pytest.raises(ProposalError, match="was changed after it was applied"):
        acting.roll_back(fleet.desk(), change)
    assert fleet.apps("c1") == ["api"]
    change = acting.roll_back(fleet.desk(), change, even_if_changed=True)
    assert (fleet.apps("c1"), fleet.apps("c2")) == (None, None)


def test_the_changed_file_of_a_configured_blueprint_is_handed_over_to_git_unless_the_one_there_is_another(fleet: Fleet) -> None:
    file = fleet.folder / "blueprints" / "own.yaml"
    file.parent.mkdir()
    rule = f"namespaces:\n  - select: {{names: [{fleet.space}]}}\n    policies: [{{template: default-deny-ingress}}]   # closed\n"
    file.write_text(f"blueprint: v1\nname: {fleet.space}\nversion: 1.0.0\nclusters: {{}}\n{rule}")
    repository = fleet.folder / "repository.git"
    work = fleet.folder / "work"
    for command in (["init", "--quiet", "--bare", "-b", "main", str(repository)], ["clone", "--quiet", str(repository), str(work)]):
        subprocess.run(["git", *command], check=True, capture_output=True)
    (work / "blueprints").mkdir()
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b.example"]

    def held(text: str) -> None:
        (work / "blueprints" / "own.yaml").write_text(text)
        for command in (["add", "--all"], ["commit", "--quiet", "-m", "x"], ["push", "--quiet", "origin", "HEAD:main"]):
            subprocess.run([*git, *command], check=True, capture_output=True)

    held("something: else\n")
    fleet.configure(blueprints=[str(file)], proposals={"git": {"repository": str(repository)}})
    found = fleet.preview(fleet.policy("api"))
    assert [sorted(change.action for change in each.plan.changes) for each in found.clusters] == [["create", "create"]] * 2
    change = acting.begin(fleet.desk(), found, ["c1"])
    with pytest.raises(ProposalError, match="is not the file that was changed"):
        handing_over.commit(fleet.desk(), change)
    held(file.read_text())
    change = handing_over.commit(fleet.desk(), change)
    assert change.status is Status.CANARY
    shown = subprocess.run(
        [*git, "-C", str(repository), "show", f"hindcast/{change.id}:blueprints/own.yaml"], check=True, capture_output=True, text=True
    ).stdout
    assert shown == change.text
    assert "# closed" in shown


def run(fleet: Fleet, *arguments: str, code: int = 0, given: str = "") -> Result:
    done = CliRunner().invoke(app, ["blueprint", *arguments, "--config", str(fleet.office.file)], input=given)
    if isinstance(done.exception, HindcastError):
        done.stderr_bytes = f"{done.stderr}{done.exception}".encode()
        done.exit_code = done.exception.exit_code
    assert done.exit_code == code, (done.output, done.stderr, done.exc_info)
    return done


def test_the_command_line_edits_publishes_to_a_canary_watches_goes_on_and_rolls_back(fleet: Fleet) -> None:
    policy, changed = fleet.folder / "web.yaml", fleet.folder / f"{fleet.space}.yaml"
    policy.write_text(fleet.policy("api"))
    assert "no cluster 'c9'" in run(fleet, "edit", str(policy), "--name", fleet.space, "--cluster", "c9", code=2).stderr
    run(fleet, "edit", str(policy), "--name", fleet.space, "--cluster", "c1", "--cluster", "c2", "--file", str(changed))
    staged = ("publish", "--blueprint", str(changed), "--canary", "c1")
    assert "cannot be published to c3; it can be to: c1, c2" in run(fleet, *staged, "--canary", "c3", code=2).stderr
    said = run(fleet, *staged, given="n\n", code=1).stdout
    assert "c1: of the flows of 7 days: 5 newly denied, 0 newly allowed, 0 uncertain" in said
    assert fleet.apps("c1") is None
    run(fleet, *staged, "--yes", "--reason", "only api")
    (listed,) = [json.loads(line) for line in run(fleet, "changes", "list", "--output", "json").stdout.splitlines()]
    assert (listed["status"], listed["published"], listed["rest"], listed["reason"]) == ("canary", "c1", "c2", "only api")
    assert (fleet.apps("c1"), fleet.apps("c2")) == (["api"], None)
    change = listed["id"]

    run(fleet, "changes", "watch", change)
    fleet.drop("c1")
    assert "c1: 1 flow on 1 edge, as announced, dropped" in run(fleet, "changes", "watch", change, code=1).stdout
    assert "roll it back, or go on with --even-if-drops" in run(fleet, "changes", "go-on", change, code=2).stderr
    assert fleet.apps("c2") is None
    run(fleet, "changes", "go-on", change, "--even-if-drops")
    assert fleet.apps("c2") == ["api"]
    shown = run(fleet, "changes", "show", change, "--as", "ada").stdout
    assert "+name: " in shown
    assert "published by" in shown
    assert "by their platform-admins" in run(fleet, "changes", "roll-back", change, "--as", "otto", code=1).stderr
    run(fleet, "changes", "roll-back", change, "--reason", "batch")
    assert (fleet.apps("c1"), fleet.apps("c2")) == (None, None)


def blueprint_for(fleet: Fleet, *apps: str) -> Path:
    """A blueprint's file with the policy, for both clusters."""
    wanted = yaml.safe_load(fleet.policy(*apps))
    del wanted["metadata"]["namespace"]
    rule = {"select": {"names": [fleet.space]}, "policies": [{"template": "manifest", "object": wanted}]}
    document = {"blueprint": "v1", "name": fleet.space, "version": "1.0.0", "clusters": {"names": ["c1", "c2"]}, "namespaces": [rule]}
    path = fleet.folder / f"{fleet.space}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def listed(fleet: Fleet) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(fleet, "changes", "list", "--output", "json").stdout.splitlines()]


def test_publishing_without_canaries_is_one_change_that_is_watched_and_rolled_back_everywhere(fleet: Fleet) -> None:
    publish = ("publish", "--blueprint", str(blueprint_for(fleet, "api")))
    said = run(fleet, *publish, given="n\n", code=1)
    assert "c1: all changes of policies together, of the flows of 7 days: 5 newly denied" in said.stderr.replace("\n", " ")
    assert (fleet.apps("c1"), listed(fleet)) == (None, [])

    run(fleet, *publish, "--yes", "--reason", "only api")
    (one,) = listed(fleet)
    assert (one["status"], one["published"], one["rest"], one["reason"]) == ("published", "c1, c2", "", "only api")
    run(fleet, *publish, "--yes")
    assert len(listed(fleet)) == 1, "nothing was left to do, so nothing is recorded"
    shown = run(fleet, "changes", "show", one["id"]).stdout
    assert "c1: 1 create" in shown
    assert "publishing by" in shown

    run(fleet, "changes", "watch", one["id"])
    fleet.drop("c2")
    assert "c2: 1 flow on 1 edge, as announced, dropped" in run(fleet, "changes", "watch", one["id"], code=1).stdout
    assert "cannot go on" in run(fleet, "changes", "go-on", one["id"], "--even-if-drops", code=1).stderr
    assert "there is no changed file to hand over" in run(fleet, "changes", "hand-over", one["id"], code=1).stderr
    run(fleet, "changes", "roll-back", one["id"], "--reason", "batch")
    assert (fleet.apps("c1"), fleet.apps("c2")) == (None, None)


def test_the_rule_rolls_back_what_was_published_without_canaries_once_it_drops_what_was_not_foreseen(fleet: Fleet) -> None:
    fleet.configure(proposals={"roll_back_at": 1})
    fleet.put("c2", "api", "batch")
    run(fleet, "publish", "--blueprint", str(blueprint_for(fleet, "api")), "--yes")
    fleet.drop("c1")
    assert watching_all.watch_fleet(fleet.office.settings) == {"watched": 1, "dropping": 1, "rolled_back": 0}
    fleet.drop("c1", "cron")
    assert watching_all.watch_fleet(fleet.office.settings) == {"watched": 1, "dropping": 1, "rolled_back": 1}
    assert (fleet.apps("c1"), fleet.apps("c2")) == (None, ["api", "batch"])


def test_publishing_without_canaries_that_fails_halfway_says_how_far_it_came_and_can_be_rolled_back(fleet: Fleet) -> None:
    fleet.tokens["c2"] = "expired"
    fleet.configure()
    path = blueprint_for(fleet, "api")
    assert "not reached: c2" not in run(fleet, "publish", "--blueprint", str(path), "--yes", code=1).stdout
    (one,) = listed(fleet)
    assert (one["status"], one["published"], one["rest"]) == ("failed", "c1", "c2")
    assert "publish the blueprints again" in run(fleet, "changes", "go-on", one["id"], code=1).stderr
    run(fleet, "changes", "roll-back", one["id"])
    assert fleet.apps("c1") is None
