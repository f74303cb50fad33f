"""Secrets in text that is set aside: found at any escaping, in any notation, wherever the text breaks off."""

from __future__ import annotations

import html
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.decoding import secrets
from warehouse import config

SECRET = "s3cr3t"
FLOW = {
    "flow": {
        "verdict": "FORWARDED",
        "Summary": f"GET http://h/x?a=1&token={SECRET}",
        "l7": {
            "http": {
                "url": f"http://u:{SECRET}@h/x?a=1&next=https%3A%2F%2Fh%2F%3Fpassword%3D{SECRET}",
                "headers": [{"key": "Accept", "value": "kept"}, {"key": "Authorization", "value": f'Bearer "{SECRET}", {SECRET}'}],
            }
        },
    }
}
ESCAPES: dict[str, Callable[[str], str]] = {
    "JSON": json.dumps,
    "JSON in ASCII codes": lambda text: json.dumps(text).replace("&", "\\u0026").replace("=", "\\u003d").replace("'", "\\u0027"),
    "URL": lambda text: urllib.parse.quote(text, safe=""),
    "form": urllib.parse.quote_plus,
    "Python": repr,
    "Python bytes": lambda text: repr(text.encode()),
    "HTML": html.escape,
    "log line": lambda text: f"2026-10-01T10:00:00Z stdout F {text}",
    "logfmt": lambda text: f"level=info msg={json.dumps(text)} x=1",
}


def clean(text: str) -> str:
    return secrets.out_of_text(text, config.Redact())


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from([json.dumps(FLOW), json.dumps(FLOW, separators=(",", ":")), repr(FLOW), json.dumps(FLOW, indent=2)]),
    escapes=st.lists(st.sampled_from(sorted(ESCAPES)), max_size=4),
    end=st.floats(0, 1),
)
def test_no_secret_is_left_at_any_escaping_wherever_the_text_breaks_off(start: str, escapes: list[str], end: float) -> None:
    text = start
    for name in escapes:
        text = ESCAPES[name](text)
    for some in (text, text[: int(len(text) * end)]):
        assert SECRET not in clean(some)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"curl -H 'Authorization: Bearer {SECRET}' http://h",
        f'{{"headers":{{"Authorization":"Bearer {SECRET}"}}}}',
        f'{{"headers":{{"authorization":["Bearer {SECRET}"]}}}}',
        f'{{"key":"Authorization","value":["Bearer {SECRET}"]}}',
        f'{{"name":"Cookie","value":"a={SECRET}; b={SECRET}"}}',
        f'{{"value":"Bearer {SECRET}","key":"Authorization"}}',
        f'{{"value":"Bearer {SECRET}","ke',
        f'{{"key":"Cookie","more":"x","value":"{SECRET}"',
        f'{{"value":"{SECRET}","more":{{"a":"}}"}},"key":"Cookie"}}',
        f'{{"key":"Cookie","key":"Accept","value":"{SECRET}"}}',
        f'{{"flow":{{"verdict":{{"key":"Cookie","value":"{SECRET}"}}',
        f'headers:{{key:"Authorization" value:"Bearer {SECRET}"}}',
        f'["Authorization","Bearer {SECRET}"]',
        f"\\u0041uthorization: Bearer {SECRET}",
        f"http://u:p%40{SECRET}@h/",
        f"http://u:{SECRET}%2F{SECRET}@h/",
        f"/x?token={SECRET}%26{SECRET}&b=2",
        f"/x?%74oken%3D{SECRET}",
    ],
)
def test_secrets_are_found_in_other_notations(text: str) -> None:
    assert SECRET not in clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"flow": {"verdict":  "NEW"}}',
        "tab\tand ünïcode \\n \\\\ %zz &nbsp;",
        '[1, null, {"key": "a"}]',
        '"key" : "cookie"',
        '{"key":"Vary","value":"Cookie"}',
        "/x?mytoken=5&page=2",
        "mail/a@b",
        "100% sure & done",
    ],
)
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_what_is_not_secret_stays() -> None:
    kept = clean(json.dumps(json.dumps(FLOW)))
    assert "kept" in kept
    assert "FORWARDED" in kept
    assert clean(f"/x?a=1&token={SECRET}&b=2") == "/x?a=1&token=REDACTED&b=2"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60), st.text(alphabet="\\%\"'{}[]:,=&;?#@/ u0022n5Cc kvalueyCookie\n", max_size=80))
def test_any_text_can_be_cleaned(text: str, escapes: str) -> None:
    for one in (text, escapes, text + escapes):
        assert isinstance(clean(one), str)
        assert clean(clean(one)) == clean(clean(clean(one)))
