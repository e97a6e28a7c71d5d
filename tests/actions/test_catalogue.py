"""Finding, listing and checking actions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.exceptions import ActionNotFound
from codomyrmex.logistics.orchestration.project.actions.catalogue import ActionCatalogue
from codomyrmex.logistics.orchestration.project.actions.description import Origin
from codomyrmex.logistics.orchestration.project.actions.missing import FunctionMissing, ModuleMissing

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file below the root of a project and returns its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def step(name: str, module: str, action: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "module": module, "action": action}
    return made if parameters is None else {**made, "parameters": parameters}


def check(catalogue: ActionCatalogue, *steps: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (path, fault.code, fault.nearest)
        for path, fault in catalogue.check({"codomyrmex": 1, "name": "w", "steps": list(steps)})
    ]


# ------------------------------------------------------------------------------------------ where it is found


def test_places_are_searched_in_their_order(tmp_path: Path, write: Write) -> None:
    site = tmp_path / "site"
    write("site/tool/__init__.py", "def run(installed): ...")
    write("site/acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    write("site/acme-1.0.dist-info/entry_points.txt", "[codomyrmex.actions]\ntool = acme_tool\n")
    write("site/acme_tool.py", "def run(entry_point): ...")
    lent = write("lib/tool.py", "def run(setting): ...")
    in_source = write("src/tool.py", "def run(source): ...")
    in_root = write("tool.py", "def run(root): ...")
    beside = write("flows/tool.py", "def run(beside): ...")

    def found() -> tuple[Origin, str]:
        catalogue = ActionCatalogue(
            tmp_path,
            file=tmp_path / "flows/w.yaml",
            modules=["lib.tool"],
            python_path=[str(site)],
        )
        described = catalogue.find("tool", "run")
        return described.origin, described.parameters[0].name

    order = []
    for path in (beside, in_root, in_source, lent, site / "acme-1.0.dist-info/entry_points.txt"):
        order.append(found())
        path.unlink()
    order.append(found())

    assert order == [
        (Origin.PROJECT, "beside"),
        (Origin.PROJECT, "root"),
        (Origin.PROJECT, "source"),
        (Origin.SETTING, "setting"),
        (Origin.ENTRY_POINT, "entry_point"),
        (Origin.INSTALLED, "installed"),
    ]


def test_a_file_is_found_beside_the_workflow_then_in_the_root(tmp_path: Path, write: Write) -> None:
    write("steps.py", "def build(root): ...")
    catalogue = ActionCatalogue(tmp_path, file=tmp_path / "flows/w.yaml")

    assert catalogue.find("./steps.py", "build").parameters[0].name == "root"
    write("flows/steps.py", "def build(beside): ...")

    described = catalogue.find("./steps.py", "build")
    assert described.parameters[0].name == "beside"
    assert described.origin is Origin.FILE
    assert described.target == ("./steps.py", "build")
    assert catalogue.find(str(tmp_path / "steps.py"), "build").parameters[0].name == "root"


def test_a_module_of_this_package_is_found_without_its_prefix(tmp_path: Path) -> None:
    described = ActionCatalogue(tmp_path).find("workspace", "find_workspace")

    assert described.origin is Origin.CODOMYRMEX
    assert described.target == ("codomyrmex.workspace", "find_workspace")


def test_nothing_of_the_project_runs_and_no_package_is_imported(tmp_path: Path, write: Write) -> None:
    write("loud/__init__.py", "raise RuntimeError('imported')")
    write("loud/inner/__init__.py", "raise RuntimeError('imported')")
    write("loud/inner/work.py", "def go(): ...\nraise RuntimeError('imported')")
    before = set(sys.modules)

    described = ActionCatalogue(tmp_path).find("loud.inner.work", "go")

    assert described.line == 1
    assert not [name for name in set(sys.modules) - before if name.startswith("loud")]


def test_a_folder_without_init_is_a_package_whose_parts_may_lie_in_two_places(
    tmp_path: Path, write: Write
) -> None:
    write("ns/deep/one.py", "def f(): ...")
    write("src/ns/deep/two.py", "def f(): ...")
    catalogue = ActionCatalogue(tmp_path)

    assert catalogue.find("ns.deep.one", "f").origin is Origin.PROJECT
    assert catalogue.find("ns.deep.two", "f").origin is Origin.PROJECT


def test_a_reexported_function_is_described_where_it_is_written(tmp_path: Path, write: Write) -> None:
    write("pkg/__init__.py", "from .work import go as run\nfrom . import work\n")
    written = write("pkg/work.py", "def go(speed: int): ...")

    described = ActionCatalogue(tmp_path).find("pkg", "run")

    assert (described.action, described.file, described.target) == ("run", str(written), ("pkg", "run"))
    assert described.parameters[0].name == "speed"


def test_an_entry_point_may_be_a_module_a_class_or_one_action(tmp_path: Path, write: Write) -> None:
    write("site/acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    write(
        "site/acme-1.0.dist-info/entry_points.txt",
        "[codomyrmex.actions]\nmail = acme\nchat = acme:Chat\nslack.post = acme:send\n",
    )
    write("site/acme.py", "def send(text): ...\nclass Chat:\n    @staticmethod\n    def say(words): ...")
    catalogue = ActionCatalogue(tmp_path, python_path=[str(tmp_path / "site")])

    assert catalogue.find("mail", "send").target == ("acme", "send")
    assert catalogue.find("chat", "say").target == ("acme", "Chat.say")
    assert catalogue.find("slack", "post").target == ("acme", "send")
    with pytest.raises(FunctionMissing) as problem:
        catalogue.find("slack", "pots")
    assert problem.value.nearest == "post"
    listed = {each.name for each in catalogue.list() if each.origin is Origin.ENTRY_POINT}
    assert listed == {"mail:send", "slack:post"}


def test_a_changed_file_is_read_again(tmp_path: Path, write: Write) -> None:
    write("steps.py", "def build(a): ...")
    catalogue = ActionCatalogue(tmp_path)
    catalogue.find("steps", "build")

    write("steps.py", "def build(one, two): ...")

    assert len(catalogue.find("steps", "build").parameters) == 2


# -------------------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("module", "action", "kind", "nearest"),
    [
        ("stesp", "build", ModuleMissing, "steps"),
        ("shel", "run", ModuleMissing, "shell"),
        ("shell", "rum", FunctionMissing, "run"),
        ("files", "checksums", FunctionMissing, "checksum"),
        ("steps", "biuld", FunctionMissing, "build"),
        ("./stesp.py", "build", ModuleMissing, "./steps.py"),
        ("./steps", "build", ModuleMissing, "./steps.py"),
        ("my-steps", "build", ModuleMissing, "./my-steps.py"),
        ("pkg.wrok", "go", ModuleMissing, "pkg.work"),
        ("steps.work", "go", ModuleMissing, None),
        ("steps", "LIMIT", FunctionMissing, None),
        ("broken", "go", ModuleMissing, None),
        ("unheard_of_at_all", "go", ModuleMissing, None),
    ],
)
def test_the_error_says_which_half_is_missing_and_the_nearest_name(
    tmp_path: Path, write: Write, module: str, action: str, kind: type[ActionNotFound], nearest: str | None
) -> None:
    write("steps.py", "LIMIT = 3\ndef build(): ...")
    write("my-steps.py", "def build(): ...")
    write("pkg/__init__.py", "")
    write("pkg/work.py", "def go(): ...")
    write("broken.py", "def go(:")

    with pytest.raises(kind) as problem:
        ActionCatalogue(tmp_path).find(module, action)

    assert problem.value.nearest == nearest
    assert problem.value.exit_code == 5


def test_the_message_says_where_was_looked(tmp_path: Path, write: Write) -> None:
    path = write("steps.py", "def build(): ...")
    catalogue = ActionCatalogue(tmp_path, file=tmp_path / "flows/w.yaml")

    with pytest.raises(ModuleMissing) as no_module:
        catalogue.find("nowhere_to_be_seen", "build")
    with pytest.raises(FunctionMissing) as no_function:
        catalogue.find("steps", "zzz")

    flows = tmp_path / "flows"
    assert (
        str(no_module.value)
        == f"there is no module 'nowhere_to_be_seen'; looked in {flows}, {tmp_path}, the installed packages"
    )
    assert str(no_function.value) == f"the module 'steps' has no function 'zzz'; looked in {path}"
    assert no_function.value.hint == "it has build"


# ------------------------------------------------------------------------------------------ asking a worker


def test_what_source_does_not_tell_is_asked_in_one_question(tmp_path: Path, write: Write) -> None:
    write("steps.py", "@retrying\ndef pull(x): ...\nmake = build(1)\ndef plain(): ...")
    asked: list[list[tuple[str, str]]] = []

    def describe(actions: list[tuple[str, str]]) -> list[dict[str, Any]]:
        asked.append(actions)
        parameter = {"name": "speed", "kind": "keyword_only", "required": True, "annotation": "int"}
        return [
            {"found": True, "parameters": [parameter], "doc": "Does.", "registered": True} for _ in actions
        ]

    found = check(
        ActionCatalogue(tmp_path, describe=describe),
        step("a", "steps", "pull", {"speed": 1}),
        step("b", "steps", "make", {"speed": "fast"}),
        step("c", "steps", "plain"),
        step("d", "steps", "pull", {}),
    )

    assert asked == [[("steps", "make"), ("steps", "pull")]]
    assert [(path, code) for path, code, _ in found] == [
        (("steps", 1, "parameters", "speed"), "wrong_type"),
        (("steps", 3, "parameters"), "missing_parameter"),
    ]


def test_without_a_worker_such_an_action_is_taken_to_accept_anything(tmp_path: Path, write: Write) -> None:
    write("steps.py", "make = build(1)")
    catalogue = ActionCatalogue(tmp_path)

    described = catalogue.find("steps", "make")

    assert (described.is_known, described.accepts_any) == (False, True)
    assert check(catalogue, step("a", "steps", "make", {"anything": 1})) == []


def test_a_module_that_only_the_workers_interpreter_has_is_found_there(tmp_path: Path) -> None:
    def describe(actions: list[tuple[str, str]]) -> list[dict[str, Any]]:
        return [{"found": True, "parameters": [], "file": "/elsewhere/frames.py", "line": 3} for _ in actions]

    described = ActionCatalogue(tmp_path, describe=describe).find("only_over_there", "load")

    assert (described.origin, described.file, described.line) == (Origin.INSTALLED, "/elsewhere/frames.py", 3)


def test_a_module_that_cannot_be_imported_is_told_with_its_error(tmp_path: Path, write: Write) -> None:
    write("steps.py", "make = build(1)")
    error = {
        "type": "ModuleNotFoundError",
        "message": "No module named 'pandas'",
        "frame": "steps.py:1 <module>",
    }

    def describe(actions: list[tuple[str, str]]) -> list[dict[str, Any]]:
        return [{"found": False, "error": error} for _ in actions]

    with pytest.raises(
        ModuleMissing, match=r"cannot be imported: ModuleNotFoundError: No module named 'pandas'"
    ):
        ActionCatalogue(tmp_path, describe=describe).find("steps", "make")


def test_the_refusal_of_a_worker_keeps_the_reason_known_before(tmp_path: Path, write: Write) -> None:
    write("steps.py", "")

    def describe(actions: list[tuple[str, str]]) -> list[dict[str, Any]]:
        return [{"found": False, "error": {"type": "x.ActionNotFound", "message": "no"}} for _ in actions]

    with pytest.raises(ModuleMissing) as problem:
        ActionCatalogue(tmp_path, describe=describe).find("stesp", "make")
    assert problem.value.nearest == "steps"


# ---------------------------------------------------------------------------------------------- hidden names


def test_a_name_that_another_place_has_too_is_warned_of_once(tmp_path: Path, write: Write) -> None:
    write("flows/steps.py", "def build(): ...")
    other = write("steps.py", "def build(): ...")
    shell = write("shell.py", "def run(): ...")
    catalogue = ActionCatalogue(tmp_path, file=tmp_path / "flows/w.yaml")

    catalogue.find("steps", "build")
    catalogue.find("steps", "build")
    catalogue.find("shell", "run")

    assert catalogue.warnings == [
        f"module 'steps' is {tmp_path}/flows/steps.py; {other} has the same name and is not used",
        f"module 'shell' is the built-in one; {shell} has the same name and is not used",
    ]


def test_a_file_with_the_name_of_a_standard_module_is_warned_of(tmp_path: Path, write: Write) -> None:
    path = write("json.py", "def load(): ...")
    catalogue = ActionCatalogue(tmp_path)

    catalogue.find("json", "load")

    assert catalogue.warnings == [
        f"{path} has a standard module's name and may not be what is imported; rename it"
    ]


def test_the_same_file_reached_in_two_ways_hides_nothing(tmp_path: Path, write: Write) -> None:
    write("src/steps.py", "def build(): ...")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/steps.py").symlink_to(tmp_path / "src/steps.py")
    catalogue = ActionCatalogue(tmp_path, python_path=[str(tmp_path / "site")])

    catalogue.find("steps", "build")

    assert catalogue.warnings == []


# ------------------------------------------------------------------------------------------------------ list


def test_the_list_has_built_ins_declared_functions_and_lent_modules(tmp_path: Path, write: Write) -> None:
    write("src/pkg/__init__.py", "")
    write("src/pkg/work.py", "from codomyrmex import action\n@action()\ndef go(): ...\ndef plain(): ...")
    write("my-steps.py", "from codomyrmex import action\n@action(name='second')\ndef first(): ...")
    write("lib/tools.py", "def one(): ...\ndef _hidden(): ...")
    write(".codomyrmex/bad.py", "from codomyrmex import action\n@action()\ndef never(): ...")
    write("env/pyvenv.cfg", "")
    write("env/lib.py", "from codomyrmex import action\n@action()\ndef never(): ...")
    write("broken.py", "from codomyrmex import action\n@action(\n")

    listed = ActionCatalogue(tmp_path, modules=["lib.tools"], python_path=[]).list()

    assert [each.name for each in listed if each.origin is not Origin.BUILT_IN] == [
        "./my-steps.py:second",
        "pkg.work:go",
        "tools:one",
    ]
    assert {"shell.run", "python.run", "http.request", "files.copy"} <= {each.name for each in listed}


def test_everything_listed_can_be_found(tmp_path: Path, write: Write) -> None:
    write("deep/er/work.py", "from codomyrmex import action\n@action(effects='pure')\ndef go(): ...")
    catalogue = ActionCatalogue(tmp_path)

    for listed in catalogue.list():
        assert catalogue.find(listed.module, listed.action) == listed
        assert listed.to_dict()["origin"] == listed.origin.value


# ----------------------------------------------------------------------------------------------------- check


SOURCE = """
from pathlib import Path
def build(target: str, jobs: int = 1, *, flags: list[str] | None = None, out: Path = Path("x")): ...
def loose(**anything): ...
def bare(): ...
def by_position(x, /): ...
class Tool:
    def run(self, x): ...
