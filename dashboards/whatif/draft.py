"""A proposed policy as text: what it says, what is wrong with it and on which line, and its form in the address."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.policy.documents import UnreadableError, read_documents
from pipelines.policy.policy_set import READERS, compile_policies
from pipelines.policy.reading import Document

SOURCE = "policy"
"""What readers call the text."""
LONGEST_LINK = 4_000
"""Characters of a policy in the address; a longer one stays in the session, since browsers and proxies cut long addresses."""
LONGEST_TEXT = 400_000
_KEPT = "session:"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with the text."""

    line: int
    text: str
    is_error: bool = True
    """Whether the policy would not be enforced because of it."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a text says."""

    documents: tuple[Document, ...] = ()
    """Its policies, also those that would be refused."""
    problems: tuple[Problem, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether there is a policy, and nothing that keeps one from being enforced."""
        return bool(self.documents) and not any(problem.is_error for problem in self.problems)


def read(text: str, owns: Callable[[str], bool] = lambda _: True) -> Draft:
    """Read a text; `owns` says whether a namespace is the asker's, and with an empty name whether she sees a whole cluster."""
    try:
        found = read_documents(text, SOURCE)
    except UnreadableError as error:
        return Draft(problems=(Problem(line=error.line, text=error.text),))
    policies = tuple(document for document in found if document.kind in READERS)
    problems = [_no_policy(document) for document in found if document.kind not in READERS]
    problems += [
        Problem(line=one.line or 1, text=f"{one.path}: {one.reason} (the {one.by} would refuse it)")
        for one in compile_policies(policies).refusals
    ]
    problems += [problem for document in policies if (problem := _foreign(document, owns)) is not None]
    return Draft(documents=policies, problems=tuple(sorted(problems, key=lambda problem: problem.line)))


def _no_policy(document: Document) -> Problem:
    what = f"{document.kind!r} is no kind of network policy" if document.kind else "kind is missing"
    return Problem(line=document.line("kind") or 1, text=f"{what}: {', '.join(READERS)} are", is_error=not document.kind)


def _foreign(document: Document, owns: Callable[[str], bool]) -> Problem | None:
    namespace = (document.identity[1] or "default") if READERS[document.kind][1] else ""
    if owns(namespace):
        return None
    whose = f"namespace {namespace} is not yours" if namespace else f"a {document.kind} is for those who see a whole cluster"
    return Problem(line=document.line("metadata.namespace") or 1, text=f"{whose}: you can try policies of your own namespaces")


def encoded(text: str, kept: dict[str, str]) -> str:
    """Return a text's form in the address; one that is too long for it is put into `kept` under its hash."""
    packed = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(packed) <= LONGEST_LINK:
        return packed
    name = _KEPT + hashlib.sha256(text.encode()).hexdigest()[:16]
    kept[name] = text
    return name


def decoded(part: str, kept: dict[str, str]) -> str | None:
    """Return the text of a part of the address; None if it is damaged, or kept in a session that is not this one."""
    if part.startswith(_KEPT):
        return kept.get(part)
    try:
        packed = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(packed, LONGEST_TEXT)
        return text.decode() if reader.eof else None
    except (binascii.Error, zlib.error, UnicodeDecodeError, ValueError):
        return None


def is_kept(part: str) -> bool:
    """Whether a part of the address names a text that only a session has."""
    return part.startswith(_KEPT)
