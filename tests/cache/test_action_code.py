"""Fingerprints of actions: which edits change them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.action_code import ActionCode, python_version
from codomyrmex.logistics.orchestration.project.file_hashes import FileHashes

FILES = {
    "acts.py": "import json\nimport pkg.deep\nfrom pkg import near\ndef act():\n    import late\n    return 1\n",
    "late.py": "import later\n",
    "later.py": "import acts\n",
    "other.py": "x = 1\n",
    "pkg/__init__.py": "",
    "pkg/near.py": "from .side import thing\nfrom . import far\n",
    "pkg/side.py": "thing = 1\n",
    "pkg/far.py": "",
    "pkg/deep/__init__.py": "from ..side import thing\n",
    "pkg/deep/unused.py": "",
}
LED_TO = {
    "acts.py", "late.py", "later.py", "pkg/__init__.py", "pkg/near.py", "pkg/side.py", "pkg/far.py",
    "pkg/deep/__init__.py",
}  # fmt: skip


@pytest.fixture
def code_of(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    codes = ActionCode(FileHashes())

    def code(module: str = "acts", action: str = "act", function: Any = None) -> dict[str, Any]:
        root = str(tmp_path)
        return codes.of(module, action, function=function, roots=(root,), root=root, python=sys.executable)

    return code


def test_project_code_is_its_file_and_all_that_it_imports_of_the_project(code_of) -> None:
    assert set(code_of()["files"]) == LED_TO
    assert code_of("./acts.py") == code_of()


@pytest.mark.parametrize("name", sorted(LED_TO))
def test_an_edit_of_any_of_them_changes_the_fingerprint(code_of, tmp_path: Path, name: str) -> None:
    before = code_of()
    (tmp_path / name).write_text(FILES[name] + "# edited\n")
    after = code_of()
    assert {path for path in after["files"] if after["files"][path] != before["files"][path]} == {name}


def test_an_edit_of_another_file_changes_nothing(code_of, tmp_path: Path) -> None:
    before = code_of()
    (tmp_path / "other.py").write_text("x = 2\n")
    (tmp_path / "pkg/deep/unused.py").write_text("y = 2\n")
    assert code_of() == before


def test_a_new_import_is_seen_and_so_is_a_file_that_was_not_there(code_of, tmp_path: Path) -> None:
    (tmp_path / "acts.py").write_text("import other\nimport missing\n")
    assert set(code_of()["files"]) == {"acts.py", "other.py"}
    (tmp_path / "missing.py").write_text("")
    assert set(code_of()["files"]) == {"acts.py", "other.py", "missing.py"}


def test_a_file_that_does_not_parse_counts_with_its_text(code_of, tmp_path: Path) -> None:
    (tmp_path / "acts.py").write_text("def act(:\n")
    assert set(code_of()["files"]) == {"acts.py"}


@pytest.mark.parametrize(
    "decorator",
    ['action(version="2")', 'codomyrmex.action(version="2", effects="pure")', "x.action(version=2)"],
)
def test_a_declared_version_counts_alone(code_of, tmp_path: Path, decorator: str) -> None:
    (tmp_path / "acts.py").write_text(f"@{decorator}\ndef act():\n    return 1\n")
    assert code_of() == {"version": "2"}
    (tmp_path / "acts.py").write_text(f"@{decorator}\ndef act():\n    return 2\n")
    assert code_of() == {"version": "2"}


def test_code_that_is_not_of_the_project_goes_by_its_version(code_of) -> None:
    assert code_of("shell", "run")["package"].startswith("codomyrmex ")
    assert code_of("json", "dumps") == {"package": "the standard library"}
    assert code_of("yaml", "safe_load")["package"].startswith("PyYAML ")
    assert "no known version" in code_of("nowhere", "act")["package"]


def test_functions_of_one_text_that_hold_other_values_differ(code_of) -> None:
    def make(n: Any) -> Callable[[], Any]:
        return lambda: n

    one, other, same = (code_of("__main__", "make.<locals>.<lambda>", make(n)) for n in (1, 2, 1))
    assert one != other
    assert one == same
    with pytest.raises(ValueError, match=r"holds .*version"):
        code_of("__main__", "make.<locals>.<lambda>", make(object()))


def test_the_version_of_this_interpreter_is_known_without_asking() -> None:
    assert python_version(sys.executable, {}) == python_version(None, {}) == sys.version.split()[0]
