"""Messages reach whoever may see them, and nobody else; what does not arrive is tried again, and recorded."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hindcast.cli import app
from pipelines.evidence.delivery import delivering
from pipelines.evidence.delivery.message import Audience, File, Message
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake
from warehouse.schema import DELIVERIES

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
SECRET = "T0P-secret"
SHOP, ALICE = Principal(user="", groups=frozenset({"shop"})), Principal(user="alice", groups=frozenset({"shop", "pay"}))
GRANTS = [
    {"subject": "group:shop", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["shop"]},
    {"subject": "group:pay", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["pay"]},
    {"subject": "group:c1", "role": "cluster-admin", "clusters": ["c1"]},
    {"subject": "root", "role": "platform-admin"},
    {"subject": "eve", "role": "platform-admin"},
    {"subject": "eve", "deny": True, "clusters": ["c1"], "namespaces": ["shop"]},
    {"subject": "audit", "role": "auditor"},
    {"subject": "mixed", "role": "auditor"},
    {"subject": "mixed", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["shop"]},
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("lake"))))


def settings_of(folder: Path, url: str, target: dict[str, Any], **section: Any) -> config.Config:
    """One target, named t, of a kind; a hook's address is in a file."""
    (folder / "url").write_text(url)
    (folder / "password").write_text("p4ss-w0rd\n")
    document = {"ownership": {"grants": GRANTS}, "deliveries": [{"name": "t", "tries": 3, "timeout": "5s", **target, **section}]}
    return config.parse_config(json.dumps(document), source=folder / "hindcast.yaml")


def hook(kind: str = "webhook", **more: Any) -> dict[str, Any]:
    return {kind: {"url_file": "url"} | more, "role": "platform-admin"}


def mail(mailbox: Any, **more: Any) -> dict[str, Any]:
    smtp = {"server": mailbox.server, "ca": str(mailbox.ca), "sender": "h@example.org", "to": ["a@example.org", "b@example.org"]}
    return {"smtp": smtp | {"username": "hindcast", "password_file": "password"} | more, "role": "platform-admin"}


def sent(settings: config.Config, lake: Lake | None = None, made_for: Principal = OPERATOR, **more: Any) -> delivering.Outcome:
    about = more.pop("about", ())
    message = Message(**{"title": "Drops in <shop>", "text": "300 & more", "audience": Audience(made_for=made_for, about=about)} | more)
    (outcome,) = delivering.deliver(settings, message, delivering.targets(settings, ["t"]), lake=lake, source="test")
    return outcome


@pytest.mark.parametrize(
    ("subject", "made_for", "about", "arrives"),
    [
        ("group:shop", OPERATOR, (), False),
        ("nobody", SHOP, (), False),
        ("nobody", Principal(user="unknown"), (), False),
        ("group:pay", SHOP, (), False),
        ("group:shop", ALICE, (), False),  # other members of shop do not see what alice sees of pay
        ("audit", SHOP, (), False),  # auditors do not see labels, which owners do
        ("audit", Principal(user="mixed"), (), False),  # holds the labels of shop
        ("group:shop", Principal(user="group:shop", groups=frozenset({"shop", "pay"})), (), False),
        ("group:shop", Principal(user="group:shop", groups=frozenset({"shop"})), (), True),
        ("eve", SHOP, (), False),  # sees everything but shop
        ("group:pay", OPERATOR, (("c1", "shop"),), False),
        ("group:shop", OPERATOR, (("c2", "shop"),), False),
        ("group:shop", SHOP, (), True),
        ("alice", ALICE, (), True),
        ("group:c1", SHOP, (), True),
        ("root", SHOP, (), True),
        ("root", OPERATOR, (), True),
        ("group:shop", OPERATOR, (("c1", "shop"),), True),
        ("group:pay", OPERATOR, (("c1", "shop"), ("c1", "pay")), True),
    ],
)
def test_a_message_goes_only_to_those_who_may_see_all_of_it(
    tmp_path: Path, receiver: Any, subject: str, made_for: Principal, about: Any, arrives: bool
) -> None:
    settings = settings_of(tmp_path, receiver.url, {"webhook": {"url_file": "url"}, "subjects": [subject]})
    outcome = sent(settings, made_for=made_for, about=about)
    assert (outcome.outcome, len(receiver.got)) == (("delivered", 1) if arrives else ("denied", 0))


