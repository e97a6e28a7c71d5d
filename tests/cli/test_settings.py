"""Which place decides a setting, and what is said about one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from codomyrmex.exceptions import SettingsError
from codomyrmex.settings import KINDS, SettingKind, Settings, load_settings


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
        ('[resources]\ncpu = "-1"', "a number of CPUs above 0, at most three decimals"),
        ("[resources]\ncpu = -1", "a number of CPUs above 0"),
        ("[resources]\ncpu = 0", "a number of CPUs above 0"),
        ("[resources]\ncpu = 1.0001", "at most three decimals"),
        ("[resources]\ncpu = true", "a number of CPUs above 0"),
        ("[resources]\ncpu = inf", "a number of CPUs above 0"),
        ('[resources]\nmemory = "8 gigs"', "a size, such as 8GiB"),
        ("[resources]\nmemory = 0", "a size, such as 8GiB"),
        ("[resources]\ngpu = 1.5", "a whole number of devices"),
        ('[resources]\ngpu = "two"', "a whole number of devices"),
        ("[resources]\ndisk = -5", "a size, such as 8GiB"),
        ('[resources]\nnetwork = ["1GB"]', "a size per second"),
        ('[resources]\nscope = "planet"', "allowed: host, project"),
        ('[worker]\nmemory_limit = "soft"', "allowed: watch, hard, none"),
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


def resources_of(settings: Settings) -> list[str | None]:
    return [
        settings.resources_cpu,
        settings.resources_memory,
        settings.resources_gpu,
        settings.resources_disk,
        settings.resources_network,
    ]


def test_the_machine_is_detected_and_shared_where_nothing_says_otherwise(tmp_path: Path) -> None:
    settings = load_settings(root=tmp_path, environ={})
    assert resources_of(settings) == [None] * 5
    assert (settings.resources_scope, settings.worker_memory_limit) == ("host", "watch")


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (['"1.5"', '"8GiB"', '"2"', '"1.5TB"', '"125MB/s"'], False),
        (["1.5", "8589934592", "2", "0", "125_000_000"], True),
    ],
)
def test_what_the_machine_has_may_be_written_as_text_or_number(
    tmp_path: Path, texts: list[str], numbers: bool
) -> None:
    names = ("cpu", "memory", "gpu", "disk", "network")
    lines = [f"{name} = {text}" for name, text in zip(names, texts, strict=True)]
    write(tmp_path / "config.toml", "\n".join(["[resources]", *lines]))
    settings = load_settings(root=tmp_path, state=tmp_path, environ={})
    expected = ["1.5", "8589934592", "2", "0", "125000000"] if numbers else [text[1:-1] for text in texts]
    assert resources_of(settings) == expected


def test_variables_say_what_the_machine_has_too(tmp_path: Path) -> None:
    environ = {
        "CODOMYRMEX_RESOURCES_CPU": " 0.5 ",
        "CODOMYRMEX_RESOURCES_MEMORY": "512 MiB",
        "CODOMYRMEX_RESOURCES_GPU": "0",
        "CODOMYRMEX_RESOURCES_SCOPE": "project",
        "CODOMYRMEX_WORKER_MEMORY_LIMIT": "hard",
    }
    settings = load_settings(root=tmp_path, environ=environ)
    assert resources_of(settings) == ["0.5", "512 MiB", "0", None, None]
    assert (settings.resources_scope, settings.worker_memory_limit) == ("project", "hard")
    with pytest.raises(SettingsError, match=r"CODOMYRMEX_RESOURCES_GPU: resources\.gpu is '-1'"):
        load_settings(root=tmp_path, environ={"CODOMYRMEX_RESOURCES_GPU": "-1"})


def test_one_setting_is_found_by_its_name(tmp_path: Path) -> None:
    settings = load_settings(root=tmp_path, environ={"CODOMYRMEX_RESOURCES_CPU": "4"})
    assert settings.setting("resources.cpu").origin == "CODOMYRMEX_RESOURCES_CPU"
    assert settings.setting("max_workers").origin == "default"
    with pytest.raises(KeyError):
        settings.setting("resources.cpus")


PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"


def row(kind: SettingKind) -> str:
    """What the page of settings says of one."""
    default = ", ".join(kind.default) if isinstance(kind.default, tuple) else kind.default
    written = " ".join(f"`{choice}`" for choice in kind.choices) or kind.allowed or kind.kind
    return f"| `{kind.name}` | {written} | {f'`{default}`' if default else ''} | {kind.about} |"


def test_the_page_of_settings_lists_every_one() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == [row(kind) for kind in KINDS]


def test_the_example_of_the_page_is_read_without_a_warning(tmp_path: Path) -> None:
    example = PAGE.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    write(tmp_path / "config.toml", example)
    settings = load_settings(root=tmp_path, state=tmp_path, environ={})
    assert settings.warnings == ()
    assert resources_of(settings) == ["6", "24GiB", None, None, None]


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
