"""Removes secrets that flows contain before they are stored: values of headers, user info and parameters of URLs.

It works on the columns of `flows` and their `rest`, and on unreadable text that is set aside. A mark replaces each
removed secret.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import MutableMapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from collectors.decoding import secrets_in_text
from collectors.decoding.secrets_in_text import MARK
from collectors.hubble_api.flow import flow_pb2
from warehouse import config
from warehouse.schema import HEADERS


def take_out(columns: MutableMapping[str, pa.Array], settings: config.Redact) -> None:
    """Remove the secrets from the columns of `flows`, in place."""
    patterns = _patterns(settings)
    for name in ("l7_http_url", "summary"):
        columns[name] = _without(columns[name], patterns)
    columns["l7_http_headers"] = _headers(columns["l7_http_headers"], settings)
    if columns["rest"].null_count < len(columns["rest"]):
        rests = columns["rest"].dictionary_encode()  # a field newer than this version often has the same value in all flows
        cleaned = [_of_rest(rest, settings, patterns) for rest in rests.dictionary.to_pylist()]
        columns["rest"] = pa.array(cleaned, pa.binary()).take(rests.indices)


def out_of_text(text: str, settings: config.Redact) -> str:
    """Remove the secrets from text that is set aside: JSON, malformed JSON, or anything else."""
    try:
        value = json.loads(text)
        cleaned = out_of_json(value, settings)
        if cleaned != value:
            text = json.dumps(cleaned, ensure_ascii=False)
    except (ValueError, RecursionError):
        pass  # it is searched as text in any case: a parser hides what it drops, such as the first of two equal keys
    return secrets_in_text.out_of_text(text, settings)


def out_of_json(value: Any, settings: config.Redact) -> Any:
    """Remove secrets from a JSON value: header values, as pairs or by name, and secrets in its strings. Raises RecursionError."""
    return _of_json(value, settings, {name.lower() for name in settings.headers})


def out_of_message(message: bytes, settings: config.Redact) -> bytes:
    """Remove the secrets of an unreadable protobuf message by overwriting their bytes, so that lengths stay correct."""
    masked = bytearray(message)
    if settings.headers:
        names = "|".join(map(re.escape, settings.headers))
        for found in re.finditer(rf"(?is)\x0a.(?:{names})\x12".encode(), message):
            begin, length = _sized(message, found.end())
            masked[begin : begin + length] = b"*" * len(message[begin : begin + length])
    for pattern, _ in _patterns(settings):
        for found in re.finditer(pattern.replace(r"\s", r"\x00-\x20").encode(), message):
            begin = found.end(1) if found.re.groups else found.start() + 1
            masked[begin : found.end()] = b"*" * (found.end() - begin)
    return bytes(masked)


def _sized(message: bytes, place: int) -> tuple[int, int]:
    """Return position and length of each value that is preceded by its length."""
    length = shift = 0
    for byte in message[place : place + 5]:
        length, shift, place = length | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            break
    return place, length


def _of_json(value: Any, settings: config.Redact, headers: set[str]) -> Any:
    if isinstance(value, str):
        return secrets_in_text.out_of_text(value, settings)
    if isinstance(value, list):
        return [_of_json(one, settings, headers) for one in value]
    if not isinstance(value, dict):
        return value
    is_secret = any(str(value.get(name, "")).lower() in headers for name in ("key", "name"))
    return {
        name: MARK if one and (name.lower() in headers or (is_secret and name == "value")) else _of_json(one, settings, headers)
        for name, one in value.items()
    }


@functools.lru_cache(maxsize=16)
def _patterns(settings: config.Redact) -> tuple[tuple[str, str], ...]:
    """Return patterns for secrets in text that contains a URL, and their replacements (RE2, also valid for re); group 1 stays.

    Parameter names may be percent-encoded, and so may a nested URL, whose end is then not searched for.
    """
    found = []
    if settings.url_user_info:
        found.append((r"(://)[^/?#@\s]+@", rf"\1{MARK}@"))
        within = r"%(?:[015-9a-f][0-9a-f]|2[0-24-9a-e]|3[0-9a-e]|4[1-9a-f])"  # none of / ? # @
        found.append((rf"(?i)(%3a%2f%2f)(?:[^/?#@%\s]|{within})+%40", rf"\1{MARK}%40"))
    if settings.url_query:
        found.append((r"\?[^#\s]+", f"?{MARK}"))
    elif settings.url_parameters:
        names = "|".join(map(_percent_or_plain, settings.url_parameters))
        found.append((rf"(?i)((?:[?&;]|{_PERCENT}(?:3f|26|3b))(?:{names})(?:=|{_PERCENT}3d))[^&;#\s]+", rf"\1{MARK}"))
    return tuple(found)


_PERCENT = "%(?:25)*"
"""A percent sign, itself percent-encoded any number of times."""


def _percent_or_plain(name: str) -> str:
    """Return a pattern for a name of which each byte may be percent-encoded, in any case."""
    return "".join(
        f"(?:{re.escape(letter)}|{_PERCENT}(?:{'|'.join(sorted({f'{ord(letter.lower()):02x}', f'{ord(letter.upper()):02x}'}))}))"
        for letter in name
    )


def _without(texts: pa.Array, patterns: tuple[tuple[str, str], ...]) -> pa.Array:
    if texts.null_count == len(texts) or not patterns:
        return texts
    # Most strings are summaries without a URL: they are skipped at a tenth of the patterns' cost.
    suspects = pc.match_substring_regex(texts, "[?&;%@]").fill_null(False)
    if not pc.any(suspects).as_py():
        return texts
    cleaned = texts.filter(suspects)
    for pattern, replacement in patterns:
        cleaned = pc.replace_substring_regex(cleaned, pattern, replacement)
    return pc.replace_with_mask(texts, suspects, cleaned)


def _headers(lists: pa.Array, settings: config.Redact) -> pa.Array:
    if lists.null_count == len(lists) or not settings.headers:
        return lists
    pairs = lists.values
    names = pc.struct_field(pairs, "key")
    secret = pc.is_in(pc.utf8_lower(names), pa.array([name.lower() for name in settings.headers]))
    values = pc.struct_field(pairs, "value")
    values = pc.if_else(pc.and_(secret, pc.greater(pc.binary_length(values), 0)), MARK, values)
    fields = list(HEADERS.value_type)
    cleaned = pa.StructArray.from_arrays([names, values], fields=fields, mask=pairs.is_null())
    return pa.ListArray.from_arrays(lists.offsets, cleaned, type=HEADERS, mask=lists.is_null())


def _of_rest(rest: bytes, settings: config.Redact, patterns: tuple[tuple[str, str], ...]) -> bytes:
    """The same for fields of a flow that no column stores: a newer HTTP record is stored there whole."""
    flow = flow_pb2.Flow.FromString(rest)
    changed = False
    if flow.HasField("l7") and flow.l7.HasField("http"):
        http, wanted = flow.l7.http, {name.lower() for name in settings.headers}
        url = _replaced(http.url, patterns)
        changed |= url != http.url
        http.url = url
        for header in http.headers:
            if header.key.lower() in wanted and header.value:
                header.value, changed = MARK, True
    summary = _replaced(flow.Summary, patterns)
    if summary != flow.Summary:
        flow.Summary, changed = summary, True
    return flow.SerializeToString() if changed else rest


def _replaced(text: str, patterns: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text