@pytest.mark.parametrize(("made_for", "arrives"), [(OPERATOR, False), (Principal(user="mixed"), False), (Principal(user="audit"), True)])
def test_what_may_hold_labels_does_not_go_to_auditors(tmp_path: Path, made_for: Principal, arrives: bool) -> None:
    settings = settings_of(tmp_path, "", {"folder": {"url": "out"}, "role": "auditor"})
    assert sent(settings, made_for=made_for).outcome == ("delivered" if arrives else "denied")


def test_everyone_who_reads_at_a_target_must_be_allowed_to_see_the_message(tmp_path: Path, receiver: Any) -> None:
    settings = settings_of(tmp_path, receiver.url, {"webhook": {"url_file": "url"}, "subjects": ["group:shop", "group:pay"]})
    outcome = sent(settings, made_for=SHOP)
    assert (outcome.outcome, outcome.tries) == ("denied", 0)
    assert outcome.detail == "group:pay, who reads at t, may not see everything in a message made with the rights of group:shop"


def test_what_was_denied_failed_and_arrived_is_in_the_log_and_once_sends_it_no_second_time(tmp_path: Path, receiver: Any) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    settings = settings_of(tmp_path, receiver.url, hook())
    message = Message(title="T", text="x", audience=Audience(made_for=OPERATOR), files=(File(name="a.csv", content=b"1"),), id="m1")
    receiver.statuses = [404, 200]
    for _ in range(3):
        delivering.deliver(
            settings, message, delivering.targets(settings, ["t"]), lake=lake, source="test", once=delivering.recorded(lake, since=BEGIN)
        )
    rows = sorted(lake.read(DELIVERIES).to_pylist(), key=lambda row: row["time"])
    assert [(row["outcome"], row["message"], row["made_for"], row["files"], row["bytes"]) for row in rows] == [
        ("failed", "m1", "operator", ["a.csv"], 2),
        ("delivered", "m1", "operator", ["a.csv"], 2),
    ]
    assert rows[0]["detail"] == "127.0.0.1 answered 404 Not Found"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_webhook_that_redirects_is_not_followed(tmp_path: Path, receiver: Any, status: int) -> None:
    receiver.statuses, receiver.location = [status], f"{receiver.address}/elsewhere"
    outcome = sent(settings_of(tmp_path, receiver.url, hook()))
    assert (outcome.outcome, outcome.tries, receiver.paths) == ("failed", 1, [f"/{SECRET}"])
    assert f"answered {status}: it redirects" in str(outcome.detail)
    assert SECRET not in str(outcome.detail)


def test_a_webhook_that_is_overloaded_is_tried_again_and_one_that_refuses_is_not(tmp_path: Path, receiver: Any) -> None:
    settings = settings_of(tmp_path, receiver.url, hook())
    receiver.statuses = [503, 429, 200]
    assert (sent(settings).outcome, len(receiver.got)) == ("delivered", 3)
    receiver.statuses = [503]
    outcome = sent(settings)
    assert (outcome.outcome, outcome.tries, outcome.detail) == ("failed", 3, "127.0.0.1 answered 503 Service Unavailable")
    receiver.statuses = [403]
    assert (sent(settings).outcome, len(receiver.got)) == ("failed", 7)


def test_a_webhook_that_hangs_or_is_away_fails_in_time_and_its_address_stays_secret(tmp_path: Path, receiver: Any) -> None:
    receiver.hangs = True
    outcome = sent(settings_of(tmp_path, receiver.url, hook(), timeout="200ms", tries=1))
    assert (outcome.outcome, outcome.detail) == ("failed", "127.0.0.1 cannot be reached: it does not answer in time")
    outcome = sent(settings_of(tmp_path, f"http://127.0.0.1:9/{SECRET}", hook()))
    assert (outcome.tries, outcome.detail) == (3, "127.0.0.1 cannot be reached: Connection refused")


def test_a_webhook_without_encryption_is_refused(tmp_path: Path) -> None:
    for url in (f"http://hooks.example/{SECRET}", f"file:///etc/{SECRET}", SECRET):
        outcome = sent(settings_of(tmp_path, url, hook()))
        assert "must begin with https://" in str(outcome.detail)
        assert SECRET not in str(outcome.detail)


