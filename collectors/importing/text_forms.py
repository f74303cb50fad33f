"""Recognises text that is not Hubble's JSON: what it looks like, and the command that would make it readable."""

from __future__ import annotations

import re

INCOMPLETE_JSON = "not JSON: it ends in the middle of a value"
"""The reason for text that begins like JSON and has no other known format."""
_AGAIN = "which leaves out most of a flow; write the flows again with: hubble observe -o jsonpb > FILE"
_VERDICTS = r"(?:FORWARDED|DROPPED|ERROR|AUDIT|REDIRECTED|TRACED|TRANSLATED)"
_FORMS = (
    (re.compile(rf"^(?:\x1b\[[\d;]*m)*\S.* (?:->|<-|<>|<->) .*\b{_VERDICTS}\b"), f"output of `hubble observe -o compact`, {_AGAIN}"),
    (
        re.compile(r"^\s*(?:TIMESTAMP|NODE|SOURCE|DESTINATION|TYPE|VERDICT|SUMMARY):\s|^-{8,}$"),
        f"output of `hubble observe -o dict`, {_AGAIN}",
    ),
    (
        re.compile(rf"^TIMESTAMP\s+.*\bSOURCE\s+DESTINATION\b|^\w{{3}} +\d+ \d\d:\d\d:\d\d.*\s{_VERDICTS}\s"),
        f"output of `hubble observe -o tab`, {_AGAIN}",
    ),
    (
        re.compile(r"^\s*[{\[]\s*[{']*'\w+':"),
        "Python's notation of a dict; turn it into JSON with: "
        "python3 -c 'import ast,json,sys; [print(json.dumps(ast.literal_eval(l))) for l in sys.stdin]' < FILE",
    ),
    (re.compile(r"^(?:---\s*$|-?\s*flow:\s*$)"), "YAML; turn it into JSON lines with: yq -o json -I 0 FILE"),
    (re.compile(r"^\s*<[?!a-zA-Z]"), "XML or HTML"),
    (re.compile(r'^(?:\S+=(?:"(?:[^"\\]|\\.)*"|\S*)\s+){2}'), "a line of logfmt without a whole flow in msg, message, log or line"),
    (re.compile(r"^[a-z_]+ *\{ *$|^[a-z_]+: *\{? *$"), "protobuf's text format or YAML"),
)
_LOGFMT = re.compile(r'(?:^|\s)(?:msg|message|log|line)=("(?:[^"\\]|\\.)*")')


def describe(text: str) -> str:
    """Return why a line that is not JSON is not read: what it looks like and what to do, without any of its content."""
    start = text[:2000]
    for pattern, what in _FORMS:
        if pattern.search(start):
            return f"not JSON: {what}"
    if start.lstrip().startswith(("{", "[")):
        return INCOMPLETE_JSON
    return "not JSON: expected one flow per line, as `hubble observe -o jsonpb` and Hubble's exporters write"


def message_of_logfmt(text: str) -> str | None:
    """Return the quoted message of a logfmt line (`level=info msg="..."`), still quoted; None if it has none."""
    found = _LOGFMT.search(text)
    return found[1] if found else None