"""
FAULTS: list[tuple[str, dict[str, Any], list[tuple[Any, str, str | None]]]] = [
    ("build", {"target": "all"}, []),
    ("build", {"target": "${parameters.t}", "jobs": "${parameters.n}", "flags": ["-O", "${item}"]}, []),
    ("build", {"target": "all", "flags": None, "out": "build"}, []),
    ("build", {}, [((), "missing_parameter", None)]),
    (
        "build",
        {"taget": "all"},
        [((), "missing_parameter", None), (("taget",), "unknown_parameter", "target")],
    ),
    ("build", {"target": "all", "job": 2}, [(("job",), "unknown_parameter", "jobs")]),
    (
        "build",
        {"target": 3, "jobs": "many"},
        [(("target",), "wrong_type", None), (("jobs",), "wrong_type", None)],
    ),
    ("build", {"target": "all", "flags": ["-O", 3]}, [(("flags", 1), "wrong_type", None)]),
    ("loose", {"x": 1, "y": 2}, []),
    ("bare", {"x": 1}, [(("x",), "unknown_parameter", None)]),
    ("by_position", {"x": 1}, [(("x",), "by_position", None)]),
    ("by_position", {}, [((), "by_position", None)]),
    ("Tool.run", {"x": 1}, [((), "missing_parameter", None)]),
]


@pytest.mark.parametrize(("action", "parameters", "expected"), FAULTS)
def test_parameters_are_held_against_the_signature(
    tmp_path: Path,
    write: Write,
    action: str,
    parameters: dict[str, Any],
    expected: list[tuple[Any, str, str | None]],
) -> None:
    write("steps.py", SOURCE)

    found = check(
        ActionCatalogue(tmp_path),
        step("a", "shell", "run", {"command": ["true"]}),
        step("b", "steps", action, parameters),
    )

    assert found == [(("steps", 1, "parameters", *path), code, near) for path, code, near in expected]


BUILT_IN_FAULTS: list[tuple[str, str, dict[str, Any], list[tuple[Any, str]]]] = [
    ("shell", "run", {"command": ["make", 3]}, []),
    ("shell", "run", {"command": "make && make install", "shell": True}, []),
    ("shell", "run", {"command": "${steps.plan.output}"}, []),
    ("shell", "run", {"command": ["env"], "env": {"A": 1}, "expect": [0, 1], "cwd": "sub"}, []),
    ("shell", "run", {}, [((), "missing_parameter")]),
    ("shell", "run", {"command": "make"}, [(("command",), "wrong_value")]),
    ("shell", "run", {"command": ["make"], "shell": True}, [(("shell",), "wrong_value")]),
    ("shell", "run", {"command": []}, [(("command",), "wrong_value")]),
    ("shell", "run", {"command": " ", "shell": True}, [(("command",), "wrong_value")]),
    ("shell", "run", {"command": ["make"], "expect": 1}, [(("expect",), "wrong_type")]),
    ("python", "run", {"script": "a.py", "args": ["x", 3]}, []),
    ("python", "run", {}, [((), "wrong_value")]),
    ("python", "run", {"script": "a.py", "code": "1"}, [(("code",), "wrong_value")]),
    ("http", "request", {"url": "https://example.org", "json": [1]}, []),
    ("http", "request", {"url": "${parameters.url}"}, []),
    ("http", "request", {"url": "example.org"}, [(("url",), "wrong_value")]),
    ("http", "request", {"url": "http://a", "json": 1, "data": "x"}, [(("data",), "wrong_value")]),
    ("files", "write", {"path": "a", "content": "b"}, []),
    ("files", "write", {"path": "a"}, [((), "missing_parameter")]),
]


@pytest.mark.parametrize(("module", "action", "parameters", "expected"), BUILT_IN_FAULTS)
def test_parameters_of_built_ins_are_held_against_what_they_take(
    tmp_path: Path, module: str, action: str, parameters: dict[str, Any], expected: list[tuple[Any, str]]
) -> None:
    found = check(ActionCatalogue(tmp_path), step("a", module, action, parameters))

    assert [(path, code) for path, code, _ in found] == [
        (("steps", 0, "parameters", *path), code) for path, code in expected
    ]


def test_unknown_actions_are_told_at_every_step_with_the_half_that_is_wrong(
    tmp_path: Path, write: Write
) -> None:
    write("steps.py", SOURCE)

    found = check(
        ActionCatalogue(tmp_path),
        step("a", "stesp", "build"),
        step("b", "steps", "biuld"),
        step("c", "stesp", "build"),
    )

    assert found == [
        (("steps", 0, "module"), "unknown_module", "steps"),
        (("steps", 1, "action"), "unknown_action", "build"),
        (("steps", 2, "module"), "unknown_module", "steps"),
    ]


def test_the_words_of_a_fault_name_the_action_and_what_was_got(tmp_path: Path, write: Write) -> None:
    write("steps.py", SOURCE)
    document = {"steps": [step("a", "steps", "build", {"target": 3, "job": 1})]}

    texts = [str(fault) for _, fault in ActionCatalogue(tmp_path).check(document)]

    assert texts == [
        "steps:build has no parameter 'job'; did you mean 'jobs'?",
        "steps:build takes str for 'target'; got the number 3\n    put it in quotes",
    ]


def test_steps_that_hold_their_function_are_not_looked_up(tmp_path: Path) -> None:
    document = {"steps": [step("a", "__main__", "<lambda>", {"x": 1})]}

    assert ActionCatalogue(tmp_path).check(document, skip={"a"}) == []


def test_equal_actions_are_looked_up_once(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("steps.py", SOURCE)
    catalogue = ActionCatalogue(tmp_path)
    looked_up: list[tuple[str, str]] = []
    real = catalogue._look_up
    monkeypatch.setattr(catalogue, "_look_up", lambda *pair: (looked_up.append(pair), real(*pair))[1])

    check(
        catalogue, *(step(f"s{number}", "steps", "build", {"target": str(number)}) for number in range(1000))
    )

    assert looked_up == [("steps", "build")]
