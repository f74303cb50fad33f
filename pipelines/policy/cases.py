"""Test cases of policies: what runs between whom, and what is expected of each connection. Pure.

The format is described in docs/policy.md and docs/policy-cases.schema.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.policy.case_topology import SideReader, read_topology
from pipelines.policy.layer7 import DnsQuery, HttpRequest
from pipelines.policy.model import Connection
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.refusals import Fields, Refused
from pipelines.policy.settings import AgentSettings, Semantics, from_cilium_config, release_of
from pipelines.policy.verdict import Answer, judge
from warehouse.errors import ConfigError

VERDICTS = ("allowed", "denied", "uncertain", "n/a")
_PROTOCOLS = {"ICMP": "ICMPv4", "ICMPV4": "ICMPv4", "ICMPV6": "ICMPv6"}


@dataclass(frozen=True)
class Expected:
    """What a probe should give; an empty text where nothing is said."""

    ingress: str = ""
    egress: str = ""
    verdict: str = ""

    def agrees(self, answer: Answer) -> bool:
        """Whether an answer is as expected."""
        pairs = ((self.ingress, answer.ingress.verdict), (self.egress, answer.egress.verdict), (self.verdict, answer.verdict))
        return all(not wanted or wanted == found for wanted, found in pairs)

    def __str__(self) -> str:
        return self.verdict or ", ".join(f"{name} {value}" for name, value in (("ingress", self.ingress), ("egress", self.egress)) if value)


@dataclass(frozen=True)
class Result:
    """One probe and what came of it."""

    case: str
    probe: int
    """Position among the case's probes, from 0."""
    connection: Connection
    expected: Expected
    answer: Answer
    line: int | None = None
    source: str = ""

    @property
    def passed(self) -> bool:
        """Whether the answer is as expected."""
        return self.expected.agrees(self.answer)


@dataclass(frozen=True)
class Case:
    """Policies and the probes to try on them."""

    name: str
    policies: PolicySet
    results: tuple[Result, ...]
    unexpected_refusals: tuple[str, ...]
    """Policies that are refused although the case does not say so, and the other way round."""


@dataclass(frozen=True)
class CaseFile:
    """A file of test cases, read."""

    value: Any
    lines: Mapping[str, int]
    """Line of each path."""
    source: str
    """Its name, for messages."""
    shared: tuple[Document, ...] = ()
    """Policies that every case has, from other files."""
    load: Callable[[str], Sequence[Document]] | None = None
    """Reads the policies of a path in `policy_files`."""


def run_file(file: CaseFile, settings: AgentSettings) -> Iterator[Case]:
    """Run the cases of one file.

    Args:
        file: the file.
        settings: the agent's, which a file's or case's `settings` and `requires` change.

    Raises:
        ConfigError: the content is not in the format; the message names file, path and what to write.
    """
    try:
        whole = Fields(file.value if isinstance(file.value, Mapping) else {}, "")
        cases = whole.mappings("cases")
        if cases is None:
            if not whole.has("probes"):
                raise Refused("cases", "must be a list of test cases, each with policies and probes")
            cases = [whole]
        for index, case in enumerate(cases):
            yield _Runner(whole, case, index, file, settings).run()
    except Refused as refused:
        path = refused.path.removeprefix(".")
        line = Document({}, file.source, file.lines).line(path)
        raise ConfigError(f"{file.source}{f':{line}' if line else ''}: {path or 'the file'}: {refused.reason}") from refused


