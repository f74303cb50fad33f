"""The request that a flow carries, as rules for requests judge it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipelines.policy.layer7 import DnsQuery, HttpRequest


def request_of(row: Mapping[str, Any], *, all_headers: bool = True) -> HttpRequest | DnsQuery | None:
    """Return the request of a row of flows; without `all_headers`, others than those recorded may have been sent."""
    if row["l7_http_method"] and row["l7_http_url"]:
        url = urlsplit(row["l7_http_url"])
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {one["key"]: one["value"] for one in row["l7_http_headers"] or ()}
        return HttpRequest(row["l7_http_method"], path, url.hostname or "", headers or None, all_headers=all_headers)
    return DnsQuery(row["l7_dns_query"].rstrip(".")) if row["l7_dns_query"] else None
