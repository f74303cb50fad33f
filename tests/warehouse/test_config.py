"""The configuration file: what is read from it, and what its errors say."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.config import Config, Retention, load_config, parse_config, parse_duration, read_secret
from warehouse.errors import ConfigError

FILE = Path("folder/hindcast.yaml")


def parse(text: str) -> Config:
    return parse_config(dedent(text), source=FILE)


def error_of(text: str) -> str:
    """The message with which the file is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def hubble(section: str) -> str:
    """A file of one cluster whose `hubble:`, in line 3, is the YAML flow mapping given."""
    return f"clusters:\n  - name: prod\n    hubble: {section}\n"


def test_an_empty_file_gives_the_defaults() -> None:
    config = parse("")
    assert config.clusters == ()
    assert config.lake.url.endswith("folder/lake")
    assert config.retention.flows == timedelta(days=30)


def test_an_unknown_key_is_refused_with_file_line_key_and_the_nearest_known_one() -> None:
    message = error_of("""\
        lake:
          url: ./lake
        clusters:
          - name: prod
            hubble:
              adress: relay:443
        """)
    assert f"{FILE}:6: clusters.0.hubble.adress: unknown key; did you mean 'address'?" in message


def test_an_unknown_key_like_no_other_is_refused_with_the_list_of_known_ones() -> None:
    message = error_of("retention:\n  zzzzzz: 1d\n")
    known = ", ".join(Retention.model_fields)
    assert message == f"{FILE}:2: retention.zzzzzz: unknown key; known here: {known}"


def test_every_problem_of_a_file_is_reported_at_once() -> None:
    lines = error_of("lak: {}\nretention: {flow: 3d}\n").splitlines()
    assert [line.split(": unknown key")[0] for line in lines] == [f"{FILE}:2: retention.flow", f"{FILE}:1: lak"]


def test_a_cluster_name_given_twice_is_refused_by_name() -> None:
    message = error_of("clusters: [{name: prod}, {name: lab}, {name: prod}]")
    assert "'prod' is used 2 times" in message
    assert "lab" not in message


@pytest.mark.parametrize("name", ["", "a/b", "../up", "-a", "a" * 64, "with space", "a\\nb"])
def test_a_cluster_name_that_could_not_name_a_folder_is_refused(name: str) -> None:
    assert f"{FILE}:1: clusters.0.name" in error_of(f'clusters: [{{name: "{name}"}}]')


def test_a_key_given_twice_is_refused_with_the_line_of_the_second() -> None:
    message = error_of("""\
        clusters:
          - name: prod
            labels: {env: prod}
            labels: {env: lab}
        """)
    assert message == f"{FILE}:4: the key 'labels' is given twice"


def test_the_same_key_in_two_items_of_a_list_is_not_a_repetition() -> None:
    assert len(parse("clusters: [{name: a}, {name: b}]").clusters) == 2


def test_a_missing_file_is_refused_with_its_name_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: there is no such file\. Give --config FILE or set HINDCAST_CONFIG"):
        load_config(tmp_path / "absent.yaml")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_text_that_is_not_yaml_is_refused_with_its_line() -> None:
    assert error_of("lake:\n  url: [unclosed\n").startswith(f"{FILE}:3: not valid YAML: ")


def test_a_file_that_holds_a_list_is_refused_with_the_sections_there_are() -> None:
    assert error_of("- lake\n") == (f"{FILE}:1: must be a mapping of sections ({', '.join(Config.model_fields)}), not list")


@pytest.mark.parametrize("text", ["30", "d30", "30 d", "1h30", "month", "-3d", "1.d", ""])
def test_a_bad_duration_is_refused_with_its_line_and_an_example(text: str) -> None:
    message = error_of(f'retention:\n  flows: "{text}"\n')
    assert message.startswith(f"{FILE}:2: retention.flows: {text!r} is not a duration")
    assert "1h30m" in message


