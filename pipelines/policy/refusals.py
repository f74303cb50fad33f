"""Policies that an API server or an agent refuses: what was wrong, where, and who says so. Pure.

A refused policy is not enforced. The reader of a kind raises `Refused` at the first fault, with the path of the field;
`Fields` gives readers typed access to a manifest and raises it for what has the wrong form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

API_SERVER = "API server"
AGENT = "Cilium agent"


class Refused(Exception):
    """Raised while a policy is read; the fault with its path.

    Attributes:
        path: the field, such as `spec.ingress[0].toPorts[0].ports[0].port`.
        reason: what is wrong with it.
        by: who refuses, `API server` or `Cilium agent`.
    """

    def __init__(self, path: str, reason: str, by: str = AGENT) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.by = by


@dataclass(frozen=True)
class Refusal:
    """A policy that is not enforced."""

    kind: str
    namespace: str
    name: str
    path: str
    reason: str
    by: str
    line: int | None = None
    source: str = ""

    def __str__(self) -> str:
        policy = f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
        where = f"{self.source}:{self.line}: " if self.source and self.line else ""
        return f"{where}{policy} would be refused by the {self.by}: {self.path}: {self.reason}"


@dataclass(frozen=True)
class Fields:
    """A mapping of a manifest and its path."""

    value: Mapping[str, Any]
    path: str

    def has(self, key: str) -> bool:
        """Whether the field is written and not null."""
        return self.value.get(key) is not None

    def mapping(self, key: str) -> Fields:
        """A field that is a mapping; an empty one when it is not written."""
        found = self.value.get(key)
        if found is None:
            found = {}
        if not isinstance(found, Mapping):
            raise Refused(f"{self.path}.{key}", f"must be a mapping, not {_described(found)}", API_SERVER)
        return Fields(found, f"{self.path}.{key}")

    def items(self, key: str) -> list[tuple[Any, str]] | None:
        """The items of a list with their paths, or None when the field is not written."""
        found = self.value.get(key)
        if found is None:
            return None
        if not isinstance(found, list):
            raise Refused(f"{self.path}.{key}", f"must be a list, not {_described(found)}", API_SERVER)
        return [(item, f"{self.path}.{key}[{index}]") for index, item in enumerate(found)]

    def mappings(self, key: str) -> list[Fields] | None:
        """The items of a list of mappings, or None when the field is not written."""
        items = self.items(key)
        if items is None:
            return None
        for item, path in items:
            if not isinstance(item, Mapping):
                raise Refused(path, f"must be a mapping, not {_described(item)}", API_SERVER)
        return [Fields(item, path) for item, path in items]

    def each(self, key: str) -> Iterator[Fields]:
        """The items of a list of mappings; none when it is not written."""
        yield from self.mappings(key) or []

    def texts(self, key: str) -> list[tuple[str, str]] | None:
        """The items of a list of texts with their paths, or None when the field is not written."""
        items = self.items(key)
        for item, path in items or []:
            if not isinstance(item, str):
                raise Refused(path, f"must be a text, not {_described(item)}", API_SERVER)
        return items

    def text(self, key: str) -> str:
        """A text; empty when it is not written."""
        found = self.value.get(key)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise Refused(f"{self.path}.{key}", f"must be a text, not {_described(found)}", API_SERVER)
        return found

    def integer(self, key: str) -> int | None:
        """A whole number, or None when it is not written."""
        found = self.value.get(key)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
            raise Refused(f"{self.path}.{key}", f"must be a whole number, not {_described(found)}", API_SERVER)
        return found

    def boolean(self, key: str) -> bool | None:
        """True or false, or None when it is not written."""
        found = self.value.get(key)
        if found is not None and not isinstance(found, bool):
            raise Refused(f"{self.path}.{key}", f"must be true or false, not {_described(found)}", API_SERVER)
        return found


_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SOURCE = re.compile(r"[A-Za-z0-9]+")


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name in lower case, as Kubernetes names objects."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None


def check_label_key(key: str, path: str, by: str, *, with_source: bool = False) -> None:
    """Refuse a label's key that is not `[prefix/]name`, with a source before it where that is allowed."""
    text = key
    if with_source and ":" in key:
        source, _, text = key.partition(":")
        if not _SOURCE.fullmatch(source) or ":" in text:
            raise Refused(path, f"label key {key!r}: what stands before the colon must be a source of letters and digits", by)
    prefix, slash, name = text.rpartition("/")
    if slash and not is_dns_name(prefix):
        raise Refused(path, f"label key {key!r}: {prefix!r} is not a DNS name in lower case", by)
    if not _NAME.fullmatch(name) or len(name) > 63:
        raise Refused(path, f"label key {key!r}: a name has 1 to 63 letters, digits, '-', '_' or '.', letters or digits at both ends", by)


def check_label_value(value: Any, path: str, by: str) -> None:
    """Refuse a label's value that Kubernetes does not take."""
    if not isinstance(value, str):
        raise Refused(path, f"a label's value must be a text, not {_described(value)}; write it in quotes", API_SERVER)
    if value and (not _NAME.fullmatch(value) or len(value) > 63):
        raise Refused(path, f"label value {value!r}: at most 63 letters, digits, '-', '_' or '.', letters or digits at both ends", by)


def check_selector(selector: Fields, by: str, *, with_source: bool = False) -> Mapping[str, Any]:
    """A label selector, refused unless its keys, operators and values are valid; returns it as it was written."""
    labels = selector.mapping("matchLabels")
    for key, value in labels.value.items():
        check_label_key(str(key), f"{labels.path}.{key}", by, with_source=with_source)
        check_label_value(value, f"{labels.path}.{key}", by)
    for one in selector.each("matchExpressions"):
        operator, values = one.text("operator"), one.texts("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                raise Refused(f"{one.path}.values", f"must be specified when the operator is {operator}", by)
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                raise Refused(f"{one.path}.values", f"may not be specified when the operator is {operator}", by)
        else:
            raise Refused(f"{one.path}.operator", f"{operator!r} is not one of In, NotIn, Exists, DoesNotExist", by)
        check_label_key(one.text("key"), f"{one.path}.key", by, with_source=with_source)
        for value, path in values:
            check_label_value(value, path, by)
    return selector.value


def _described(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a mapping"}
    return f"{names.get(type(value), 'another type')} ({str(value)[:40]!r})"
