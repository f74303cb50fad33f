"""A namespace keeps its owners' history when the source of its configuration changes; only another uid makes it another namespace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from warehouse import config
from warehouse.access.ownership import NamespaceVersion, grants_of
from warehouse.errors import ConfigError

START = datetime(2026, 3, 2, tzinfo=UTC)
OWNER = config.Ownership(grants=(config.Grant(subject="ada", role="namespace-owner", namespaces=("shop",)),))


def lives(*uids: str) -> tuple[NamespaceVersion, ...]:
    """One version an hour of namespace shop of c1, with these uids."""
    hours = [START + timedelta(hours=number) for number in range(len(uids) + 1)]
    ends = [*hours[1:-1], None]
    return tuple(
        NamespaceVersion(cluster="c1", name="shop", uid=uid, valid_from=begin, valid_to=end)
        for uid, begin, end in zip(uids, hours[:-1], ends, strict=True)
    )


def cuts(*uids: str) -> list[int]:
    """The hours before which the owner sees nothing."""
    (grant,) = grants_of(OWNER, lives(*uids))
    return [round((cut - START) / timedelta(hours=1)) for _, _, cut in grant.not_before]


@pytest.mark.parametrize(
    ("uids", "hidden_before"),
    [
        (("", "X"), []),
        (("X", ""), []),
        (("", "X", "", "X"), []),
        (("", ""), []),
        (("X", "Y"), [1]),
        (("", "X", "Y"), [2]),
        (("X", "", "Y"), [2]),
        (("X", "Y", ""), [1]),
    ],
)
def test_a_cluster_that_moves_between_manifests_and_its_api_server_keeps_its_owners_history(
    uids: tuple[str, ...], hidden_before: list[int]
) -> None:
    assert cuts(*uids) == hidden_before


@pytest.mark.parametrize("given", ["", ", clusters: [c1]", ", namespaces: []"])
def test_a_grant_without_namespaces_is_refused_with_its_line_and_what_to_do(tmp_path: Path, given: str) -> None:
    file = tmp_path / "hindcast.yaml"
    file.write_text(f"lake: {{url: ./lake}}\nownership:\n  grants:\n    - {{subject: ada, role: namespace-owner{given}}}\n")
    with pytest.raises(ConfigError, match=r"hindcast.yaml:4: ownership.grants.0: .*owns nothing: add namespaces.*or a selector"):
        config.load_config(file)


@pytest.mark.parametrize("given", ['namespaces: [""]', "namespaces: [shop], clusters: []", 'namespaces: [shop], clusters: ["", c1]'])
def test_a_grant_that_can_match_nothing_is_refused(tmp_path: Path, given: str) -> None:
    file = tmp_path / "hindcast.yaml"
    file.write_text(f"lake: {{url: ./lake}}\nownership:\n  grants:\n    - {{subject: ada, role: namespace-owner, {given}}}\n")
    with pytest.raises(ConfigError, match=r"hindcast.yaml:4: ownership.grants.0: .*(matches|covers) nothing"):
        config.load_config(file)
