"""Every page of the documents does what it shows; every link of them leads somewhere."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from pathlib import Path

import pytest
from key_tables import MARKED, PAGE, tables, written
from page_commands import blocks, follow, printed_by

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.cli.door import run
from codomyrmex.logistics.orchestration.project.workflow_file import load_text

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PYTHON = DOCS / "reference" / "python.md"
FOLLOWED = (
    "how-to/wait-for-people-and-events.md",
    "how-to/child-workflows.md",
    "how-to/fan-out.md",
    "how-to/limit-resources.md",
    "how-to/plan-a-run.md",
    "how-to/undo-and-clean-up.md",
    "how-to/use-secrets.md",
    "concepts/order-of-work.md",
    "concepts/workers.md",
    "reference/python.md",
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, without settings of the machine."""
    for name in [name for name in os.environ if name.startswith(("CODOMYRMEX", "XDG_"))]:
        monkeypatch.delenv(name)
    for name in ("FORCE_COLOR", "COLUMNS", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_shows_what_happens(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(DOCS / name, project, capsys) > 0


def test_the_example_of_the_readme_does_what_it_shows(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = project / "section.md"
    section.write_text(text.partition("## What a workflow can say")[2].partition("\n## ")[0])
    assert follow(section, project, capsys) == 1


def test_the_plans_of_the_readme_are_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init"]) == 0
    (block,) = [each for each in blocks(ROOT / "README.md") if "workflows plan" in each.text]
    lines = [shlex.split(line.removeprefix("$ "), comments=True) for line in block.text.splitlines()]
    assert [(words, run(words[1:])) for words in lines] == [(words, 0) for words in lines]
    assert "in the order of its plan" in capsys.readouterr().err


def test_the_squares_of_the_readme_run(project: Path) -> None:
    (program,) = [
        block.text for block in blocks(ROOT / "README.md") if block.kind == "python" and not block.title
    ]
    assert printed_by(program, project) == "True None 14\n"


def test_the_tables_of_keys_are_those_of_the_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "python tests/docs/key_tables.py writes them"
    assert {name for _, name, _ in MARKED.findall(page)} == set(tables())


def test_the_examples_of_the_workflow_file_are_whole() -> None:
    (example,) = [block.text for block in blocks(PAGE) if block.kind == "yaml"]
    assert load_text(example, file="nightly.yaml").document["name"] == "nightly"


@pytest.mark.parametrize(("title", "kind"), [("Build", Workflow), ("Run", OrchestrationEngine)])
def test_every_method_of_the_reference_is_there(title: str, kind: type) -> None:
    text = PYTHON.read_text(encoding="utf-8").partition(f"## {title}: ")[2].partition("\n## ")[0]
    for row in (line for line in text.splitlines() if line.startswith("| `")):
        for name, parameters in re.findall(r"`(?:Workflow\.)?(\w+)\(([^)`]*)\)`", row.split(" | ")[0]):
            told = [word.partition("=")[0].strip(" *") for word in parameters.split(",")]
            taken = inspect.signature(getattr(kind, name)).parameters
            assert set(filter(None, told)) - {"/"} <= set(taken), name
    shown = set(re.findall(r"[`(](\w+)\(", text)) | {"load", "parameters", "steps"}
    own = {name for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
    assert own - shown <= {"to_dict", "progress", "running"}


def pages() -> list[Path]:
    return [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]
    local = [link for link in links if link and "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    listed = {str((DOCS / link).resolve()) for link in LINK.findall(index)}
    assert [
        str(page)
        for page in sorted(DOCS.rglob("*.md"))
        if page.name != "README.md" and str(page) not in listed
    ] == []
