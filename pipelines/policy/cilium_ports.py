"""The ports of a Cilium rule: toPorts with HTTP and DNS rules, and icmps. Pure."""

from __future__ import annotations

import re
from typing import Any

from pipelines.policy.cilium_peers import check_name_selector
from pipelines.policy.icmp_types import icmp_type_number
from pipelines.policy.layer7 import DnsRule, Layer7, read_http
from pipelines.policy.model import Direction
from pipelines.policy.ports import ICMP, TRANSPORTS, PortMatch, is_service_name, number_of
from pipelines.policy.reading import Reading
from pipelines.policy.refusals import AGENT, API_SERVER, Fields, Refused

MOST_PORTS = 40
_NOT_IN_RE2 = re.compile(r"\(\?(=|!|<=|<!|>)|\\[1-9]")
_WITHOUT_PORTS = frozenset({"VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"})
_OLD_RULES = ("kafka", "l7proto", "l7")
_PORT_FORM = re.compile(r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}).*|.*[a-zA-Z].*")


def read_icmps(item: Fields) -> list[PortMatch] | None:
    """The ICMP types of a rule; None when it names none.

    Raises:
        Refused: too many types, a family that does not exist, or a type that the family does not have.
    """
    entries = item.mappings("icmps")
    if not entries:
        return None
    found = []
    for entry in entries:
        fields = entry.mappings("fields") or []
        if len(fields) > MOST_PORTS:
            raise Refused(f"{entry.path}.fields", f"has {len(fields)} types; at most {MOST_PORTS} are allowed", API_SERVER)
        for one in fields:
            family = one.text("family") or "IPv4"
            if family not in ICMP:
                raise Refused(f"{one.path}.family", f"{family!r} is not one of IPv4, IPv6", API_SERVER)
            if not one.has("type"):
                raise Refused(f"{one.path}.type", "must be specified", API_SERVER)
            number = icmp_type_number(one.value["type"], family)
            if number is None:
                raise Refused(f"{one.path}.type", f"{one.value['type']!r} is not an ICMP type of {family}")
            found.append(PortMatch(ICMP[family], number, number))
    return found


def read_ports(reading: Reading, item: Fields, direction: Direction, selects_nodes: bool, *, allows: bool) -> list[PortMatch] | None:
    """The ports of a rule; None when it names none, so that every port and protocol is meant.

    Raises:
        Refused: the API server or the agent would not take them.
    """
    entries = item.mappings("toPorts")
    if not entries:
        return None
    found: list[PortMatch] = []
    for entry in entries:
        ports = entry.mappings("ports") or []
        if len(ports) > MOST_PORTS:
            raise Refused(f"{entry.path}.ports", f"has {len(ports)} ports; at most {MOST_PORTS} are allowed")
        rules = entry.mapping("rules") if allows else Fields({}, "")
        _check_layer7(reading, entry, rules, direction, selects_nodes)
        layer7 = _layer7(reading, entry, rules) if allows else None
        for port in ports:
            found.extend(_read_port(reading, port, rules, layer7))
    return found


def _read_port(reading: Reading, port: Fields, rules: Fields, layer7: Layer7 | None) -> list[PortMatch]:
    protocol = port.text("protocol").upper() or "ANY"
    if protocol not in reading.settings.release.protocols or port.value.get("protocol") == "":
        known = ", ".join(sorted(reading.settings.release.protocols))
        raise Refused(f"{port.path}.protocol", f"{port.text('protocol')!r} is not one of {known}", API_SERVER)
    text, end = port.text("port"), port.integer("endPort") or 0
    if not text and not reading.settings.enable_extended_ip_protocols:
        raise Refused(f"{port.path}.port", "must be specified")
    if not 0 <= end <= 65535:
        raise Refused(f"{port.path}.endPort", f"{end} is not between 0 and 65535", API_SERVER)
    if (rules.items("http") or any(rules.has(key) for key in _OLD_RULES)) and protocol != "TCP":
        raise Refused(f"{port.path}.protocol", f"HTTP rules need protocol TCP, not {protocol}")
    protocols = TRANSPORTS if protocol == "ANY" else (protocol,)
    if is_service_name(text) and text:
        return [PortMatch(one, name=text.lower(), layer7=layer7) for one in protocols]
    if protocol in _WITHOUT_PORTS and text not in ("", "0"):
        raise Refused(f"{port.path}.port", f"must be empty or 0, because {protocol} has no ports")
    first = _number(text or "0", f"{port.path}.port")
    if rules.items("dns") and end > first:
        raise Refused(f"{port.path}.endPort", "DNS rules do not take port ranges")
    if first == 0:
        if rules.items("http") or rules.items("dns"):
            raise Refused(f"{port.path}.port", "rules for HTTP and DNS need a port other than 0")
        return [PortMatch(one, layer7=layer7) for one in protocols]
    return [PortMatch(one, first, max(first, end), layer7=layer7) for one in protocols]


