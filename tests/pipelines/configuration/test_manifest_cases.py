"""Folders as people really keep them: YAML that kubectl takes, files that are no manifests, sources that have to be rendered first."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import looking, manifest_folder, manifests
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.records.configuration_coverage import coverage_at

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: NAME
  namespace: shop
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: api}
"""


def policy(name: str, **changes: str) -> str:
    text = POLICY.replace("NAME", name)
    for old, new in changes.items():
        text = text.replace(f"{old}: shop" if old == "namespace" else old, new)
    return text


def without_namespace(name: str) -> str:
    return POLICY.replace("NAME", name).replace("  namespace: shop\n", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "gitops"
    made.mkdir()
    return made


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        write_file(folder / name.replace("__", "/").replace("_yaml", ".yaml"), text)


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(found: manifest_folder.Folder) -> list[str]:
    return sorted(f"{key.namespace}/{key.name}" for key in found.objects)


def mistakes(found: manifest_folder.Folder) -> list[str]:
    return [str(mistake) for mistake in found.mistakes]


def cluster(folder: Path, **settings: Any) -> config.Cluster:
    return config.Cluster(name="c1", kubernetes=config.Kubernetes(manifests=folder, **settings))


def in_force(history: Any) -> list[str]:
    return sorted(row["name"] for row in history.at(datetime.now(UTC)))


# YAML as Kubernetes' readers take it ------------------------------------------------------------------------------


def test_an_anchor_that_is_set_again_means_the_last_one(folder: Path) -> None:
    text = policy("a").replace(
        "  - fromEndpoints:\n    - matchLabels: {app: api}\n",
        "  - fromEndpoints: [&p {matchLabels: {app: x}}]\n  - fromEndpoints: [&p {matchLabels: {app: z}}]\n"
        "  egress:\n  - toEndpoints: [*p]\n",
    )
    write(folder, p_yaml=text)
    found = manifests.read_folder(folder)
    assert mistakes(found) == []
    (observed,) = found.objects.values()
    assert '"toEndpoints":[{"matchLabels":{"app":"z"}}]' in observed.manifest


@pytest.mark.parametrize("form", ["networking.k8s.io/v1 NetworkPolicyList", "v1 List"])
def test_the_items_of_a_typed_list_have_its_kind(folder: Path, form: str) -> None:
    version, kind = form.split()
    own = "apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  " if kind == "List" else ""
    write(
        folder,
        p_yaml=f"apiVersion: {version}\nkind: {kind}\nitems:\n- {own}metadata: {{name: a, namespace: shop}}\n  spec: {{}}\n",
    )
    write_file(
        folder / "q.json",
        '{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicyList","items":[{"metadata":{"name":"b","namespace":"shop"},"spec":{}}]}',
    )
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a", "shop/b"]
    assert mistakes(found) == []


def test_a_mistake_in_a_list_names_the_line_of_its_item(folder: Path) -> None:
    items = "".join(f"- metadata: {{name: {name}, namespace: shop}}\n  spec: {{}}\n" for name in ("ok", "BAD", "fine"))
    write(folder, p_yaml=f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n{items}")
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/fine", "shop/ok"]
    assert [(each.file, each.line) for each in found.mistakes] == [("p.yaml", 6)]


def test_an_alias_bomb_is_too_large_and_costs_nothing_and_the_other_files_are_read(folder: Path) -> None:
    levels = "".join(f"  {now}: &{now} [{','.join([f'*{before}'] * 10)}]\n" for before, now in zip("abcdefgh", "bcdefghi", strict=True))
    write(folder, p_yaml=policy("a").partition("spec:")[0] + f"spec:\n  a: &a [{','.join('x' * 10)}]\n{levels}", q_yaml=policy("b"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/b"]
    (mistake,) = mistakes(found)
    assert mistake.startswith("p.yaml:1: too large")


def test_an_object_larger_than_an_api_server_takes_is_refused_and_a_list_of_small_ones_is_not(folder: Path) -> None:
    write(folder, big_yaml=policy("a") + f"  description: {'x' * 1_600_000}\n")
    write_file(
        folder / "big.json",
        '{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"c"},"spec":"%s"}' % ("x" * 1_600_000),
    )
    write_file(folder / "dashboard.yaml", f"kind: Dashboard\napiVersion: grafana/v1\nspec: {'x' * 1_600_000}\n")
    items = "".join(f"- metadata: {{name: p{number}, namespace: shop}}\n  spec: {{x: {'x' * 400_000}}}\n" for number in range(5))
    write(folder, list_yaml=f"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicyList\nitems:\n{items}")
    found = manifests.read_folder(folder)
    assert names(found) == [f"shop/p{number}" for number in range(5)]
    assert [line.partition(": too large")[0] for line in mistakes(found)] == ["big.json:1", "big.yaml:1"]


def test_a_document_nested_without_end_is_refused_with_its_line(folder: Path) -> None:
    write(folder, p_yaml=policy("a") + f"  x:\n    {'[' * 50_000}\n", q_yaml=policy("b"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/b"]
    assert mistakes(found) == ["p.yaml:12: nested deeper than 100 levels"]


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_key_that_is_given_twice_is_named_with_its_line(folder: Path, suffix: str) -> None:
    if suffix == "yaml":
        write(folder, p_yaml=policy("a") + "  egress:\n  - toEntities: [cluster]\n  egress:\n  - toEntities: [world]\n")
    else:
        write_file(
            folder / "p.json",
            '{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",\n'
            '"metadata": {"name": "a"},\n"spec": {"egress": [],\n"egress": [{}]}}',
        )
    found = manifests.read_folder(folder)
    assert not found.objects
    line = 13 if suffix == "yaml" else 4
    assert [each.partition(" (")[0] for each in mistakes(found)] == [f"p.{suffix}:{line}: the key egress is given twice"]


def test_the_good_documents_of_a_file_with_a_bad_one_are_read(folder: Path) -> None:
    write(folder, p_yaml=f"{policy('a')}---\n{policy('b')}  egress: [\n---\n{policy('c')}")
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a", "shop/c"]
    assert [(each.file, each.line) for each in found.mistakes] == [("p.yaml", 22)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfek\x00", "p.yaml:1: cannot be read: it is UTF-16; save it as UTF-8"),
        (b"a: 1\nb: \xff\n", "p.yaml:2: cannot be read: it is not UTF-8"),
        (policy("a").encode().replace(b"web", b"\x00"), "p.yaml:7: not valid YAML: control characters are not allowed"),
    ],
)
def test_text_that_is_not_utf8_is_named(folder: Path, content: bytes, problem: str) -> None:
    (folder / "p.yaml").write_bytes(content)
    (mistake,) = mistakes(manifests.read_folder(folder))
    assert mistake.startswith(problem)


# One bad file harms nothing else ----------------------------------------------------------------------------------

FOREIGN = {
    "home__device_yaml": "wifi:\n  password: !secret wifi\n  rest: !include common.yaml\n",
    "copier_yaml": "_templates: {% if x %}\n  a\n",
    "broken_yaml": "a: b: c\nd: e\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_names_no_recorded_kind_hides_nothing_and_is_no_mistake(history: Any, folder: Path, name: str) -> None:
    write(folder, p_yaml=policy("a"), q_yaml=policy("b"), **{name: FOREIGN[name]})
    assert manifests.take(history.lake, cluster(folder))[1] == []
    (folder / "q.yaml").unlink()
    taken, wrong = manifests.take(history.lake, cluster(folder))
    assert (wrong, taken.is_whole, taken.written.ended) == ([], True, 1)
    assert in_force(history) == ["a"]
    assert looking.look_and_insist(history.lake, cluster(folder)) == 0


def test_objects_last_seen_in_an_unreadable_file_stay_until_it_can_be_read_again(history: Any, folder: Path) -> None:
    write(folder, p_yaml=f"{policy('a')}---\n{policy('b')}", q_yaml=policy("c"), r_yaml=policy("d"))
    manifests.take(history.lake, cluster(folder))
    write(folder, p_yaml="a: b: c\n")  # names no kind any more, but held objects
    (folder / "q.yaml").unlink()
    for _ in range(3):  # the second look knows what the first one did
        taken, wrong = manifests.take(history.lake, cluster(folder))
        assert [each.file for each in wrong] == ["p.yaml"]
        assert not taken.is_whole
        assert in_force(history) == ["a", "b", "d"]
    write(folder, p_yaml=policy("b"))
    assert manifests.take(history.lake, cluster(folder))[1] == []
    assert in_force(history) == ["b", "d"]


def test_an_object_that_moved_to_another_file_is_not_kept_by_the_old_one(history: Any, folder: Path) -> None:
    write(folder, p_yaml=policy("a"), q_yaml=policy("b"))
    manifests.take(history.lake, cluster(folder))
    write(folder, p_yaml=policy("a") + "---\n" + policy("b"))
    (folder / "q.yaml").unlink()
    manifests.take(history.lake, cluster(folder))
    write(folder, p_yaml=policy("a"), q_yaml="kind: CiliumNetworkPolicy\nx: [\n")
    manifests.take(history.lake, cluster(folder))
    assert in_force(history) == ["a"]


def test_a_file_that_is_deleted_while_another_is_unreadable_ends_its_objects_and_the_ledger_says_observed(
    history: Any, folder: Path
) -> None:
    write(folder, p_yaml=policy("a") + "  x: [\n", q_yaml=policy("b"))
    manifests.take(history.lake, cluster(folder))
    (folder / "q.yaml").unlink()
    taken, wrong = manifests.take(history.lake, cluster(folder))
    assert taken.written.ended == 1
    assert len(wrong) == 1
    covered = [each for each in coverage_at(history.lake, datetime.now(UTC)) if each.kind == "CiliumNetworkPolicy"]
    assert [(each.state, each.is_known) for each in covered] == [("observed", True)]
    assert "p.yaml:11" in (covered[0].detail or "")


def test_the_configuration_can_leave_paths_out(history: Any, folder: Path) -> None:
    write(folder, p_yaml=policy("a"), old__q_yaml=policy("b"), old__deep__r_yaml="kind: NetworkPolicy\nx: [\n", x_yaml=policy("X"))
    taken, wrong = manifests.take(history.lake, cluster(folder, exclude=("old", "x*.yaml")))
    assert (wrong, taken.is_whole) == ([], True)
    assert in_force(history) == ["a"]


# Sources that have to be rendered first ---------------------------------------------------------------------------

KUSTOMIZATION = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"


def test_a_kustomization_that_sets_a_namespace_or_prefix_is_a_source_and_nothing_of_it_is_recorded(folder: Path) -> None:
    for app in ("app1", "app2"):
        write_file(folder / app / "netpol.yaml", without_namespace("allow-db"))
        write_file(folder / app / "kustomization.yaml", f"{KUSTOMIZATION}namespace: {app}\nnamePrefix: x-\nresources: [netpol.yaml]\n")
    write(folder, plain_yaml=policy("a"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a"]
    assert mistakes(found) == [
        f"{app}/kustomization.yaml:1: is a kustomization that sets namePrefix, namespace, which is not applied here; "
        f"render first: kubectl kustomize {app} > manifests.yaml"
        for app in ("app1", "app2")
    ]


def test_a_base_that_an_overlay_changes_is_a_source_wherever_it_lies(folder: Path) -> None:
    write_file(folder / "base/netpol.yaml", without_namespace("web"))
    write_file(folder / "base/kustomization.yml", f"{KUSTOMIZATION}resources: [netpol.yaml]\n")
    write_file(folder / "overlays/prod/Kustomization", f"{KUSTOMIZATION}namespace: prod\nresources: [../../base]\n")
    found = manifests.read_folder(folder)
    assert names(found) == []
    assert [each.partition(" sets")[0] for each in mistakes(found)] == ["overlays/prod/Kustomization:1: is a kustomization that"]


def test_a_kustomization_that_only_lists_its_files_changes_nothing(folder: Path) -> None:
    write_file(folder / "netpol.yaml", policy("a"))
    write_file(folder / "kustomization.yaml", f"{KUSTOMIZATION}resources: [netpol.yaml]\n")
    found = manifests.read_folder(folder)
    assert (names(found), mistakes(found)) == (["shop/a"], [])


def test_a_chart_is_a_source_also_where_its_templates_are_plain(folder: Path) -> None:
    write_file(folder / "web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
    write_file(folder / "web/templates/plain.yaml", without_namespace("plain"))
    write_file(folder / "web/templates/np.yaml", "{{- if .Values.on }}\n" + policy('"{{ .Release.Name }}-web"') + "{{- end }}\n")
    write(folder, p_yaml=policy("a"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a"]
    (mistake,) = mistakes(found)
    assert mistake.startswith("web/Chart.yaml:1: is a Helm chart")
    assert "helm template web web" in mistake


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (policy('"{{ .Release.Name }}-web"'), "helm template"),
        (policy("{{ .Release.Name }}"), "helm template"),
        ("{{- if .Values.on }}\n" + policy("web") + "{{- end }}\n", "helm template"),
        (policy("web").replace("app: web", 'app: "{{ app }}"'), "helm template"),
        (policy("web") + "  {{- toYaml .Values.more | nindent 2 }}\n", "helm template"),
        (policy("${APP}"), "flux build kustomization"),
        (policy("web").replace("namespace: shop", "namespace: ${NS:=shop}"), "flux build kustomization"),
        (policy("web").replace("app: web", 'app: "${app}"'), "flux build kustomization"),
        (policy("Web"), "lower-case"),
        (policy("web_1"), "lower-case"),
        (policy("a" * 254), "at most 253"),
        (policy("web").replace("namespace: shop", "namespace: shop.x"), "lower-case"),
        (policy("web").replace("namespace: shop", "namespace: 7"), "quote it"),
        (policy("web").replace("namespace: shop", "namespace: shop\n  labels: {team: a b}"), "is not a label"),
        (policy("web").replace("name: web", "generateName: web-"), "chooses the name"),
    ],
)
def test_what_no_api_server_takes_is_a_mistake_that_says_what_to_do(folder: Path, text: str, what: str) -> None:
    write(folder, np_yaml=text, p_yaml=policy("a"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a"]
    (mistake,) = found.mistakes
    assert mistake.file == "np.yaml"
    assert what in mistake.text


def test_braces_in_annotations_and_names_that_rbac_takes_are_no_mistakes(folder: Path) -> None:
    annotated = policy("web").replace("namespace: shop", "namespace: shop\n  annotations: {note: '{{ x }} ${Y}'}")
    metadata = "{name: 'system:x y', namespace: shop}"
    subjects = "[{kind: User, name: ada}]"
    binding = f"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {metadata}\nsubjects: {subjects}\n"
    write(folder, a_yaml=annotated, b_yaml=binding)
    found = manifests.read_folder(folder)
    assert (names(found), mistakes(found)) == (["shop/system:x y", "shop/web"], [])


def test_what_flux_sends_to_another_namespace_is_a_source(folder: Path) -> None:
    head = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: web}\n"
    flux = head + "spec: {path: ./apps/web, targetNamespace: prod}\n"
    write(folder, flux_yaml=flux, apps__web__np_yaml=without_namespace("web"), apps__other_yaml=policy("a"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a"]
    (mistake,) = mistakes(found)
    assert mistake.startswith("apps/web/np.yaml:1: is delivered by the Flux Kustomization web (flux.yaml:1), which sets targetNamespace")


def test_what_argo_cd_gives_a_namespace_is_not_recorded_in_default(folder: Path) -> None:
    application = (
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: web}\n"
        "spec: {source: {path: apps/web}, destination: {namespace: prod}}\n"
    )
    write(folder, app_yaml=application, apps__web__np_yaml=without_namespace("web"), apps__web__own_yaml=policy("a"))
    found = manifests.read_folder(folder)
    assert names(found) == ["shop/a"]
    assert ["puts it into prod" in each for each in mistakes(found)] == [True]


# Renderers --------------------------------------------------------------------------------------------------------


def script(folder: Path, text: str) -> tuple[str, ...]:
    path = folder.parent / "render.py"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return (sys.executable, str(path))


def test_a_renderer_that_the_configuration_names_gives_the_manifests(history: Any, folder: Path) -> None:
    write(folder, np_yaml=policy("${APP}"))
    command = script(folder, "import pathlib\nprint(pathlib.Path('np.yaml').read_text().replace('${APP}', 'web'))\n")
    taken, wrong = manifests.take(history.lake, cluster(folder, render=command))
    assert (wrong, taken.is_whole) == ([], True)
    assert in_force(history) == ["web"]
    assert manifests.take(history.lake, cluster(folder, render=command))[0].written.versions == 0


def test_a_renderer_gets_no_shell_and_may_name_the_folder(history: Any, folder: Path) -> None:
    command = script(
        folder, "import sys\nassert sys.argv[1] == '; echo $HOME', sys.argv\nassert sys.argv[2].endswith('gitops'), sys.argv\n"
    )
    taken, _ = manifests.take(history.lake, cluster(folder, render=(*command, "; echo $HOME", "{folder}")))
    assert taken.is_whole


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import sys; sys.stderr.write('no such chart: web'); sys.exit(3)", r"failed with exit code 3: no such chart: web"),
        ("import time; print('x', flush=True); time.sleep(600)", r"did not finish within 0.5 s"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", r"its output is not UTF-8"),
    ],
)
def test_a_renderer_that_fails_ends_nothing_and_says_why(history: Any, folder: Path, text: str, problem: str) -> None:
    write(folder, p_yaml=policy("a"))
    manifests.take(history.lake, cluster(folder))
    command = script(folder, text)
    failing = cluster(folder, render=command, render_timeout="500ms" if "sleep" in text else "2m")
    with pytest.raises(ConfigError, match=problem):
        manifests.take(history.lake, failing)
    assert in_force(history) == ["a"]
    assert {each.state for each in coverage_at(history.lake, datetime.now(UTC))} == {"unreachable"}


def test_a_renderer_that_is_not_installed_is_named(history: Any, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"render: no-such-program x: cannot run no-such-program: .*is it installed"):
        manifests.take(history.lake, cluster(folder, render=("no-such-program", "x")))


def test_a_renderer_is_a_list_and_belongs_to_manifests(tmp_path: Path) -> None:
    for given, problem in (
        ("{manifests: ., render: kubectl kustomize .}", "render"),
        ("{manifests: ., render: [kubectl], exclude: [a]}", "exclude cannot be used with render"),
        ("{in_cluster: true, render: [kubectl]}", "render and exclude can only be used with manifests"),
    ):
        file = tmp_path / "hindcast.yaml"
        file.write_text(f"lake: {{url: ./lake}}\nclusters:\n- {{name: c1, kubernetes: {given}}}\n")
        with pytest.raises(ConfigError, match=problem):
            config.load_config(file)
