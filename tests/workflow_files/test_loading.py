"""Workflow files become documents: three formats, two forms, limits, and the places of later faults."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.workflow_file import (
    LoadedDocument,
    load_path,
    load_text,
    write_text,
)
from codomyrmex.logistics.orchestration.project.workflow_schema import schema

CONTRACT_EXAMPLE = """\
codomyrmex: 1
name: nightly
description: what it is for
parameters: {root: {type: path, default: "."}, shards: {type: integer, default: 3}}
steps:
  - {name: build, run: [python, -m, build], timeout: 10m}
  - {name: files, call: "mypkg.io:list_files", with: {root: "${parameters.root}"}}
  - name: parse
    module: mypkg.parse
    action: parse
    foreach: "${steps.files.output.files}"
    parameters: {path: "${item}"}
    dependencies: [build]
    resources: {cpu: 1, memory: 256MiB}
    timeout_s: 30
    retry: {max_attempts: 3, delay_s: 1, backoff: 2, max_delay_s: 60, jitter: true, on: [timeout],
            never: [ValueError]}
  - {name: report, call: "mypkg.report:render", run_if: "len(steps.parse.output) > 0",
     trigger_rule: all_success}
outputs: {report: "${steps.report.output.path}"}
on_failure: []
finally: []
"""


def step_of(text: str) -> dict[str, Any]:
    document = load_text(f"name: w\nsteps:\n  - {text}\n").document
    step: dict[str, Any] = document["steps"][0]
    return step


def faults_of(text: str | bytes, **options: Any) -> tuple[Fault, ...]:
    with pytest.raises(ValidationError) as caught:
        load_text(text, **options)
    return caught.value.faults


def test_the_example_of_the_contract_becomes_its_canonical_document() -> None:
    document = load_text(CONTRACT_EXAMPLE).document

    assert document == {
        "codomyrmex": 1,
        "name": "nightly",
        "description": "what it is for",
        "parameters": {"root": {"type": "path", "default": "."}, "shards": {"type": "integer", "default": 3}},
        "outputs": {"report": "${steps.report.output.path}"},
        "steps": [
            {
                "name": "build",
                "module": "shell",
                "action": "run",
                "parameters": {"command": ["python", "-m", "build"]},
                "timeout_s": 600.0,
            },
            {
                "name": "files",
                "module": "mypkg.io",
                "action": "list_files",
                "parameters": {"root": "${parameters.root}"},
            },
            {
                "name": "parse",
                "module": "mypkg.parse",
                "action": "parse",
                "foreach": "${steps.files.output.files}",
                "parameters": {"path": "${item}"},
                "dependencies": ["build"],
                "resources": {"cpu": 1000, "memory": 256 * 2**20},
                "timeout_s": 30.0,
                "retry": {
                    "max_attempts": 3,
                    "delay_s": 1.0,
                    "max_delay_s": 60.0,
                    "jitter": True,
                    "on": ["timeout"],
                    "never": ["ValueError"],
                },
            },
            {
                "name": "report",
                "module": "mypkg.report",
                "action": "render",
                "run_if": "len(steps.parse.output) > 0",
            },
        ],
    }


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ('{name: a, run: "ls | wc -l"}', "parameters", {"command": "ls | wc -l", "shell": True}),
        ("{name: a, run: [sleep, 5, 0.5, true]}", "parameters", {"command": ["sleep", "5", "0.5", "true"]}),
        (
            "{name: a, with: {cwd: src}, run: [ls]}",
            "parameters",
            {"command": ["ls"], "cwd": "src"},
        ),
        ("{name: a, call: ./steps.py:build}", "module", "./steps.py"),
        ("{name: a, call: http.request}", "module", "http"),
        ("{name: a, call: 'm:Class.method'}", "action", "Class.method"),
        ("{name: a, run: [ls], needs: b}", "dependencies", ["b"]),
        ("{name: a, run: [ls], needs: [b, c, b]}", "dependencies", ["b", "c"]),
        ("{name: a, run: [ls], timeout: 1h30m}", "timeout_s", 5400.0),
        ("{name: a, run: [ls], timeout: 90}", "timeout_s", 90.0),
        ("{name: a, run: [ls], retry: 2}", "retry", {"max_attempts": 3}),
        ("{name: a, run: [ls], max_retries: 2, retry_count: 0}", "retry", {"max_attempts": 3}),
        (
            "{name: a, run: [ls], retry: {max_attempts: 2, delay: 500ms, on: timeout}}",
            "retry",
            {"max_attempts": 2, "delay_s": 0.5, "on": ["timeout"]},
        ),
        ("{name: a, run: [ls], resources: {cpu: 0.25}}", "resources", {"cpu": 250}),
        ("{name: a, run: [ls], env: {N: 3, DEBUG: false}}", "env", {"N": "3", "DEBUG": "false"}),
        ("{name: a, run: [ls], required: false}", "required", False),
    ],
)
def test_short_forms_are_read_as_the_long_ones(written: str, key: str, value: object) -> None:
    assert step_of(written)[key] == value


@pytest.mark.parametrize(
    "written",
    [
        "{name: a, module: shell, action: run, with: {command: [ls]}}",
        "{name: a, run: [ls], needs: [], env: {}, resources: {}, retry: 0, required: true, description: ''}",
        "{name: a, run: [ls], trigger_rule: all_success, priority: normal, x-owner: me}",
        "{name: a, run: [ls], retry: {max_attempts: 1, delay: 5s}}",
        "{name: a, run: [ls], needs: , timeout: null, with: }",
    ],
)
def test_what_equals_a_default_is_left_out(written: str) -> None:
    assert step_of(written) == {
        "name": "a",
        "module": "shell",
        "action": "run",
        "parameters": {"command": ["ls"]},
    }


def test_defaults_reach_every_step_that_does_not_say_otherwise() -> None:
    text = """
