"""Who is alive, and who collects what: what goes wrong first, then joining, leaving and dying."""

import itertools
from typing import Any

import pytest

from collectors.sharing.assignment import assign
from collectors.sharing.members import ALONE, FORGOTTEN_LEASES, Members
from collectors.sharing.units import fleet_of, units_of
from warehouse import config
from warehouse.errors import ConfigError, LakeError
from warehouse.lake.notices import Notices

LEASE = 10.0


class Board:
    """A board in memory that can be away."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_away = False

    def write(self, name: str, text: str) -> None:
        self._check()
        self.texts[name] = text

    def read(self) -> dict[str, str]:
        self._check()
        return dict(self.texts)

    def remove(self, name: str) -> None:
        self.texts.pop(name, None)

    def _check(self) -> None:
        if self.is_away:
            raise LakeError("away")


class Group:
    """Collectors on hosts of their own, whose time passes by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.board = Board()
        self._numbers = itertools.count()

    def join(self, *, fleet: str = "f", healthy: bool = True, host: str = "") -> Members:
        members = Members(self.board, fleet=fleet, lease_seconds=LEASE, is_healthy=lambda: healthy, clock=lambda: self.now)
        number = next(self._numbers)
        members.place, members.name = host or f"host-{number}", f"collector-{number}"
        return members

    def pass_time(self, seconds: float, *beating: Members) -> None:
        """All of them beat as often as they say they do."""
        end, due = self.now + seconds, dict.fromkeys(beating, self.now)
        while self.now < end:
            for members in beating:
                if self.now >= due[members]:
                    members.beat()
                    due[members] = self.now + members.pause_seconds
            self.now += 0.5


@pytest.fixture
def group() -> Group:
    return Group()


def test_while_the_board_is_away_nobody_is_taken_for_dead(group: Group) -> None:
    a, b = group.join(), group.join()
    group.pass_time(30, a, b)
    group.board.is_away = True
    for _ in range(20):
        group.now += 3
        with pytest.raises(LakeError):
            a.beat()
    assert len(a.sharing()) == 2
    group.board.is_away = False
    group.pass_time(30, a, b)
    assert a.sharing() == b.sharing() == ["collector-0", "collector-1"]


def test_one_that_slept_does_not_take_the_others_for_dead(group: Group) -> None:
    a, b, c = group.join(), group.join(), group.join()
    group.pass_time(30, a, b, c)
    group.pass_time(600, b, c)
    a.beat()
    assert len(a.sharing()) == 3
    assert b.sharing() == c.sharing() == ["collector-1", "collector-2"]


def test_one_that_is_stuck_gives_no_sign_and_is_taken_for_dead(group: Group) -> None:
    a, stuck = group.join(), group.join(healthy=False)
    group.pass_time(30, a, stuck)
    assert a.sharing() == ["collector-0"]
    assert a.holder(stuck.instance) is None


def test_a_text_that_is_no_sign_of_life_is_passed_over(group: Group) -> None:
    group.board.texts = {"x": "", "y": "[]", "z": '{"instance": "later version"}'}
    a = group.join()
    a.beat()
    assert a.sharing() == ["collector-0"]


def test_a_dead_one_is_noticed_within_a_lease_and_a_beat(group: Group) -> None:
    a, b = group.join(), group.join()
    group.pass_time(60, a, b)
    assert a.holder(b.instance) == "collector-1"
    died = group.now
    while len(a.sharing()) == 2:
        group.pass_time(0.5, a)
    assert group.now - died <= LEASE + LEASE / 2
    assert a.changed.is_set()


def test_what_a_dead_one_left_is_deleted_in_the_end(group: Group) -> None:
    a, b = group.join(), group.join()
    group.pass_time(60, a, b)
    group.pass_time(FORGOTTEN_LEASES * LEASE * ALONE * 2, a)
    assert list(group.board.texts) == ["collector-0"]


def test_a_process_that_has_ended_on_the_same_host_is_dead_at_once(group: Group) -> None:
    a, b = group.join(host="same"), group.join(host="same")
    b.beat()
    a.beat()
    assert a.sharing() == ["collector-0"]  # both have this process's id, so one of them must be an earlier process