def test_a_generic_webhook_gets_everything_and_slack_gets_its_form(tmp_path: Path, receiver: Any) -> None:
    (tmp_path / "token").write_text("t0ken")
    file = File(name="a.csv", content=b"x,y\n")
    sent(settings_of(tmp_path, receiver.url, hook(bearer_file="token")), files=(file,), facts={"severity": "high"}, id="m1")
    sent(settings_of(tmp_path, receiver.url, hook("slack")), files=(file,))
    generic, slack = receiver.got
    assert (generic["title"], generic["text"], generic["severity"], generic["id"]) == ("Drops in <shop>", "300 & more", "high", "m1")
    assert (generic["files"][0]["name"], generic["files"][0]["bytes"], len(generic["files"][0]["sha256"])) == ("a.csv", 4, 64)
    assert receiver.headers[0]["Authorization"] == "Bearer t0ken"
    assert slack == {"text": "*Drops in &lt;shop&gt;*\n300 &amp; more\nfile: a.csv"}


def test_a_mail_server_that_is_not_trusted_gets_nothing(tmp_path: Path, mailbox: Any) -> None:
    outcome = sent(settings_of(tmp_path, "", mail(mailbox, ca=None)))
    assert (outcome.outcome, outcome.tries, mailbox.got) == ("failed", 1, [])
    assert "certificate is not trusted" in str(outcome.detail)


def test_a_mail_server_that_refuses_the_password_is_not_asked_again(tmp_path: Path, mailbox: Any) -> None:
    settings = settings_of(tmp_path, "", mail(mailbox))
    (tmp_path / "password").write_text("wrong-0ne")
    outcome = sent(settings)
    assert (outcome.outcome, outcome.tries) == ("failed", 1)
    assert "refuses the user name or password (535)" in str(outcome.detail)
    assert "wrong-0ne" not in str(outcome.detail)


def test_a_mail_server_that_refuses_for_now_is_asked_again_and_one_that_refuses_for_good_is_not(tmp_path: Path, mailbox: Any) -> None:
    settings = settings_of(tmp_path, "", mail(mailbox))
    mailbox.answers = ["451 later"]
    assert (sent(settings).tries, len(mailbox.got)) == (2, 1)
    mailbox.answers = ["554 spam"]
    outcome = sent(settings)
    assert (outcome.outcome, outcome.tries) == ("failed", 1)
    assert "answered 554 spam" in str(outcome.detail)


def test_recipients_that_are_refused_are_named(tmp_path: Path, mailbox: Any) -> None:
    settings = settings_of(tmp_path, "", mail(mailbox))
    mailbox.refuses = {"b@example.org": "550 unknown"}
    outcome = sent(settings)
    assert (outcome.outcome, outcome.detail) == ("partly", "b@example.org was refused with 550")
    mailbox.refuses["a@example.org"] = "550 unknown"
    outcome = sent(settings)
    assert (outcome.outcome, outcome.tries) == ("failed", 1)
    assert "refuses a@example.org (550), b@example.org (550)" in str(outcome.detail)


