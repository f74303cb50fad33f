"""Secrets that flows carry are not stored, wherever in a flow they stand."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.decoding import secrets
from collectors.decoding.decode import decode, rebuild
from collectors.hubble_api.flow import flow_pb2
from warehouse import config

NOW = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
SECRET = "s3cr3t"


def flow(url: str = "", *, headers: tuple[tuple[str, str], ...] = (), summary: str = "") -> flow_pb2.Flow:
    made = flow_pb2.Flow(uuid="u", verdict=flow_pb2.FORWARDED, Summary=summary)
    made.time.FromDatetime(NOW)
    made.l7.type = flow_pb2.REQUEST
    made.l7.http.method, made.l7.http.url = "GET", url
    for key, value in headers:
        made.l7.http.headers.add(key=key, value=value)
    return made


def stored(made: flow_pb2.Flow, redact: config.Redact | None = None) -> flow_pb2.Flow:
    rows = decode([made.SerializeToString()], cluster="c1", recorded=NOW, redact=redact or config.Redact()).rows
    (message,) = rebuild(rows)
    return flow_pb2.Flow.FromString(message)


def test_a_flow_without_secrets_is_stored_as_it_is() -> None:
    made = flow("http://shop/cart?item=7&color=red#top", headers=(("Accept", "text/html"), ("X-Request-Id", "")), summary="GET /cart")
    assert stored(made) == made
    nothing = flow_pb2.Flow(uuid="u", verdict=flow_pb2.DROPPED)
    nothing.time.FromDatetime(NOW)
    assert stored(nothing) == nothing


@pytest.mark.parametrize("name", ["Authorization", "authorization", "COOKIE", "Set-Cookie", "X-Api-Key", "Proxy-Authorization"])
def test_values_of_known_headers_are_left_out_whatever_their_case(name: str) -> None:
    kept = stored(flow(headers=(("Accept", "a"), (name, f"Bearer {SECRET}"), ("Host", "h"))))
    assert [(header.key, header.value) for header in kept.l7.http.headers] == [("Accept", "a"), (name, "REDACTED"), ("Host", "h")]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (f"https://ada:{SECRET}@shop/x", "https://REDACTED@shop/x"),
        (f"https://{SECRET}@shop/x@y", "https://REDACTED@shop/x@y"),
        (f"http://shop/x?a=1&token={SECRET}&b=2", "http://shop/x?a=1&token=REDACTED&b=2"),
        (f"/x?Access_Token={SECRET}#f", "/x?Access_Token=REDACTED#f"),
        (f"/x?a=1;password={SECRET}", "/x?a=1;password=REDACTED"),
        (f"http://s3/x?X-Amz-Signature={SECRET}&X-Amz-Date=1", "http://s3/x?X-Amz-Signature=REDACTED&X-Amz-Date=1"),
        ("/x?mytoken=5", "/x?mytoken=5"),
        ("/mail/a@b", "/mail/a@b"),
    ],
)
def test_secrets_of_urls_are_left_out_of_the_url_and_the_summary(url: str, kept: str) -> None:
    found = stored(flow(url, summary=f"HTTP/1.1 GET {url}"))
    assert (found.l7.http.url, found.Summary) == (kept, f"HTTP/1.1 GET {kept}")


def test_what_is_left_out_can_be_chosen() -> None:
    made = flow(f"http://u@h/x?q={SECRET}", headers=(("Authorization", "a"), ("X-Mine", SECRET)))
    all_of_it = stored(made, config.Redact(url_query=True, headers=("x-mine",)))
    assert all_of_it.l7.http.url == "http://REDACTED@h/x?REDACTED"
    assert [header.value for header in all_of_it.l7.http.headers] == ["a", "REDACTED"]
    assert stored(made, config.Redact(headers=(), url_user_info=False, url_parameters=())) == made


def test_a_newer_record_that_no_column_holds_is_cleaned_too() -> None:
    made = flow(f"http://a:{SECRET}@h/?token={SECRET}", headers=(("Cookie", SECRET),), summary=f"GET http://a:{SECRET}@h/")
    newer = b"\xa2\x1f\x03new"  # field 500 of the HTTP record, which this version does not know
    http = made.l7.http.SerializeToString() + newer
    layer = flow_pb2.Layer7(type=flow_pb2.REQUEST).SerializeToString()
    record = bytes([(101 << 3 | 2) & 0x7F | 0x80, 101 << 3 >> 7]) + bytes([len(http) & 0x7F | 0x80, len(http) >> 7]) + http
    body = layer + record
    bare = flow_pb2.Flow.FromString(made.SerializeToString())
    bare.ClearField("l7")
    message = bare.SerializeToString() + b"\x7a" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body
    assert flow_pb2.Flow.FromString(message).l7.http.url == made.l7.http.url
    rows = decode([message], cluster="c1", recorded=NOW).rows
    assert rows["rest"][0].as_py() is not None
    assert SECRET not in str(rows.to_pylist())
    (rebuilt,) = rebuild(rows)
    assert b"new" in rebuilt
    assert SECRET.encode() not in rebuilt


@pytest.mark.slow
@settings(max_examples=60)
@given(
    values=st.lists(st.none() | st.text("abcXYZ019:/@?&=#", max_size=20), min_size=1, max_size=8),
    name=st.sampled_from(["cookie", "Authorization", "Accept"]),
)
def test_other_flows_of_a_batch_keep_all_they_have(values: list[str | None], name: str) -> None:
    made = [
        flow("/x", headers=((name, value), ("n", str(number)))) if value is not None else flow("/y") for number, value in enumerate(values)
    ]
    rows = decode([one.SerializeToString() for one in made], cluster="c1", recorded=NOW).rows
    for one, message in zip(made, rebuild(rows), strict=True):
        for header in one.l7.http.headers:
            if header.key.lower() in config.SECRET_HEADERS and header.value:
                header.value = "REDACTED"
        assert flow_pb2.Flow.FromString(message) == one


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (f"/x?%74oken={SECRET}", "/x?%74oken=REDACTED"),
        (f"/x?a=1&%54%4FKEN={SECRET}&b=2", "/x?a=1&%54%4FKEN=REDACTED&b=2"),
        (f"/x?a=1;pass%77ord={SECRET};b=2", "/x?a=1;pass%77ord=REDACTED;b=2"),
        (f"/x?%2574oken={SECRET}", "/x?%2574oken=REDACTED"),
        (f"/x?access%5Ftoken={SECRET}", "/x?access%5Ftoken=REDACTED"),
        (f"/x?next=https%3A%2F%2Fh%2F%3Ftoken%3D{SECRET}", "/x?next=https%3A%2F%2Fh%2F%3Ftoken%3DREDACTED"),
        (f"/x?next=https%3A%2F%2Fada%3A{SECRET}%40h%2Fa%40b", "/x?next=https%3A%2F%2FREDACTED%40h%2Fa%40b"),
        ("/x?next=https%3A%2F%2Fh%2Fa%40b", "/x?next=https%3A%2F%2Fh%2Fa%40b"),
        ("/x?%75oken=5&m%79token=6", "/x?%75oken=5&m%79token=6"),
    ],
)
def test_a_name_written_with_percent_signs_is_the_same_name(url: str, kept: str) -> None:
    found = stored(flow(url, summary=f"HTTP/1.1 GET {url}"))
    assert (found.l7.http.url, found.Summary) == (kept, f"HTTP/1.1 GET {kept}")


@settings(deadline=None)
@given(name=st.sampled_from(config.SECRET_PARAMETERS), chosen=st.integers(0, 2**32), upper=st.booleans(), separator=st.sampled_from("?&;"))
def test_whichever_letters_of_a_name_are_written_with_percent_signs_its_value_is_left_out(
    name: str, chosen: int, upper: bool, separator: str
) -> None:
    written = "".join(
        (f"%{ord(letter):02X}" if upper else f"%{ord(letter):02x}") if chosen >> place & 1 else letter for place, letter in enumerate(name)
    )
    text = secrets.out_of_text(f"/x?a=1{separator}{written}={SECRET}#end", config.Redact())
    assert text == f"/x?a=1{separator}{written}=REDACTED#end"


# What is set aside -----------------------------------------------------------------------------------------------

LINE = (
    '{"flow":{"verdict":"FORWARDED","Summary":"GET /x?token=SECRET","l7":{"http":{"url":"http://u:SECRET@h/x?a=1\\u0026token=SECRET",'
    '"headers":[{"key":"Accept","value":"kept"},{"key":"Authorization","value":"Bearer \\"SECRET"}]}}}}'
).replace("SECRET", SECRET)


@pytest.mark.parametrize("end", [*range(0, len(LINE), 7), len(LINE)])
def test_a_line_is_set_aside_without_its_secrets_wherever_it_breaks_off(end: int) -> None:
    text = secrets.out_of_text(LINE[:end], config.Redact())
    assert SECRET not in text
    assert ("kept" in text) == ("kept" in LINE[:end])


def test_a_line_without_secrets_is_set_aside_as_it_is() -> None:
    for text in ("", "{", '{"flow": {"verdict":  "NEW"}}', "tab\tand ünïcode", '[1, null, {"key": "a"}]', '"key" : "cookie"'):
        assert secrets.out_of_text(text, config.Redact()) == text


def test_a_message_is_set_aside_without_its_secrets_and_as_long_as_it_was() -> None:
    made = flow(
        f"http://u:{SECRET}@h/x?a=1&%74oken={SECRET}&b=2",
        headers=(("Accept", "kept"), ("aUTHORIZATION", f"Bearer {SECRET}" + "x" * 200)),
        summary=f"GET /?token={SECRET}",
    ).SerializeToString()
    for broken in (made, made + b"\x0f", b"\xff" + made, made[:-60]):
        kept = secrets.out_of_message(broken, config.Redact())
        assert SECRET.encode() not in kept
        assert b"xxx" not in kept
        assert b"kept" in kept
        assert len(kept) == len(broken)
    whole = flow_pb2.Flow.FromString(secrets.out_of_message(made, config.Redact()))
    assert [header.key for header in whole.l7.http.headers] == ["Accept", "aUTHORIZATION"]
    plain = flow("/x?a=1", headers=(("Accept", "a"),)).SerializeToString()
    assert secrets.out_of_message(plain, config.Redact()) == plain
    assert SECRET.encode() not in secrets.out_of_message(made, config.Redact(url_query=True))