class _Runner:
    """Runs one case."""

    def __init__(self, whole: Fields, case: Fields, index: int, file: CaseFile, settings: AgentSettings) -> None:
        self._whole, self._case, self._file = whole, case, file
        self._name = case.text("name") or f"case-{index}"
        self._settings = _settings(whole, case, settings)

    def run(self) -> Case:
        topology = read_topology(self._whole, self._case)
        owners = [self._whole] if self._case is self._whole else [self._whole, self._case]
        documents = [*self._file.shared, *(document for owner in owners for document in self._documents(owner))]
        surroundings = Surroundings(cidr_groups={}, named_ports=topology.named_ports())
        policies = compile_policies(documents, self._settings, surroundings)
        sides = SideReader(topology, self._settings)
        results = [self._probe(policies, sides, probe, index) for index, probe in enumerate(self._case.mappings("probes") or [])]
        return Case(self._name, policies, tuple(results), self._unexpected(policies))

    def _documents(self, owner: Fields) -> Iterator[Document]:
        for item in owner.mappings("policies") or []:
            prefix = item.path.removeprefix(".")
            lines = {path[len(prefix) :].removeprefix("."): line for path, line in self._file.lines.items() if path.startswith(prefix)}
            yield Document(item.value, self._file.source, lines)
        for text, path in owner.texts("policy_files") or []:
            if self._file.load is None:
                raise Refused(path, "files cannot be read here")
            yield from self._file.load(text)

    def _unexpected(self, policies: PolicySet) -> tuple[str, ...]:
        known = {name for name, _ in self._case.texts("invalid_policies") or []}
        refused = {one.name for one in policies.refusals}
        found = [str(one) for one in policies.refusals if one.name not in known]
        found += [f"{name} is listed in invalid_policies, but nothing refuses it" for name in sorted(known - refused)]
        return tuple(found)

    def _probe(self, policies: PolicySet, sides: SideReader, probe: Fields, index: int) -> Result:
        source, destination = sides.read(probe)
        protocol = probe.text("protocol") or "TCP"
        port, icmp_type = probe.integer("port"), probe.integer("icmp_type")
        if port is not None and not 0 <= port <= 65535:
            raise Refused(f"{probe.path}.port", f"{port} is not between 0 and 65535")
        connection = Connection(source, destination, _PROTOCOLS.get(protocol.upper(), protocol.upper()), port, icmp_type, _request(probe))
        path = probe.path.removeprefix(".")
        expected, answer = _expected(probe, self._settings), judge(policies, connection)
        return Result(self._name, index, connection, expected, answer, self._file.lines.get(path), self._file.source)


def _settings(whole: Fields, case: Fields, base: AgentSettings) -> AgentSettings:
    """The agent's settings for a case: those of the file, then the case's own."""
    for owner in (whole, case):
        if owner.has("cilium_version"):
            base = replace(base, release=release_of(str(owner.value["cilium_version"])))
        for key in ("settings", "requires"):
            if owner.has(key):
                base = from_cilium_config(_options(owner, key), base)
    return base


def _options(owner: Fields, key: str) -> dict[str, str]:
    """Options as a mapping, or as texts `name=value` with or without dashes before them."""
    value = owner.value[key]
    if isinstance(value, Mapping):
        return {str(name): _option_text(option) for name, option in value.items()}
    texts = [value] if isinstance(value, str) else [text for text, _ in owner.texts(key) or []]
    pairs = (text.strip().lstrip("-").replace(": ", "=").partition("=") for text in texts)
    return {name.strip(): option.strip() or "true" for name, _, option in pairs}


def _option_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def _expected(probe: Fields, settings: AgentSettings) -> Expected:
    found = {key: probe.text(key) for key in ("ingress", "egress", "expected")}
    if settings.semantics is Semantics.CILIUM and probe.has("cilium"):
        other = probe.mapping("cilium")
        found.update({key: other.text(key) for key in found if other.has(key)})
    for key, value in found.items():
        if value and value not in VERDICTS:
            raise Refused(f"{probe.path}.{key}", f"{value!r} is not one of {', '.join(VERDICTS)}")
    if not any(found.values()):
        raise Refused(probe.path, "must say what is expected: expected, ingress or egress")
    return Expected(found["ingress"], found["egress"], found["expected"])


def _request(probe: Fields) -> HttpRequest | DnsQuery | None:
    if probe.has("http"):
        http = probe.mapping("http")
        headers = {str(name): str(value) for name, value in http.mapping("headers").value.items()} if http.has("headers") else None
        return HttpRequest(http.text("method") or "GET", http.text("path") or "/", http.text("host"), headers)
    if probe.has("dns"):
        return DnsQuery(probe.text("dns"))
    return None