def test_two_of_one_name_get_two_names(group: Group) -> None:
    a, b = group.join(), group.join()
    b.name = a.name
    group.pass_time(60, a, b)
    assert a.name != b.name
    assert a.sharing() == b.sharing() == sorted([a.name, b.name])


def test_collectors_of_other_units_live_but_share_nothing(group: Group) -> None:
    a, b = group.join(), group.join(fleet="other")
    group.pass_time(30, a, b)
    assert a.sharing() == ["collector-0"]
    assert a.holder(b.instance) == "collector-1"


def test_one_alone_says_less_and_is_not_taken_over_by_one_that_joins(group: Group) -> None:
    a = group.join()
    group.pass_time(120, a)
    assert a.pause_seconds == LEASE * ALONE / 3
    b = group.join()
    for _ in range(120):
        group.pass_time(0.5, a, b) if group.now % a.pause_seconds < 0.5 else group.pass_time(0.5, b)
        assert b.holder(a.instance) == "collector-0"
    assert a.pause_seconds == b.pause_seconds == LEASE / 3


def test_signs_of_life_in_a_lake_are_read_by_others_and_taken_away(place: Any) -> None:
    place.open()
    notices = Notices(place.settings, "_collectors")
    assert notices.read() == {}
    notices.remove("nobody")
    notices.write("a", "1")
    notices.write("a", "2")
    assert Notices(place.settings, "_collectors").read() == {"a": "2"}
    notices.remove("a")
    assert notices.read() == {}


def test_where_the_lake_is_not_no_folder_is_made_for_signs_of_life(tmp_path: Any) -> None:
    away = Notices(config.Lake(url=str(tmp_path / "no lake")), "_collectors")
    with pytest.raises(LakeError, match="no lake"):
        away.write("a", "1")
    assert not (tmp_path / "no lake").exists()


def test_units_are_shared_evenly_and_stay_where_they_are_when_one_dies() -> None:
    units = [f"cluster-{number}" for number in range(200)]
    members = [f"m{number}" for number in range(4)]
    assert assign(units, []) == {}
    four, three = assign(units, members), assign(units, members[:3])
    assert four == assign(units[::-1], members[::-1])
    for found, size in ((four, 4), (three, 3)):
        counts = [list(found.values()).count(member) for member in members[:size]]
        assert max(counts) - min(counts) <= 1
    moved = [unit for unit in units if four[unit] != "m3" and four[unit] != three[unit]]
    assert len(moved) <= 30
    assert assign(["only"], members).keys() == {"only"}


def test_a_large_cluster_is_divided_by_its_nodes_and_a_node_that_joins_moves_no_other() -> None:
    def parts(count: int) -> dict[str, Any]:
        nodes = tuple(f"10.0.0.{number}:4244" for number in range(count))
        return units_of([config.Cluster(name="big", hubble=config.Hubble(nodes=nodes, plaintext=True, parts=4)), config.Cluster(name="x")])

    some, more = parts(40), parts(41)
    assert set(some) == {f"big#{number}" for number in range(4)}
    assert sorted(node for unit in some.values() for node in unit.hubble.nodes) == sorted(f"10.0.0.{number}:4244" for number in range(40))
    assert all(set(some[name].hubble.nodes) <= set(more[name].hubble.nodes) for name in some)
    assert {unit.cluster for unit in some.values()} == {"big"}


def test_a_relay_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="parts"):
        config.Hubble(address="relay:4245", plaintext=True, parts=2)


def test_collectors_of_another_lake_or_of_other_clusters_are_another_fleet() -> None:
    assert len({fleet_of("./a", ["x", "y"]), fleet_of("./b", ["x", "y"]), fleet_of("./a", ["x"])}) == 3
    assert fleet_of("./a", ["x", "y"]) == fleet_of("./a", ["y", "x"])


@pytest.mark.parametrize(
    ("leases", "words"),
    [
        ("{duration: 100ms}", "second"),
        ("{kubernetes: {}}", "in_cluster"),
        ("{kubernetes: {kubeconfig: k}}", "namespace"),
        ("{seconds: 3}", "seconds"),
    ],
)
def test_leases_that_cannot_be_used_are_named(leases: str, words: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=words):
        config.parse_config(f"collect: {{leases: {leases}}}", source=tmp_path / "hindcast.yaml")
