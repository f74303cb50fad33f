"""Completion of policies offers the very fields that Cilium's own CRDs have."""

import json
import pathlib
import types
import typing

import pytest
import yaml

from dashboards.frame import assets

pytestmark = pytest.mark.peers


def known() -> typing.Any:
    """The fields that completion offers."""
    return json.loads((pathlib.Path(assets.FOLDER) / "policy-fields.json").read_text())


def differences(schema: typing.Any, known_types: typing.Any, name: str, path: str) -> list[str]:
    """Fields that only one of the two has, and choices that differ, below a path."""
    theirs, ours = schema["properties"], known_types[name]
    found = [f"{path}.{field}" for field in sorted(theirs.keys() ^ ours.keys())]
    for field in sorted(theirs.keys() & ours.keys()):
        below = theirs[field].get("items", theirs[field])
        kind = ours[field][0].strip("[]")
        if "properties" in below:
            found += differences(below, known_types, kind, f"{path}.{field}") if kind in known_types else [f"{path}.{field} is a mapping"]
        elif "enum" in below and set(below["enum"]) != set(kind.split("|")):
            found.append(f"{path}.{field} is one of {', '.join(below['enum'])}")
    return found


@pytest.mark.parametrize("kind", ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"])
def test_completion_has_the_fields_of_ciliums_crd(kind: str, kubernetes: types.ModuleType, running: types.ModuleType) -> None:
    try:
        folder = kubernetes.cilium_folder() / "pkg" / "k8s" / "apis" / "cilium.io" / "client" / "crds" / "v2"
    except running.PeerMissing as missing:
        pytest.skip(str(missing))
    plural = kind.lower().removesuffix("y") + "ies"
    crd = yaml.safe_load((folder / f"{plural}.yaml").read_text())
    schema = next(version for version in crd["spec"]["versions"] if version["name"] == "v2")["schema"]["openAPIV3Schema"]
    assert differences(schema["properties"]["spec"], known()["types"], known()["kinds"][kind]["spec"], "spec") == []
