"""The small languages of filter values: addresses, `namespace/prefix`, label selectors, name patterns, ports.

Each function parses one value of a filter and returns its test; an invalid value raises ValueError.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any

import re2

from collectors.hubble_api.flow import flow_pb2

LARGEST_PORT = 65_535
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")
LABEL_TERM = re.compile(
    r"\s*(?P<no>!)?\s*(?P<key>[\w.:/-]+?)"
    r"(?:\s*(?P<op>==|!=|=)\s*(?P<value>[\w.-]*)|\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*(?:,|$)"
)
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"[-.0-9a-zA-Z_*]+")
_NODE = re.compile(r"[-.0-9a-zA-Z_*/]+")


def address(value: str) -> Callable[[str], bool]:
    """One address, or a CIDR."""
    network = ipaddress.ip_network(value, strict=False)

    def test(found: str) -> bool:
        return bool(found) and ipaddress.ip_address(found) in network

    return test


def namespace_and_prefix(value: str) -> tuple[str, str]:
    """Return the namespace and the beginning of the name that `namespace/prefix` asks for, as Hubble reads it.

    Without a slash, the namespace is "default"; an empty part matches anything, and what follows a second slash is ignored. Raises
    ValueError if the value is empty.
    """
    if not value:
        raise ValueError("an empty value")
    parts = value.split("/")
    return ("default", value) if len(parts) == 1 else (parts[0], parts[1])


def namespaced_prefix(value: str) -> Callable[[tuple[str, str]], bool]:
    """Return a test of a namespace and a name by `namespace/prefix`; it never holds for an end that has neither."""
    namespace, prefix = namespace_and_prefix(value)

    def test(found: tuple[str, str]) -> bool:
        return bool(found[0] or found[1]) and namespace in ("", found[0]) and found[1].startswith(prefix)

    return test


def fqdn(value: str) -> Callable[[Iterable[str]], bool]:
    """A host name in which `*` matches any sequence of characters."""
    if not _HOST.fullmatch(value):
        raise ValueError(f"{value!r} is not a host name or a pattern of one")
    pattern = _starred(value.lower().rstrip("."), "[-.0-9a-z_]*")
    return lambda names: any(pattern.fullmatch(name.lower().rstrip(".")) for name in names)


def node_name(value: str) -> Callable[[str], bool]:
    """`cluster/node` with `*`; without a slash, that node in any cluster; `cluster/` is the whole cluster."""
    cluster, slash, node = value.rpartition("/")
    if not _NODE.fullmatch(value) or "/" in cluster:
        raise ValueError(f"{value!r} is not cluster/node")
    pattern = _starred(f"{cluster if slash and cluster else '*'}/{node or '*'}", "[-.0-9A-Za-z_]*")
    return lambda name: bool(name) and pattern.fullmatch(name if "/" in name else f"default/{name}") is not None


def expression(value: str) -> Any:
    """Return a regular expression as Go and Cilium read it, whose matching takes time linear in the text, whatever the expression.

    The patterns are strangers': with a backtracking engine one of them could occupy the process.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(value, options)
    except re2.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from error


def _starred(value: str, run: str) -> Any:
    return expression(run.join(re.escape(part) for part in value.split("*")))


def selector(value: str) -> Callable[[Iterable[str]], bool]:
    """Comma-separated `key`, `!key`, `key=value`, `key!=value`, `key in (a, b)`, `key notin (a, b)`; empty matches everything.

    A key without a source (`k8s:`) matches any source.
    """
    terms: list[tuple[str, frozenset[str] | None, bool]] = []
    place = 0
    while place < len(value.rstrip()):
        read = LABEL_TERM.match(value, place)
        if read is None or (read["no"] and (read["op"] or read["set"])):
            raise ValueError(f"label selector {value[place:].strip()!r} is not supported by this node")
        key = read["key"]
        if not _LABEL_KEY.fullmatch(key.replace(":", ".") if ":" in key else f"any.{key}"):
            raise ValueError(f"label selector {value!r}: {key!r} is not the key of a label")
        wanted = None
        if read["op"]:
            wanted = frozenset({read["value"]})
        elif read["set"]:
            wanted = frozenset(part.strip() for part in read["values"].split(","))
        terms.append((key, wanted, not read["no"] and read["op"] != "!=" and read["set"] != "notin"))
        place = read.end()
    if value.rstrip().endswith(","):
        raise ValueError(f"label selector {value!r} ends with a comma")

    def test(labels: Iterable[str]) -> bool:
        by_key: dict[str, str] = {}
        for label in labels:
            key, _, content = label.partition("=")
            by_key[key] = content
            by_key.setdefault(key.partition(":")[2] or key, content)
        return all((key in by_key and (wanted is None or by_key[key] in wanted)) == positive for key, wanted, positive in terms)

    return test


def given(value: str) -> Callable[[str], bool]:
    """A value that is not empty."""
    if not value:
        raise ValueError("an empty value")
    return lambda found: found == value


def workload(value: flow_pb2.Workload) -> Callable[[Iterable[flow_pb2.Workload]], bool]:
    """A workload by name, kind, or both."""
    return lambda found: any(value.name in ("", each.name) and value.kind in ("", each.kind) for each in found)


def port(value: str) -> Callable[[int | None], bool]:
    """A port number."""
    if not value.isdecimal() or int(value) > LARGEST_PORT:
        raise ValueError(f"{value!r} is not a port")
    wanted = int(value)
    return lambda found: found == wanted


def port_of(flow: flow_pb2.Flow, side: str) -> int | None:
    """Return the port of one side, where the protocol has ports."""
    which = flow.l4.WhichOneof("protocol")
    if which not in ("TCP", "UDP", "SCTP"):
        return None
    found: int = getattr(getattr(flow.l4, which), f"{side}_port")
    return found


def protocol(value: str) -> Callable[[flow_pb2.Flow], bool]:
    """A protocol of layer 4 or layer 7, in any case; `icmp` matches both versions."""
    wanted = value.lower()
    if wanted not in ("tcp", "udp", "sctp", "icmp", "icmpv4", "icmpv6", "vrrp", "igmp", "dns", "http", "kafka"):
        raise ValueError(f"unrecognized protocol {value!r}")

    def test(flow: flow_pb2.Flow) -> bool:
        four = (flow.l4.WhichOneof("protocol") or "").lower()
        return wanted in (four, flow.l7.WhichOneof("record")) or (wanted == "icmp" and four.startswith("icmp"))

    return test


def status_code(value: str) -> Callable[[flow_pb2.HTTP], bool]:
    """`404`, or a prefix such as `4+`."""
    if not re.fullmatch(r"[1-5][0-9]{2}|[1-5][0-9]?\+", value):
        raise ValueError(f"{value!r} is not an HTTP status code or prefix")
    if value.endswith("+"):
        return lambda http: len(str(http.code)) == 3 and str(http.code).startswith(value[:-1])
    return lambda http: http.code == int(value)


def tcp_flags(value: flow_pb2.TCPFlags) -> Callable[[flow_pb2.Flow], bool]:
    """Every requested flag must be set; other flags may be set too."""
    wanted = [name for name in TCP_FLAGS if getattr(value, name)]
    return lambda flow: flow.l4.HasField("TCP") and all(getattr(flow.l4.TCP.flags, name) for name in wanted)
