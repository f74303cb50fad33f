"""`hindcast policy`: evaluates what network policies allow and deny, and why."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import messages
from pipelines.policy.settings import AgentSettings, Semantics, release_of
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.policy.cases import Case
    from pipelines.policy.reading import Document

policy = typer.Typer(no_args_is_help=True, help="Evaluate network policies: what they allow and deny, by which rule, and why.")

_SUFFIXES = (".yaml", ".yml", ".json")


class TestFormat(StrEnum):
    """How the results of test cases are printed."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"


@policy.callback()
def _commands() -> None:
    """Evaluate network policies: what they allow and deny, by which rule, and why."""


@policy.command("test", epilog="Example: hindcast policy test tests/policies.yaml --output junit --file results.xml")
def test(
    files: Annotated[list[Path], typer.Argument(help="Files or folders of test cases; docs/policy.md describes the format.")],
    policies: Annotated[
        list[Path] | None, typer.Option("--policies", help="File or folder of policies that are added to every case.")
    ] = None,
    semantics: Annotated[
        Semantics, typer.Option(help="How to interpret a NetworkPolicy: as Cilium enforces it, or as Kubernetes specifies it.")
    ] = Semantics.CILIUM,
    cilium_version: Annotated[str, typer.Option("--cilium-version", help="The agent's version, such as 1.19.6.")] = "1.20",
    output: Annotated[TestFormat, typer.Option("--output", "-o", help="Output format.")] = TestFormat.TABLE,
    file: Annotated[Path | None, typer.Option("--file", help="File to write to instead of standard output.")] = None,
) -> None:
    """Test policies against connections that should be allowed or denied. Exit code 1 if a probe has another result."""
    from hindcast import policy_results

    settings = AgentSettings(semantics=semantics, release=release_of(cilium_version))
    shared = [document for path in policies or [] for document in read_policies(path)]
    cases = [case for path in files for case in _run(path, settings, shared)]
    if not any(case.results for case in cases):
        raise ConfigError(f"{', '.join(map(str, files))}: there is no probe, so nothing was tested")
    text = {
        TestFormat.TABLE: policy_results.as_table,
        TestFormat.JSON: policy_results.as_json,
        TestFormat.JUNIT: policy_results.as_junit,
        TestFormat.SARIF: policy_results.as_sarif,
    }[output](cases)
    _write(text, file)
    for case in cases:
        for refusal in case.unexpected_refusals:
            messages.print(f"{case.name}: {refusal}", markup=False, style="yellow")
    ignored = Counter(kind or "without a kind" for case in cases for kind in case.policies.ignored)
    for kind, count in sorted(ignored.items()):
        messages.print(f"{count} documents that are not policies were passed over: {kind}", markup=False, style="dim")
    results = [result for case in cases for result in case.results]
    failed = sum(not result.passed for result in results)
    messages.print(f"{len(results)} probes in {len(cases)} cases: {len(results) - failed} as expected, {failed} not")
    if failed:
        raise typer.Exit(1)


def _run(path: Path, settings: AgentSettings, shared: list[Document]) -> Iterator[Case]:
    from pipelines.policy.cases import CaseFile, run_file
    from pipelines.policy.documents import read_values

    for file in _files_of(path):
        for value, lines in read_values(_text_of(file), str(file)):
            if value is not None:
                load = _Loader(file.parent)
                yield from run_file(CaseFile(value, lines, str(file), tuple(shared), load), settings)


class _Loader:
    """Reads the policies that a test case file refers to, relative to its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, path: str) -> list[Document]:
        return read_policies(self._folder / path)


def read_policies(path: Path) -> list[Document]:
    """Return the manifests in a file, or in all YAML and JSON files below a folder.

    In a folder, Helm templates and files without manifests are skipped; a message counts them.

    Raises:
        ConfigError: nothing can be read there, or a file is neither YAML nor JSON.
    """
    from pipelines.policy.documents import read_documents

    if not path.is_dir():
        return read_documents(_text_of(path), str(path))
    found: list[Document] = []
    passed_over: Counter[str] = Counter()
    for file in _files_of(path):
        text = _text_of(file)
        try:
            found.extend(read_documents(text, str(file)))
        except ConfigError:
            if "{{" in text:
                passed_over["templates of Helm, which must be rendered first"] += 1
            elif not _mentions_a_kind(text):
                passed_over["files without manifests"] += 1
            else:
                raise
    for what, count in passed_over.items():
        messages.print(f"{path}: passed over {count} {what}", markup=False, style="yellow")
    return found


def _mentions_a_kind(text: str) -> bool:
    return any(line.startswith(("kind:", '"kind"', "{")) for line in text.splitlines())


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
    if not found:
        raise ConfigError(f"{path}: the folder has no {', '.join(_SUFFIXES)} file")
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error


def _write(text: str, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--file {file}: cannot be written: {error.strerror}") from error
