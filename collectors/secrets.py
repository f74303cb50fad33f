"""Secrets that flows carry are taken out before they are stored: values of headers, user info and parameters of URLs.

It works on the columns of `flows` and on what `rest` holds of them. The marks that stay say that there was something.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping

import pyarrow as pa
import pyarrow.compute as pc

from collectors.hubble_api.flow import flow_pb2
from warehouse import config
from warehouse.schema import HEADERS

MARK = "REDACTED"


def take_out(columns: MutableMapping[str, pa.Array], settings: config.Redact) -> None:
    """Take the secrets out of the columns of `flows`, in place."""
    patterns = _patterns(settings)
    for name in ("l7_http_url", "summary"):
        columns[name] = _without(columns[name], patterns)
    columns["l7_http_headers"] = _headers(columns["l7_http_headers"], settings)
    if columns["rest"].null_count < len(columns["rest"]):
        rests = columns["rest"].to_pylist()
        columns["rest"] = pa.array([rest and _of_rest(rest, settings, patterns) for rest in rests], pa.binary())


def _patterns(settings: config.Redact) -> list[tuple[str, str]]:
    """What to replace in texts that hold a URL, and with what (RE2, which re reads too)."""
    found = []
    if settings.url_user_info:
        found.append((r"(://)[^/?#@\s]+@", rf"\1{MARK}@"))
    if settings.url_query:
        found.append((r"\?[^#\s]+", f"?{MARK}"))
    elif settings.url_parameters:
        names = "|".join(map(re.escape, settings.url_parameters))
        found.append((rf"(?i)([?&;](?:{names})=)[^&;#\s]+", rf"\1{MARK}"))
    return found


def _without(texts: pa.Array, patterns: list[tuple[str, str]]) -> pa.Array:
    if texts.null_count == len(texts):
        return texts
    for pattern, replacement in patterns:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _headers(lists: pa.Array, settings: config.Redact) -> pa.Array:
    if lists.null_count == len(lists) or not settings.headers:
        return lists
    pairs = lists.values
    names = pc.struct_field(pairs, "key")
    secret = pc.is_in(pc.utf8_lower(names), pa.array([name.lower() for name in settings.headers]))
    values = pc.struct_field(pairs, "value")
    values = pc.if_else(pc.and_(secret, pc.greater(pc.binary_length(values), 0)), MARK, values)
    fields = list(HEADERS.value_type)
    kept = pa.StructArray.from_arrays([names, values], fields=fields, mask=pairs.is_null())
    return pa.ListArray.from_arrays(lists.offsets, kept, type=HEADERS, mask=lists.is_null())


def _of_rest(rest: bytes, settings: config.Redact, patterns: list[tuple[str, str]]) -> bytes:
    """The same for fields of a flow that no column holds: a newer HTTP record is kept there whole."""
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


def _replaced(text: str, patterns: list[tuple[str, str]]) -> str:
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text
