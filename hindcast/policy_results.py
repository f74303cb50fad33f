"""Results of policy test cases: as a table, JSON lines, JUnit XML, or SARIF for code hosts."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from pipelines.policy.cases import Case, Result

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(cases: Iterable[Case]) -> str:
    """One object a line for each probe: case, probe, ingress, egress, verdict, expected, pass, reason, rules."""
    rows = (_row(result) for case in cases for result in case.results)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _row(result: Result) -> dict[str, Any]:
    answer = result.answer
    return {
        "case": result.case,
        "probe": result.probe,
        "ingress": answer.ingress.verdict.value,
        "egress": answer.egress.verdict.value,
        "verdict": answer.verdict.value,
        "expected": str(result.expected),
        "pass": result.passed,
        "reason": answer.reason,
        "rules": [dataclasses.asdict(rule) for rule in answer.rules],
    }


def as_table(cases: Iterable[Case]) -> str:
    """A line for each probe, aligned; failures say what was expected."""
    lines = [("", "case", "probe", "connection", "verdict", "reason")]
    for case in cases:
        for result in case.results:
            found = result.answer
            verdict = found.verdict.value if result.passed else f"{found.verdict.value}, expected {result.expected}"
            lines.append(("ok" if result.passed else "FAIL", result.case, str(result.probe), _connection(result), verdict, found.reason))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[5]]).rstrip() + "\n" for line in lines
    )


def _connection(result: Result) -> str:
    connection = result.connection
    number = connection.port if connection.icmp_type is None else f"type {connection.icmp_type}"
    return f"{connection.source.name} -> {connection.destination.name} {connection.protocol}{'' if number is None else f' {number}'}"


def as_junit(cases: Iterable[Case]) -> str:
    """JUnit XML: a suite for each case, a test for each probe."""
    root = ElementTree.Element("testsuites", name="hindcast policy test")
    for case in cases:
        failed = sum(not result.passed for result in case.results)
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(case.name), tests=str(len(case.results)), failures=str(failed))
        for result in case.results:
            name = _xml(f"{result.probe}: {_connection(result)}")
            test = ElementTree.SubElement(suite, "testcase", classname=_xml(case.name), name=name, file=_xml(result.source))
            if not result.passed:
                message = f"expected {result.expected}, got {result.answer.verdict.value}"
                ElementTree.SubElement(test, "failure", message=_xml(message)).text = _xml(result.answer.reason)
    ElementTree.indent(root)
    text = io.StringIO()
    ElementTree.ElementTree(root).write(text, encoding="unicode", xml_declaration=True)
    return text.getvalue() + "\n"


def _xml(text: str) -> str:
    """A text without the characters that XML has no form for."""
    return _NOT_IN_XML.sub("\ufffd", text)


def as_sarif(cases: Iterable[Case]) -> str:
    """SARIF 2.1.0: one result for each probe that is not as expected, at its line where the file has lines."""
    results = [_finding(result) for case in cases for result in case.results if not result.passed]
    rule = {
        "id": "policy-probe",
        "shortDescription": {"text": "A connection is not judged as the test case expects"},
        "defaultConfiguration": {"level": "error"},
    }
    tool = {"driver": {"name": "hindcast policy test", "rules": [rule]}}
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _finding(result: Result) -> dict[str, Any]:
    text = f"{result.case}, probe {result.probe} ({_connection(result)}): expected {result.expected}, got {result.answer.verdict.value}"
    location: dict[str, Any] = {"artifactLocation": {"uri": result.source.replace("\\", "/")}}
    if result.line:
        location["region"] = {"startLine": result.line}
    return {
        "ruleId": "policy-probe",
        "level": "error",
        "message": {"text": f"{text}. {result.answer.reason}"},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"probe": f"{result.case}/{result.probe}"},
    }
