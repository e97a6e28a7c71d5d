"""Every page of the documents does what it shows; every link of them leads somewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from page_commands import follow

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLLOWED = (
    "how-to/wait-for-people-and-events.md",
    "how-to/child-workflows.md",
    "how-to/fan-out.md",
    "how-to/undo-and-clean-up.md",
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
