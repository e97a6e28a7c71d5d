"""Which place decides a setting, and what is said about one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex.exceptions import SettingsError
from codomyrmex.settings import KINDS, Settings, load_settings


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


PLACES = ("default", "user", "pyproject", "config", "variable", "flag")
DURABILITY = {
    "user": "process",
    "pyproject": "power",
    "config": "barrier",
    "variable": "process",
    "flag": "power",
}


def settings_from(tmp_path: Path, places: tuple[str, ...]) -> Settings:
    root, home = tmp_path / "root", tmp_path / "home"
    root.mkdir()
    texts = {
        "user": (home / ".config/codomyrmex/config.toml", "durability = {!r}"),
        "pyproject": (root / "pyproject.toml", "[tool.codomyrmex]\ndurability = {!r}"),
        "config": (root / ".codomyrmex/config.toml", "durability = {!r}"),
    }
    for place in places:
        if place in texts:
            path, text = texts[place]
            write(path, text.format(DURABILITY[place]))
    environ = {"HOME": str(home)}
    if "variable" in places:
        environ["CODOMYRMEX_DURABILITY"] = DURABILITY["variable"]
    flags = {"durability": DURABILITY["flag"]} if "flag" in places else {"durability": None}
    return load_settings(root=root, state=root / ".codomyrmex", flags=flags, environ=environ)


@pytest.mark.parametrize("count", range(len(PLACES)))
def test_the_place_nearest_to_the_command_line_wins(tmp_path: Path, count: int) -> None:
    places = PLACES[1 : count + 1]
    settings = settings_from(tmp_path, places)
    winner = next(each for each in settings if each.kind.name == "durability")
    endings = {
        "default": "default",
        "user": ".config/codomyrmex/config.toml",
        "pyproject": "pyproject.toml",
        "config": ".codomyrmex/config.toml",
        "variable": "CODOMYRMEX_DURABILITY",
        "flag": "--durability",
    }
    assert winner.origin.endswith(endings[PLACES[count]])
    assert settings.durability == DURABILITY.get(PLACES[count], "barrier")


def test_every_setting_has_its_default_where_nothing_says_otherwise(tmp_path: Path) -> None:
    settings = load_settings(root=tmp_path, environ={})
    assert {each.kind.name: each.value for each in settings} == {kind.name: kind.default for kind in KINDS}
    assert settings.max_workers is None
    assert settings.worker_python is None
    assert settings.workflow_paths == ()


def test_tables_and_variables_reach_nested_names(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", '[tool.codomyrmex.worker]\npython = "python3.9"\n')
    environ = {"CODOMYRMEX_ACTIONS_MODULES": "one, two", "CODOMYRMEX_MAX_WORKERS": "3"}
    settings = load_settings(root=tmp_path, environ=environ)
    assert settings.worker_python == "python3.9"
    assert settings.action_modules == ("one", "two")
    assert settings.max_workers == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('durability = "forever"', "allowed: process, barrier, power"),
        ("durability = 3", "allowed: process, barrier, power"),
        ("max_workers = 0", "at least 1"),
        ("max_workers = true", "at least 1"),
        ('max_workers = "many"', "at least 1"),
        ('[workflows]\npaths = "workflows"', "a list of texts"),
        ("[worker]\npython = ''", "not empty"),
        ("durability = ", "not valid TOML"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_file_and_what_is_allowed(
    tmp_path: Path, text: str, told: str
) -> None:
    write(tmp_path / "config.toml", text)
    with pytest.raises(SettingsError) as caught:
        load_settings(root=tmp_path, state=tmp_path, environ={})
    assert str(tmp_path / "config.toml") in str(caught.value)
    assert told in str(caught.value)


def test_a_variable_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CODOMYRMEX_MAX_WORKERS: max_workers is 'two'"):
        load_settings(root=tmp_path, environ={"CODOMYRMEX_MAX_WORKERS": "two"})


def test_an_unknown_key_is_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "config.toml", "durabilty = 'power'\n[later]\nthing = 1\n")
    settings = load_settings(root=tmp_path, state=tmp_path, environ={})
    first, second = settings.warnings
    assert "unknown setting 'durabilty'; did you mean 'durability'?" in first
    assert "'later'; this version does not read it" in second
    assert settings.durability == "barrier"


def test_a_pyproject_of_somebody_else_decides_nothing(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "this is = not TOML [")
    assert load_settings(root=tmp_path, environ={}).durability == "barrier"