@given(days=st.integers(0, 999), hours=st.integers(0, 999), seconds=st.integers(0, 999), milliseconds=st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, seconds: int, milliseconds: int) -> None:
    assert parse_duration(f"{days}d{hours}h{seconds}s{milliseconds}ms") == timedelta(
        days=days, hours=hours, seconds=seconds, milliseconds=milliseconds
    )


def test_a_week_has_seven_days_and_a_year_365() -> None:
    assert parse_duration("2w") == timedelta(days=14)
    assert parse_duration("3y") == timedelta(days=3 * 365)


@pytest.mark.parametrize("address", ["relay", "relay:", ":443", "relay:https"])
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    assert (
        error_of(hubble(f'{{address: "{address}"}}'))
        == f"{FILE}:3: clusters.0.hubble: {address!r} is not host:port, with a port from 1 to 65535"
    )


def test_each_of_the_nodes_needs_a_port() -> None:
    assert "'node-2' is not host:port" in error_of(hubble('{nodes: ["node-1:4244", node-2]}'))


@pytest.mark.parametrize("section", ["{}", '{address: "relay:443", nodes: ["node-1:4244"]}'])
def test_hubble_needs_a_relay_or_nodes_and_not_both(section: str) -> None:
    assert f"{FILE}:3: clusters.0.hubble: give either address (hubble-relay) or nodes" in error_of(hubble(section))


def test_an_ipv6_address_keeps_its_port_apart() -> None:
    (cluster,) = parse(hubble('{address: "[::1]:4245", plaintext: true}')).clusters
    assert cluster.hubble is not None
    assert cluster.hubble.addresses == ("[::1]:4245",)


def test_tls_is_used_unless_plaintext_is_set() -> None:
    (cluster,) = parse(hubble('{address: "relay:443"}')).clusters
    assert cluster.hubble is not None
    assert cluster.hubble.plaintext is False


def test_a_secret_is_not_sent_over_plaintext() -> None:
    message = error_of(hubble('{address: "relay:80", plaintext: true, auth: {bearer_env: TOKEN}}'))
    assert "auth over plaintext would expose the secret on the network: use tls" in message


def test_plaintext_and_tls_exclude_each_other() -> None:
    assert "plaintext: true and tls exclude each other" in error_of(hubble('{address: "relay:80", plaintext: true, tls: {ca: ca.pem}}'))


@pytest.mark.parametrize("alone", ["cert", "key"])
def test_a_client_certificate_and_its_key_go_together(alone: str) -> None:
    message = error_of(hubble(f'{{address: "relay:443", tls: {{{alone}: client.pem}}}}'))
    assert f"{FILE}:3: clusters.0.hubble.tls: cert and key go together" in message


@pytest.mark.parametrize(
    "auth",
    [
        "{}",
        "{username: me}",
        "{password_env: P}",
        "{bearer_env: T, bearer_file: t}",
        "{bearer_env: T, username: me}",
        "{bearer_env: T, username: me, password_env: P}",
        "{username: me, password_env: P, password_file: p}",
    ],
)
def test_auth_that_is_not_exactly_one_kind_is_refused(auth: str) -> None:
    assert "give bearer_file or bearer_env, or username with" in error_of(hubble(f'{{address: "relay:443", auth: {auth}}}'))


@pytest.mark.parametrize(
    "auth", ["{bearer_env: T}", "{bearer_file: t}", "{username: me, password_env: P}", "{username: me, password_file: p}"]
)
def test_each_kind_of_auth_is_accepted_alone(auth: str) -> None:
    (cluster,) = parse(hubble(f'{{address: "relay:443", auth: {auth}}}')).clusters
    assert cluster.hubble is not None
    assert cluster.hubble.auth is not None