def test_a_mail_server_that_hangs_or_speaks_no_tls_fails_in_time(tmp_path: Path, mailbox: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        for tls in ("starttls", "implicit"):
            outcome = sent(settings_of(tmp_path, "", mail(mailbox, server=server, tls=tls), timeout="200ms", tries=1))
            assert outcome.detail == f"{server} cannot be reached: it does not answer in time"


def test_an_email_is_sent_over_tls_with_its_files(tmp_path: Path, mailbox: Any) -> None:
    file = File(name="a.html", content=b"<p>x", media_type="text/html")
    assert sent(settings_of(tmp_path, "", mail(mailbox)), title="Drops\nBcc: x@y", files=(file,), id="m1").outcome == "delivered"
    ((got, recipients, over_tls),) = mailbox.got
    assert (got["Subject"], got["Message-ID"], got["Bcc"]) == ("Drops Bcc: x@y", "<m1@example.org>", None)
    assert (recipients, over_tls) == (["a@example.org", "b@example.org"], True)
    text, attached = got.get_payload()
    assert (text.get_payload(decode=True).strip(), attached.get_filename(), attached.get_payload(decode=True)) == (
        b"300 & more",
        "a.html",
        b"<p>x",
    )


def test_a_folder_that_cannot_be_written_is_an_error_and_keeps_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    outcome = sent(settings_of(tmp_path, "", {"folder": {"url": "out"}, "role": "auditor"}, tries=1), made_for=Principal(user="audit"))
    assert outcome.outcome == "failed"
    assert str(tmp_path / "out") in str(outcome.detail)


def test_a_folder_holds_the_text_and_the_files_of_each_message_once(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "", {"folder": {"url": "out"}, "role": "platform-admin"})
    for _ in range(2):
        sent(settings, files=(File(name="a.csv", content=b"x,y\n"),), id="m1")
    (folder,) = (tmp_path / "out").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv", "message.json"]
    assert json.loads((folder / "message.json").read_text())["text"] == "300 & more"


@pytest.mark.peers
def test_object_storage_holds_the_text_and_the_files(tmp_path: Path, buckets: Any) -> None:
    (buckets.objects / "out").mkdir()
    lake_settings = buckets.settings("out", tmp_path)
    target = {"folder": {"url": "s3://out/messages", "options": lake_settings.options}, "role": "platform-admin"}
    assert sent(settings_of(tmp_path, "", target), files=(File(name="a.csv", content=b"x,y\n"),)).outcome == "delivered"
    assert [path.read_bytes() for path in (buckets.objects / "out").rglob("a.csv")] == [b"x,y\n"]


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".hidden", "a\nb"])
def test_a_file_whose_name_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        File(name=name, content=b"")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"role": "platform-admin"}, "deliveries.0: give one of: folder, smtp, slack, webhook"),
        ({"folder": {"url": "x"}}, "deliveries.0: say who reads there"),
        ({"folder": {"url": "x"}, "subjects": [" "]}, "an empty subject is nobody"),
        ({"webhook": {}, "role": "auditor"}, "deliveries.0.webhook: give url_file or url_env"),
        ({"webhook": {"url": "https://x"}, "role": "auditor"}, "deliveries.0.webhook.url: unknown key; did you mean 'url_env'?"),
        ({"smtp": {"server": "x", "sender": "a@b", "to": ["c@d"]}, "role": "auditor"}, "server 'x' is not host:port"),
        ({"smtp": {"server": "x:1", "sender": "a@b", "to": ["c"]}, "role": "auditor"}, "'c' is not an e-mail address"),
        ({"smtp": {"server": "x:1", "sender": "a@b", "to": ["c@d"], "username": "u"}, "role": "auditor"}, "username goes with"),
    ],
)
def test_mistakes_in_the_configuration_name_file_line_and_key(tmp_path: Path, target: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"hindcast.yaml:1: ") as refused:
        settings_of(tmp_path, "", target)
    assert message in str(refused.value)


def test_names_of_deliveries_are_unique_and_known(tmp_path: Path, lake: Lake) -> None:
    target = {"name": "a", "role": "auditor", "folder": {"url": "x"}}
    with pytest.raises(ConfigError, match="deliveries: the name 'a' is used 2 times"):
        config.parse_config(json.dumps({"deliveries": [target, target]}), source=tmp_path / "hindcast.yaml")
    with pytest.raises(ConfigError, match=r"alerts.deliver_to: there is no delivery named 'b'"):
        config.parse_config(json.dumps({"alerts": {"deliver_to": ["b"]}}), source=tmp_path / "hindcast.yaml")
    with pytest.raises(ConfigError, match="no delivery named 'b': the configuration has a"):
        delivering.targets(config.Config.model_validate({"deliveries": [target]}), ["b"])


def test_check_signs_in_to_mail_servers_reads_secrets_and_sends_nothing(tmp_path: Path, mailbox: Any, receiver: Any) -> None:
    (tmp_path / "url").write_text(receiver.url)
    (tmp_path / "password").write_text("wrong-0ne")
    targets = [{"name": "post", **mail(mailbox)}, {"name": "hook", **hook()}, {"name": "gone", **hook(url_file="missing")}]
    (tmp_path / "hindcast.yaml").write_text(json.dumps({"deliveries": targets}))
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "hindcast.yaml")])
    assert done.exit_code == 1
    assert f"delivery post {mailbox.server}: {mailbox.server} refuses the user name or password (535)" in done.output
    assert "delivery hook webhook: a webhook of 127.0.0.1, for platform-admin; not tried" in done.output
    assert "missing: the secret cannot be read" in done.output
    assert SECRET not in done.output
    (tmp_path / "password").write_text("p4ss-w0rd")
    done = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "hindcast.yaml")])
    assert f"delivery post {mailbox.server}: signed in; to a@example.org, b@example.org" in done.output
    assert (mailbox.got, receiver.got) == ([], [])