name: w
defaults: {timeout: 5m, retry: 2, isolation: thread}
steps:
  - {name: a, run: [ls]}
  - {name: b, run: [ls], retry: 0, timeout_s: 1, isolation: process}
"""
    first, second = load_text(text).document["steps"]

    assert (first["timeout_s"], first["retry"], first["isolation"]) == (300.0, {"max_attempts": 3}, "thread")
    assert (second["timeout_s"], second.get("retry"), second["isolation"]) == (1.0, None, "process")


def test_yaml_json_and_toml_of_the_same_workflow_are_the_same_document() -> None:
    yaml = 'name: w\nsteps: [{name: a, run: [ls], timeout: 5}, {name: b, call: "m:f", needs: [a]}]'
    tree = {
        "name": "w",
        "steps": [
            {"name": "a", "run": ["ls"], "timeout": 5},
            {"name": "b", "call": "m:f", "needs": ["a"]},
        ],
    }
    toml = (
        'name = "w"\n[[steps]]\nname = "a"\nrun = ["ls"]\ntimeout = 5\n'
        '[[steps]]\nname = "b"\ncall = "m:f"\nneeds = ["a"]\n'
    )

    documents = [
        load_text(yaml).document,
        load_text(json.dumps(tree)).document,
        load_text(toml, format="toml").document,
    ]

    assert documents[0] == documents[1] == documents[2]


def test_a_toml_date_is_text_for_a_parameter_of_type_date() -> None:
    steps = 'name = "w"\nsteps = [{name = "a", run = ["ls"]}]\n'
    text = steps + '[parameters.day]\ntype = "date"\ndefault = 2026-03-31\n'

    assert load_text(text, format="toml").document["parameters"]["day"]["default"] == "2026-03-31"


def test_json_of_the_old_form_loads() -> None:
    old = {
        "name": "analysis",
        "steps": [
            {"name": "load", "module": "m", "action": "load", "timeout": 300, "max_retries": 3},
            {
                "name": "use",
                "module": "m",
                "action": "use",
                "dependencies": ["load"],
                "parameters": {"data": "{{load.output}}"},
            },
        ],
    }

    load, use = load_text(json.dumps(old)).document["steps"]

    assert (load["timeout_s"], load["retry"]) == (300.0, {"max_attempts": 4})
    assert use["parameters"] == {"data": "${steps.load.output}"}


def test_braces_of_other_templates_stay_in_files_of_this_form() -> None:
    text = "name: w\nsteps: [{name: a, run: \"docker ps --format '{{.Names}}'\"}]"

    assert load_text(text).document["steps"][0]["parameters"]["command"] == "docker ps --format '{{.Names}}'"


@pytest.mark.parametrize("format", ["yaml", "json"])
def test_a_written_document_loads_to_the_same_document(format: str) -> None:
    document = load_text(CONTRACT_EXAMPLE).document

    assert load_text(write_text(document, format), format=format).document == document


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS.filter(lambda key: key != "$type"), TREES, max_size=4))
@example({"a": "x\u2028y\x85\ufeff", "b": "0755", "c": 1e-05, "d": -0.0, "": [[]]})
def test_every_parameter_survives_yaml_and_json(parameters: dict[str, Any]) -> None:
    step = {"name": "a", "module": "m", "action": "f"} | ({"parameters": parameters} if parameters else {})
    document = {"codomyrmex": 1, "name": "w", "steps": [step]}

    for format in ("yaml", "json"):
        read = load_text(write_text(document, format), format=format).document
        assert json.dumps(read) == json.dumps(document)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("set -e\n\necho 'a: b' # c\n")
@example("if true; then\n  ls\nfi")
def test_every_command_survives_yaml(command: str) -> None:
    step = {
        "name": "a",
        "module": "shell",
        "action": "run",
        "parameters": {"command": command, "shell": True},
    }
    document = {"codomyrmex": 1, "name": "w", "steps": [step]}

    if command.strip():
        assert load_text(write_text(document, "yaml"), format="yaml").document == document


def test_a_command_of_several_lines_is_written_as_a_block() -> None:
    parameters = {"command": "set -x\nmake all\n", "shell": True}
    step = {"name": "a", "module": "shell", "action": "run", "parameters": parameters}

    text = write_text({"codomyrmex": 1, "name": "w", "steps": [step]}, "yaml")

    assert "    run: |\n      set -x\n      make all\n" in text


@given(st.text(), st.sampled_from(["yaml", "json", "toml"]))
def test_any_text_is_either_a_document_or_a_validation_error(text: str, format: str) -> None:
    with suppress(ValidationError):
        load_text(text, format=format)


KEYS = st.sampled_from(
    [
        *schema()["properties"],
        *schema()["$defs"]["step"]["properties"],
        *schema()["$defs"]["step"]["properties"]["approval"]["properties"],
        *schema()["$defs"]["step"]["properties"]["cache"]["properties"],
        "signal",
        "policy",
        "max_attempts",
        "cpu",
        "memory",
        "type",
        "x",
    ]
)
WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["5m", "0s", "1GiB", "${item}", "a.b", "m:f", "3", "9" * 30 + "d", "9" * 30, "1.5.2"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(KEYS, WILD, max_size=6), st.lists(st.dictionaries(KEYS, WILD, max_size=6), max_size=3))
def test_any_tree_is_either_a_document_or_a_validation_error(
    tree: dict[str, Any], steps: list[dict[str, Any]]
) -> None:
    whole = {
        "name": "w",
        **tree,
        "steps": [{"name": f"s{number}", **step} for number, step in enumerate(steps)],
    }
    for attempt in (whole, tree):
        try:
            text = json.dumps(attempt, allow_nan=False)
        except ValueError:
            continue
        with suppress(ValidationError):
            load_text(text, format="json")


def test_a_file_of_50_mb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"name: big\n")
    os.truncate(path, 50_000_000)

    with pytest.raises(ValidationError) as caught:
        load_path(path, shown_as="big.yaml")

    assert str(caught.value) == (
        "big.yaml has 1 fault:\n"
        "  big.yaml: the file has 47.7 MiB; YAML may have 8MiB\n"
        "    a workflow in JSON may have 32MiB"
    )


@pytest.mark.parametrize("format", ["json", "toml", "yaml"])
def test_deep_nesting_is_refused_in_every_format(format: str) -> None:
    nested = "[" * 5000 + "]" * 5000
    text = {
        "json": f'{{"a": {nested}}}',
        "toml": f"a = {nested}",
        "yaml": f"a: {nested}",
    }[format]

    (fault,) = faults_of(text, format=format)

    assert "32 deep" in fault.message


@pytest.mark.parametrize("depth", [31, 32])
@pytest.mark.parametrize("format", ["json", "yaml"])
def test_the_limit_of_depth_is_the_same_in_json_and_yaml(format: str, depth: int) -> None:
    inner = depth - 4  # the file, steps, a step, its parameters
    text = json.dumps({"name": "w", "steps": [{"name": "a", "call": "m:f", "with": {"x": 1}}]})

    load_text(text.replace('"x": 1', '"x": ' + "[" * inner + "]" * inner), format=format)
    (fault,) = faults_of(text.replace('"x": 1', '"x": ' + "[" * (33 - 4) + "]" * (33 - 4)), format=format)

    assert fault.code == "too_deep"


@pytest.mark.parametrize(
    "value", ["1e999", '"\\ud800"', "9" * 5000, '{"$type": "date", "value": "no"}', "NaN"]
)
def test_values_that_could_not_be_kept_are_refused(value: str) -> None:
    text = f'{{"name": "w", "steps": [{{"name": "a", "call": "m:f", "with": {{"x": {value}}}}}]}}'

    assert len(faults_of(text, format="json")) == 1


def test_thousands_of_faults_are_cut_to_a_hundred_and_a_number() -> None:
    steps = [{"name": f"s{number}", "run": ["ls"], "timout": 5} for number in range(3000)]

    faults = faults_of(json.dumps({"name": "w", "steps": steps}))

    assert len(faults) == 101
    assert str(faults[-1]).endswith("and 2,900 more")


def test_all_faults_of_a_file_come_at_once_in_its_order() -> None:
    text = """\