def test_relative_paths_are_relative_to_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "hindcast.yaml").write_text(
        dedent("""\
        lake: {url: data/lake}
        collect: {spool: /spool}
        clusters:
          - name: prod
            hubble: {address: "relay:443", tls: {ca: ../ca.pem}, auth: {bearer_file: token}}
            kubernetes: {manifests: gitops}
        """),
        encoding="utf-8",
    )
    config = load_config(tmp_path / "hindcast.yaml")
    (cluster,) = config.clusters
    assert cluster.hubble is not None
    assert cluster.hubble.auth is not None
    assert cluster.kubernetes is not None
    assert config.lake.url == str(tmp_path / "data" / "lake")
    assert config.collect.spool == Path("/spool")
    assert cluster.hubble.tls.ca == tmp_path / ".." / "ca.pem"
    assert cluster.hubble.auth.bearer_file == tmp_path / "token"
    assert cluster.kubernetes.manifests == tmp_path / "gitops"


def test_the_url_of_an_object_store_is_left_as_it_is() -> None:
    assert parse("lake: {url: s3://bucket/prefix}").lake.url == "s3://bucket/prefix"


def test_the_environment_variable_names_the_file_and_an_argument_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("by_variable", "by_argument"):
        (tmp_path / f"{name}.yaml").write_text(f"clusters: [{{name: {name}}}]", encoding="utf-8")
    monkeypatch.setenv("HINDCAST_CONFIG", str(tmp_path / "by_variable.yaml"))
    assert load_config().clusters[0].name == "by_variable"
    assert load_config(tmp_path / "by_argument.yaml").clusters[0].name == "by_argument"


def test_without_argument_and_variable_the_file_of_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hindcast.yaml").write_text("clusters: [{name: here}]", encoding="utf-8")
    monkeypatch.delenv("HINDCAST_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert load_config().clusters[0].name == "here"


def test_a_configuration_cannot_be_changed_after_it_was_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse("").retention.flows = timedelta(0)


def test_a_secret_is_read_from_its_file_without_the_final_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n", encoding="utf-8")
    assert read_secret(tmp_path / "token", None) == "s3cret"


def test_a_secret_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_TEST_TOKEN", "s3cret")
    assert read_secret(None, "HINDCAST_TEST_TOKEN") == "s3cret"


def test_a_missing_secret_is_named_by_its_place_and_no_value_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_OTHER_TOKEN", "s3cret")
    monkeypatch.delenv("HINDCAST_TEST_TOKEN", raising=False)
    with pytest.raises(ConfigError) as of_variable:
        read_secret(None, "HINDCAST_TEST_TOKEN")
    with pytest.raises(ConfigError) as of_file:
        read_secret(tmp_path / "token", None)
    assert str(of_variable.value) == "the environment variable HINDCAST_TEST_TOKEN is not set"
    assert str(of_file.value) == f"{tmp_path / 'token'}: the secret cannot be read: No such file or directory"


def test_a_secret_written_into_the_file_by_mistake_is_refused_without_repeating_it() -> None:
    message = error_of(hubble('{address: "relay:443", auth: {username: me, password: s3cret}}'))
    assert "clusters.0.hubble.auth.password: unknown key; did you mean 'password_" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("text", ["clusters:\n- name: a\n  hubble: {address: 'h:1', auth: s3cret}\n", "lake: {options: {key: 12345678}}\n"])
def test_a_misplaced_secret_is_not_shown_in_the_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source=Path("h.yaml"))
    assert "s3cret" not in str(caught.value)
    assert "12345678" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: \0", "a: &x [*x]"])
def test_text_no_yaml_reader_takes_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(ConfigError, match=r"h\.yaml"):
        parse_config(text, source=Path("h.yaml"))


def test_a_configuration_of_aliases_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    """Looked at alias by alias it would take longer than anyone waits."""
    levels = "".join(f"{now}: &{now} [{','.join([f'*{before}'] * 10)}]\n" for before, now in itertools.pairwise("abcdefghijklmnop"))
    file = tmp_path / "hindcast.yaml"
    file.write_text(f"a: &a [x]\n{levels}")
    with pytest.raises(ConfigError, match=r"hindcast.yaml:1: a: unknown key"):
        load_config(file)