def _number(text: str, path: str) -> int:
    try:
        return number_of(text)
    except ValueError as error:
        raise Refused(path, str(error), AGENT if _PORT_FORM.fullmatch(text) else API_SERVER) from None


def _check_layer7(reading: Reading, entry: Fields, rules: Fields, direction: Direction, selects_nodes: bool) -> None:
    old = [key for key in _OLD_RULES if rules.has(key)]
    if old and reading.settings.release.http_and_dns_only:
        raise Refused(f"{rules.path}.{old[0]}", "is not supported since Cilium 1.20", API_SERVER)
    kinds = [key for key in ("http", "dns", "kafka", "l7proto") if rules.has(key)]
    if len(kinds) > 1:
        raise Refused(rules.path, f"may hold only one of {' and '.join(kinds)}", API_SERVER)
    if entry.has("rules") and rules.path and not kinds:
        raise Refused(rules.path, "must hold http or dns", API_SERVER)
    written = bool(rules.items("http") or rules.items("dns") or old)
    if written and not reading.settings.enable_l7_proxy:
        raise Refused(rules.path, "needs the agent's option enable-l7-proxy")
    if rules.items("dns") and not entry.items("ports"):
        raise Refused(f"{entry.path}.ports", "DNS rules need port 53 to be specified")
    if rules.items("dns") and direction is Direction.INGRESS:
        raise Refused(f"{rules.path}.dns", "DNS rules are not allowed on ingress")
    if rules.items("http") and selects_nodes:
        raise Refused(f"{rules.path}.http", "HTTP rules are not supported for nodes")
    if entry.has("listener") and direction is Direction.INGRESS:
        raise Refused(f"{entry.path}.listener", "is not allowed on ingress")
    if entry.has("listener") and written:
        raise Refused(f"{entry.path}.listener", "may not be combined with rules")
    names = entry.texts("serverNames")
    if names and written and not entry.has("terminatingTLS"):
        raise Refused(f"{entry.path}.serverNames", "may be combined with rules only where terminatingTLS is specified")
    if names and any(not name for name, _ in names):
        raise Refused(f"{entry.path}.serverNames", "an empty server name is not allowed")


def _layer7(reading: Reading, entry: Fields, rules: Fields) -> Layer7 | None:
    http = []
    for one in rules.each("http"):
        for key in ("path", "method"):
            _check_expression(one, key)
        for header in one.each("headerMatches"):
            if not header.text("name"):
                raise Refused(f"{header.path}.name", "must be specified", API_SERVER)
        http.append(read_http(one.value))
    dns = []
    for one in rules.each("dns"):
        check_name_selector(one)
        text = one.text("matchName") or one.text("matchPattern")
        dns.append(DnsRule(text, reading.settings.release.multi_label_wildcard))
    other = [key for key in ("kafka", "l7proto") if rules.has(key)]
    other += [key for key in ("serverNames", "listener", "terminatingTLS", "originatingTLS") if entry.has(key)]
    return Layer7(tuple(http), tuple(dns), tuple(other)) if http or dns or other else None


def _check_expression(rule: Fields, key: str) -> None:
    text: Any = rule.text(key)
    if _NOT_IN_RE2.search(text):
        raise Refused(f"{rule.path}.{key}", f"{text!r} uses look-around or back-references, which RE2 does not have")
    try:
        re.compile(text)
    except re.error as error:
        raise Refused(f"{rule.path}.{key}", f"{text!r} is not a regular expression: {error}") from None
