"""Secrets that flows carry are not stored, wherever in a flow they stand."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.decode import decode, rebuild
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
