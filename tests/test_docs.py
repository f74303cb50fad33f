"""The pages under docs/ say what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from warehouse.config import Config, parse_config
from warehouse.schema import TABLES, Table, tables_doc

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of every key of the file; items of a list are written `clusters[].name`."""
    for name, field in model.model_fields.items():
        yield prefix + name
        below = f"{prefix}{name}[]." if get_origin(field.annotation) is tuple else f"{prefix}{name}."
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys(part, below)


def test_the_tables_page_is_what_its_generator_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "warehouse.schema.tables_doc"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == printed, "run `make docs`"


@pytest.mark.parametrize("table", list(TABLES.values()), ids=list(TABLES))
def test_every_column_has_one_row_in_the_tables_page(table: Table) -> None:
    section = tables_doc.page().split(f"## {table.name}\n")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert [row[0].strip(" `") for row in rows] == [column.name for column in table.columns]
    assert {len(row) for row in rows} == {5}


@pytest.mark.parametrize("key", list(keys(Config)))
def test_every_key_of_the_configuration_has_a_row_in_its_page(key: str) -> None:
    assert f"| `{key}` |" in CONFIGURATION


def test_the_configuration_page_names_no_key_that_does_not_exist() -> None:
    assert set(re.findall(r"^\| `([^`]+)` \|", CONFIGURATION, re.MULTILINE)) <= set(keys(Config))


def test_the_example_of_the_configuration_page_is_valid() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", CONFIGURATION, re.DOTALL)
    assert len(parse_config(example, source=ROOT / "hindcast.yaml").clusters) == 2


@pytest.mark.parametrize(
    "page",
    ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))],
)
def test_links_within_the_tree_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


def test_every_target_that_pages_name_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"^make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
        assert named
        assert named <= targets


def test_every_command_the_readme_shows_is_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.venv/bin/hindcast ([a-z]+)", text, re.MULTILINE))
    listed = subprocess.run([sys.executable, "-m", "hindcast", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert named
    assert not [name for name in named if not re.search(rf"^│ {name} ", listed, re.MULTILINE)]