name: my workflow
steps:
  - {name: a, run: [ls], timout: 5}
  - {name: a, run: [ls], call: "m:f"}
  - name: c
    name: d
    run: [ls]
    retry: x
"""
    assert [(fault.line, fault.code) for fault in faults_of(text)] == [
        (1, "wrong_value"),
        (3, "unknown_key"),
        (4, "duplicate_name"),
        (4, "two_kinds"),
        (6, "duplicate_key"),
        (8, "wrong_type"),
    ]


LATER = """\
name: w
steps:
  - name: a
    run: echo ${item}
  - name: b
    call: m:f
    with:
      path: "${steps.x.output}"
    needs: [a]
    retry:
      max_attempts: 2
      delay: 5s
"""


@pytest.fixture
def loaded() -> LoadedDocument:
    return load_text(LATER, file="w.yaml")


@pytest.mark.parametrize(
    ("path", "line", "written"),
    [
        (("steps", 0, "parameters", "command"), 4, "steps[0] 'a'.run"),
        (("steps", 0, "parameters"), 4, "steps[0] 'a'.run"),
        (("steps", 1, "parameters", "path"), 8, "steps[1] 'b'.with.path"),
        (("steps", 1, "parameters"), 7, "steps[1] 'b'.with"),
        (("steps", 1, "dependencies"), 9, "steps[1] 'b'.needs"),
        (("steps", 1, "dependencies", 0), 9, "steps[1] 'b'.needs[0]"),
        (("steps", 1, "action"), 6, "steps[1] 'b'.call"),
        (("steps", 1, "retry", "delay_s"), 12, "steps[1] 'b'.retry.delay"),
        (("steps", 1, "run_if"), 5, "steps[1] 'b'.run_if"),
        (("outputs", "x"), 1, "outputs"),
        ((), 1, ""),
    ],
)
def test_faults_found_later_get_the_line_and_the_words_of_the_file(
    loaded: LoadedDocument, path: tuple[str | int, ...], line: int, written: str
) -> None:
    (fault,) = loaded.place([(path, Fault(message="wrong"))])

    assert (fault.file, fault.line, fault.path) == ("w.yaml", line, written)
    assert loaded.locate(path) == line


def test_lines_are_found_in_json_and_toml_too() -> None:
    in_json = load_text(
        '{"name": "w",\n "steps": [\n {"name": "a",\n "": 1, "run": ["ls"]}]}'.replace('"": 1, ', "")
    )
    in_toml = load_text(
        'name = "w"\n[[steps]]\nname = "a"\nrun = """\n[x]\nls\n"""\n[[steps]]\nname = "b"\nrun = ["ls"]\n'
        '[steps.env]\nA = "b"\n',
        format="toml",
    )

    assert [in_json.locate(("steps", 0)), in_json.locate(("steps", 0, "parameters"))] == [3, 4]
    assert [in_toml.locate(("steps", 1)), in_toml.locate(("steps", 1, "env", "A"))] == [8, 12]


def test_the_schema_is_a_schema_and_every_part_of_it_can_explain_itself() -> None:
    import jsonschema_rs

    jsonschema_rs.meta.validate(schema())

    def walk(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                walk(each)
        elif isinstance(part, dict):
            if isinstance(part.get("type"), (str, list)) or "enum" in part or "const" in part:
                assert part["errorMessage"], part
            for each in part.values():
                walk(each)

    walk(schema())
