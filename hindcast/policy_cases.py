"""`hindcast policy test`: tests policies against connections that should be allowed or denied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import messages
from hindcast.policy_files import files_of, read_policies, text_of, write_text
from pipelines.policy.settings import AgentSettings, Semantics, release_of
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.policy.cases import Case
    from pipelines.policy.reading import Document


class TestFormat(StrEnum):
    """How the results of test cases are printed."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"


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
    write_text(text, file)
    for case in cases:
        for refusal in case.unexpected_refusals:
            messages.print(f"{case.name}: {refusal}", markup=False, style="yellow")
    ignored = Counter(kind or "without a kind" for case in cases for kind in case.policies.ignored)
    for kind, count in sorted(ignored.items()):
        messages.print(f"{counted(count, 'document')} passed over, not a policy: {kind}", markup=False, style="dim")
    results = [result for case in cases for result in case.results]
    failed = sum(not result.passed for result in results)
    messages.print(f"{counted(len(results), 'probe')} in {counted(len(cases), 'case')}: {len(results) - failed} as expected, {failed} not")
    if failed:
        raise typer.Exit(1)


def _run(path: Path, settings: AgentSettings, shared: list[Document]) -> Iterator[Case]:
    from pipelines.policy.cases import CaseFile, run_file
    from pipelines.policy.documents import read_values

    for file in files_of(path):
        for value, lines in read_values(text_of(file), str(file)):
            if value is not None:
                load = _Loader(file.parent)
                yield from run_file(CaseFile(value, lines, str(file), tuple(shared), load), settings)


class _Loader:
    """Reads the policies that a test case file refers to, relative to its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, path: str) -> list[Document]:
        return read_policies(self._folder / path)
