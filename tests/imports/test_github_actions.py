"""Files of GitHub Actions become workflows that do what their commands did, and the rest is told of."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
from shared_data import needed

from codomyrmex import OrchestrationEngine
from codomyrmex.cli.door import run
from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.states import TaskStatus
from codomyrmex.logistics.orchestration.project.workflow_compiler import compile_workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text
from codomyrmex.logistics.orchestration.project.workflow_import.github_actions import read_github_actions
from codomyrmex.logistics.orchestration.project.workflow_import.import_report import Imported
from codomyrmex.logistics.orchestration.project.workflow_yaml import write_yaml

# file, steps, jobs without a step
REAL = [
    ("argo-workflows--ci-build.yaml", 218, {"changed-files", "tests-windows"}),
    ("ripgrep--release.yml", 157, set()),
    ("ruff--release.yml", 9, {"custom-build-binaries", "custom-publish-docs"}),
    ("wagtail--test.yml", 37, set()),
]


def imported(jobs: str, head: str = "on: push\n") -> Imported:
    """What becomes of a file with these jobs."""
    return read_github_actions(f"{head}jobs:\n{indent(dedent(jobs).strip(), '  ')}\n", file="ci.yml")


def steps_of(made: Imported) -> dict[str, dict[str, Any]]:
    """The steps by name, as the loader reads them."""
    document = load_text(write_yaml(made.tree), format="yaml").document
    return {step["name"]: step for step in document["steps"]}


def told(made: Imported) -> str:
    return "\n".join(f"{each.line}: {each.what}; {each.advice}" for each in made.left_out)


def outcome(made: Imported, **parameters: Any) -> tuple[str, dict[str, str]]:
    """How a run of it ends: its status and that of every step."""
    with OrchestrationEngine(state=":memory:") as engine:
        document = load_text(write_yaml(made.tree), format="yaml").document
        ended = engine.execute_workflow(document, parameters=parameters)
        return ended.status.value, {name: TaskStatus(task.status).value for name, task in ended.tasks.items()}


@pytest.mark.parametrize(("name", "count", "stepless"), REAL)
def test_real_files_become_valid_workflows(
    name: str, count: int, stepless: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = read_github_actions(needed("formats", "github-actions", name).read_text(), file=name)
    assert len(steps_of(made)) == count
    text = told(made)
    for job in stepless:
        assert f"the job {job}: " in text
    assert all(each.line for each in made.left_out)
    assert "actions/checkout" in text
    (tmp_path / "made.yaml").write_text(write_yaml(made.tree))
    monkeypatch.chdir(tmp_path)
    assert run(["workflows", "validate", "made.yaml", "--root", str(tmp_path)]) == 0


def test_the_steps_of_a_job_are_a_chain_and_needs_are_edges() -> None:
    made = imported("""
        build:
          steps:
            - uses: actions/checkout@v4
            - run: make
            - {id: pack, run: make pack, working-directory: out, timeout-minutes: 3}
        test: {needs: build, steps: [{run: make test, shell: bash}]}
        publish: {needs: [build, test], uses: ./.github/workflows/publish.yml}
        tell: {needs: publish, steps: [{run: echo done}]}
    """)
    steps = steps_of(made)
    assert {name: step.get("dependencies", []) for name, step in steps.items()} == {
        "build.step2": [],
        "build.pack": ["build.step2"],
        "test.step1": ["build.pack"],
        "tell.step1": ["build.pack", "test.step1"],
    }
    assert steps["build.pack"]["working_dir"] == "out"
    assert steps["build.pack"]["timeout_s"] == 180
    assert steps["test.step1"]["parameters"]["command"] == "set +u\nmake test"
    assert (
        "calls the workflow ./.github/workflows/publish.yml; what needs it waits for what it needed"
        in told(made)
    )
    assert "5: `uses: actions/checkout@v4`" in told(made)


def test_a_matrix_is_a_chain_for_each_combination_with_its_values_in_the_text() -> None:
    made = imported("""
        test:
          strategy: {matrix: {v: [1, 2], include: [{v: 2, flag: -x}]}, max-parallel: 1}
          env: {V: "${{ matrix.v }}"}
          steps: [{run: "tool ${{ matrix.flag }} ${{ matrix.v }}"}, {run: b, if: matrix.v == 2}]
    """)
    steps = steps_of(made)
    assert list(steps) == ["test.1.step1", "test.2-x.step1", "test.2-x.step2"]
    texts = [step["parameters"]["command"].splitlines()[1] for step in steps.values()]
    assert texts == ["tool  1", "tool -x 2", "b"]
    assert [step["env"]["V"] for step in steps.values()] == ["1", "2", "2"]
    assert "`max-parallel: 1`" in told(made)
    assert "`fail-fast`" in told(made)
    assert "it is never reached" in told(made)


def test_conditions_become_conditions_and_what_only_github_knows_becomes_a_parameter() -> None:
    made = imported("""
        deploy:
          if: github.ref == 'refs/heads/main' && !contains(github.event.head_commit.message, '[skip]')
          steps: [{run: 'echo ${{ github.ref }} "${{ inputs.target }}"'}]
    """, "on: {workflow_dispatch: {inputs: {target: {type: choice, options: [a, b], default: a}}}}\n")  # fmt: skip
    (step,) = steps_of(made).values()
    assert step["run_if"] == (
        "(lower(parameters.github_ref) == 'refs/heads/main') and "
        "(not (contains(lower(parameters.github_event_head_commit_message), '[skip]')))"
    )
    assert step["env"] == {"GITHUB_REF": "${parameters.github_ref}", "INPUTS_TARGET": "${parameters.target}"}
    assert made.tree["parameters"]["target"] == {"type": "string", "default": "a", "choices": ["a", "b"]}
    assert "give its value when you run: -p github_ref=..." in told(made)
    assert outcome(made)[1] == {"deploy.step1": "skipped"}
    assert outcome(made, github_ref="refs/heads/MAIN")[1] == {"deploy.step1": "completed"}


def test_after_a_failure_only_what_asks_for_it_runs() -> None:
    made = imported("""
        a:
          steps:
            - {id: bad, run: "false"}
            - {id: next, run: "true"}
            - {id: saved, if: always(), run: "true"}
            - {id: told, if: failure(), run: "true"}
            - {id: told_not, if: "success() && true", run: "true"}
        b: {needs: a, steps: [{run: "true"}]}
        c: {needs: [a], if: "always() && needs.a.result == 'failure'", steps: [{run: "true"}, {run: "true"}]}
        d: {needs: [a], if: "always() && needs.a.result == 'success'", steps: [{run: "true"}]}
    """)
    status, tasks = outcome(made)
    assert status == "failed"
    assert tasks == {
        "a.bad": "failed", "a.next": "cancelled", "a.saved": "completed", "a.told": "completed",
        "a.told_not": "cancelled", "b.step1": "cancelled", "c.step1": "completed", "c.step2": "completed",
        "d.step1": "skipped",
    }  # fmt: skip


def test_skipped_steps_do_not_stop_a_job_and_skipped_jobs_stop_those_that_need_them() -> None:
    made = imported("""
        a:
          steps: [{run: "true", if: "env.WANTED == 'yes'"}, {run: "true"}]
          env: {WANTED: "no"}
        never: {if: github.event_name == 'push', steps: [{run: "true"}, {run: "true", if: always()}]}
        after: {needs: [a, never], steps: [{run: "true"}]}
        anyway: {needs: [a, never], if: always(), steps: [{run: "true"}]}
        told: {needs: never, if: "always() && needs.never.result == 'skipped'", steps: [{run: "true"}]}
    """)
    status, tasks = outcome(made)
    assert status == "completed"
    assert tasks == {
        "a.step2": "completed", "never.step1": "skipped", "never.step2": "skipped", "after.step1": "skipped",
        "anyway.step1": "completed", "told.step1": "completed",
    }  # fmt: skip
    assert set(outcome(made, github_event_name="push")[1].values()) == {"completed", "skipped"}
    assert outcome(made, github_event_name="push")[1]["told.step1"] == "skipped"


def test_what_may_fail_does_not_fail_the_run() -> None:
    made = imported("""
        a:
          steps:
            - {id: try, run: "false", continue-on-error: true}
            - {id: then, run: "true"}
            - {id: seen, if: steps.try.outcome == 'failure', run: "true"}
        b: {continue-on-error: true, steps: [{run: "false"}, {run: "true"}]}
        c: {needs: [a, b], steps: [{run: "true"}]}
    """)
    status, tasks = outcome(made)
    assert status == "completed"
    assert tasks == {
        "a.try": "failed", "a.then": "completed", "a.seen": "completed", "b.step1": "failed",
        "b.step2": "skipped", "c.step1": "completed",
    }  # fmt: skip


def test_values_never_become_code_and_shells_keep_their_manners(tmp_path: Path) -> None:
    made = imported(f"""
        a:
          env: {{OUT: "{tmp_path}/out"}}
          steps:
            - run: |
                echo "[${{{{ github.title }}}}] $UNSET ${{item}} ${{item:-none}}" >> "$OUT"
                false | true
            - run: echo "py $0" >> "$OUT"
              shell: sh
            - run: open("{tmp_path}/out", "a").write("python\\n")
              shell: python
            - run: Write-Output no
              shell: pwsh
            - run: "echo '${{{{ github.title }}}}'"
    """)
    status, tasks = outcome(made, github_title="$(touch pwned) `x`")
    assert (status, len(tasks)) == ("completed", 3)
    assert (tmp_path / "out").read_text() == "[$(touch pwned) `x`]   none\npy sh\npython\n"
    assert "its shell is 'pwsh'" in told(made)
    assert "single quotes" in told(made)


def test_secrets_stay_secrets_whose_values_are_to_be_set_here() -> None:
    made = imported("""
        a:
          env: {JOB: "${{ secrets.JOB }}"}
          secrets: inherit
          steps:
            - run: curl -H "x ${{ secrets.API_KEY }}" "$URL" ${{ github.token }}
              env: {URL: "${{ secrets['URL'] }}", TOKEN: "${{ github.token }}"}
            - {run: b, if: "secrets.API_KEY != ''"}
            - run: echo ${{ secrets.A || 'x' }}
    """, "on: push\nenv: {ALL: \"${{ secrets.ALL }}\"}\n")  # fmt: skip
    steps = steps_of(made)
    step = steps["a.step1"]
    assert step["env"] == {
        "JOB": "${secrets.JOB}",
        "URL": "${secrets.URL}",
        "TOKEN": "${secrets.GITHUB_TOKEN}",
        "SECRET_API_KEY": "${secrets.API_KEY}",
        "SECRET_GITHUB_TOKEN": "${secrets.GITHUB_TOKEN}",
    }
    assert step["parameters"]["command"].splitlines()[1] == (
        'curl -H "x ${SECRET_API_KEY}" "$URL" ${SECRET_GITHUB_TOKEN}'
    )
    assert made.tree["env"] == {"ALL": "${secrets.ALL}"}
    assert "env.API_KEY" in steps["a.step2"]["run_if"]
    for name in ("ALL", "JOB", "URL", "GITHUB_TOKEN", "API_KEY"):
        assert f"the value of the secret {name}; set it here: codomyrmex secrets set {name}" in told(made)
    assert "a condition reads no secret" in told(made)
    assert "an expression over a secret" in told(made)
    compiled = compile_workflow(load_text(write_yaml(made.tree)).document)
    assert compiled.secrets_of(0) == {"ALL", "JOB", "URL", "GITHUB_TOKEN", "API_KEY"}


def test_secrets_services_and_files_of_the_runner_are_told_of_with_their_lines() -> None:
    made = imported("""
        a:
          services: {db: {image: postgres}}
          container: debian
          steps:
            - run: echo "x=$TOKEN" >> "$GITHUB_OUTPUT"
              env: {TOKEN: "Bearer ${{ secrets.TOKEN }}", A.B: x}
    """, "on: push\npermissions: {}\nconcurrency: one\n")  # fmt: skip
    lines = told(made).splitlines()
    for expected in ("1: `on`", "2: `permissions`", "3: `concurrency`", "6: `services`", "7: `container`",
                     "9: the variable TOKEN: it holds the secret TOKEN; set TOKEN in the environment",
                     "9: the variable 'A.B'", "9: GITHUB_OUTPUT in '1' of a"):  # fmt: skip
        assert any(line.startswith(expected) for line in lines), (expected, lines)
    assert "env" not in steps_of(made)["a.step1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("jobs: {", "ci.yml:1"),
        ("name: x", "no jobs stand here"),
        ("jobs: {a: {needs: b, steps: [{run: x}]}}", "no job is called 'b'"),
        ("jobs:\n  a: {needs: b, steps: [{run: x}]}\n  b: {needs: a, steps: [{run: x}]}",
         "ci.yml:2: jobs.a.needs: the jobs need each other: a -> b -> a"),
        ("jobs: {a: {runs-on: x}}", "a job has `steps`, or `uses`"),
        ("jobs: {a: 5}", "a job is a mapping"),
        ("jobs: {a: {steps: [{uses: x}]}}", "none of its jobs runs a command"),
        ("jobs: {a: &x {steps: []}, b: *x}", "not allowed"),
    ],
)  # fmt: skip
def test_broken_files_are_refused_with_the_place(text: str, expected: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read_github_actions(text, file="ci.yml")
    assert expected in str(refused.value)


def test_an_input_whose_default_does_not_fit_is_a_text() -> None:
    inputs = "{a: {type: boolean, default: maybe}, b: {type: number, required: true}}"
    made = imported("x: {steps: [{run: y}]}", f"on: {{workflow_dispatch: {{inputs: {inputs}}}}}\n")
    assert made.tree["parameters"] == {"a": {"type": "string", "default": "maybe"}, "b": {"type": "number"}}
