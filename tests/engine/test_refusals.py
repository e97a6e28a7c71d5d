"""Bad input of workflows that wait, call each other and fan out: each is refused with its reason.

What can be known is told before anything begins, by `validate` as well as by a run; the rest by the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.cli.door import run
from codomyrmex.exceptions import Conflict, NotAllowed, ValidationError
from waiting import wait_until

HEAD = "codomyrmex: 1\n"
STEP = '{name: work, run: ["true"]}'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codomyrmex.yaml").write_text(f"{HEAD}name: plain\nsteps:\n  - {STEP}\n")
    return tmp_path


@pytest.fixture
def engine(project: Path) -> Iterator[OrchestrationEngine]:
    with OrchestrationEngine(state=":memory:") as opened:
        yield opened


def write(folder: Path, name: str, text: str) -> Path:
    """A workflow file `NAME.yaml` of this name."""
    file = folder / f"{name}.yaml"
    file.write_text(f"{HEAD}name: {name}\n{dedent(text).strip()}\n")
    return file


def refused(engine: OrchestrationEngine, file: Path) -> list[str]:
    """The faults of a file, which are the same whether it is checked or run; nothing of it has begun."""
    with pytest.raises(ValidationError) as caught:
        engine.start_workflow(file.name)
    told = [str(fault) for fault in caught.value.faults]
    assert [str(fault) for fault in engine.workflows.validate_workflow(file.name)] == told
    assert engine.reader.runs(1)[2] == 0
    return told


def said_by_validate(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `workflows validate` prints of faults, on one line."""
    capsys.readouterr()
    assert run(["workflows", "validate", *words]) == 2
    return " ".join(capsys.readouterr().out.split())


def asked(engine: OrchestrationEngine, **approval: Any) -> str:
    """The id of a run that waits for an approval `ship`."""
    workflow = Workflow("asking")
    workflow.approval("ship", "Ship it?", **approval)
    started = engine.start_workflow(workflow)
    wait_until(lambda: started.tasks["ship"].reason == "approval")
    return str(started.execution_id)


def same(value: Any) -> Any:
    return value


# -- people ------------------------------------------------------------------------------------


def test_an_answer_that_breaks_its_form_is_refused_and_the_question_stays_open(
    engine: OrchestrationEngine,
) -> None:
    form = {
        "type": "object",
        "properties": {"copies": {"type": "integer", "minimum": 1}},
        "required": ["copies"],
    }
    run_id = asked(engine, form=form)

    with pytest.raises(ValidationError) as caught:
        engine.answer(run_id, "ship", data={"copies": 0})
    assert [fault.path for fault in caught.value.faults] == ["data.copies"]
    with pytest.raises(ValidationError, match='"copies" is a required property'):
        engine.answer(run_id, "ship")

    engine.answer(run_id, "ship", data={"copies": 2}, by="ada")
    assert engine.wait(run_id, 10)


def test_data_without_a_form_is_refused(engine: OrchestrationEngine) -> None:
    run_id = asked(engine)
    with pytest.raises(ValidationError, match="this approval has no form, so no data goes with it"):
        engine.answer(run_id, "ship", data={"copies": 2})
    engine.cancel(run_id)
    assert engine.wait(run_id, 10)


def test_an_approver_who_is_not_named_is_refused(engine: OrchestrationEngine) -> None:
    run_id = asked(engine, who=["ada", "grace"])
    with pytest.raises(NotAllowed, match="'eve' may not answer this; who may: ada, grace"):
        engine.answer(run_id, "ship", by="eve")
    engine.answer(run_id, "ship", by="grace")
    assert engine.wait(run_id, 10)


def test_a_second_answer_is_refused(engine: OrchestrationEngine) -> None:
    run_id = asked(engine)
    engine.answer(run_id, "ship", approved=False, by="ada")
    assert engine.wait(run_id, 10)
    with pytest.raises(Conflict):
        engine.answer(run_id, "ship", by="eve")


def test_a_form_that_is_no_schema_is_told_before_anybody_is_asked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "form", "steps:\n  - {name: a, approval: {message: Ship?, form: {type: objct}}}")
    said = said_by_validate(capsys, "form.yaml")
    assert "form.yaml:4: steps[0] 'a'.approval.form: the form is not a JSON Schema" in said


# -- fan-outs ----------------------------------------------------------------------------------


def test_a_foreach_over_a_mapping_of_values_is_told_with_its_line(
    engine: OrchestrationEngine, project: Path
) -> None:
    file = write(project, "spread", 'steps:\n  - {name: a, run: ["true"], foreach: {x: 1, y: 2}}')
    told = refused(engine, file)
    assert all("spread.yaml:4: " in each for each in told)
    assert "each name of a grid has a list of values, or a reference to one; got the number 1" in told[0]


def test_a_foreach_over_a_result_that_is_a_mapping_fails_its_step(engine: OrchestrationEngine) -> None:
    workflow = Workflow("spread")
    table = workflow.step(dict, a=1, b=2).options(name="table")
    workflow.map(same, over=table.output).options(name="each")
    ended = engine.execute_workflow(workflow)
    assert "foreach wants a list, got a mapping" in str(ended.error)
    assert ended.tasks["each"].status == "failed"


def test_a_foreach_over_a_parameter_that_is_a_mapping_fails_its_step(
    engine: OrchestrationEngine, project: Path
) -> None:
    write(
        project,
        "spread",
        """
        parameters: {table: {type: object}}
        steps: [{name: each, run: ["true"], foreach: "${parameters.table}"}]
        """,
    )
    ended = engine.execute_workflow("spread.yaml", table={"a": 1})
    assert "step 'each': ExpressionError: foreach wants a list, got a mapping" in str(ended.error)


# -- children ----------------------------------------------------------------------------------


def chain(folder: Path, length: int) -> Path:
    """Files of which each calls the next; the first stands for the root."""
    for number in range(length):
        write(folder, f"c{number}", f"steps:\n  - {{name: down, workflow: ./c{number + 1}.yaml}}")
    write(folder, f"c{length}", f"steps:\n  - {STEP}")
    return folder / "c0.yaml"


def test_a_hundred_nested_runs_are_allowed_and_one_more_is_not(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = chain(project, 101)
    (told,) = refused(engine, file)
    assert told.startswith("./c100.yaml:4: steps[0] 'down'.workflow: runs would be nested more than 100 deep")
    assert "runs would be nested more than 100 deep" in said_by_validate(capsys, "c0.yaml")

    ended = engine.execute_workflow("c1.yaml")
    assert ended.success
    assert engine.reader.runs(1)[2] == 101


def test_a_chain_that_is_reached_by_a_longer_way_too_is_counted_by_the_longer(
    engine: OrchestrationEngine, project: Path
) -> None:
    chain(project, 100)
    file = write(
        project,
        "both",
        """
        steps:
          - {name: short, workflow: ./c1.yaml}
          - {name: long, workflow: ./c0.yaml}
        """,
    )
    (told,) = refused(engine, file)
    assert "nested more than 100 deep" in told


def test_a_workflow_that_calls_itself_is_refused(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(project, "again", "steps: [{name: once_more, workflow: ./again.yaml}]")
    (told,) = refused(engine, file)
    assert "again.yaml:3: steps[0] 'once_more'.workflow: the workflow would call itself:" in told
    assert "again.yaml -> again.yaml" in said_by_validate(capsys, "again.yaml")


def test_workflows_that_call_each_other_are_refused_and_the_way_round_is_told(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(project, "a", "steps: [{name: first, workflow: ./b.yaml}]")
    write(project, "b", "steps: [{name: second, workflow: ./a.yaml}]")
    (told,) = refused(engine, file)
    assert (
        "b.yaml:3: steps[0] 'second'.workflow: the workflow would call itself: a.yaml -> b.yaml -> a.yaml"
        in told
    )
    assert "b.yaml -> a.yaml -> b.yaml" in said_by_validate(capsys, "b.yaml")


def test_a_workflow_made_in_python_that_calls_itself_is_refused(engine: OrchestrationEngine) -> None:
    workflow = Workflow("ouroboros")
    workflow.child(workflow)
    (fault,) = engine.workflows.validate_workflow(workflow)
    assert "the workflow would call itself: ouroboros -> ouroboros" in fault.message
    with pytest.raises(ValidationError, match="call itself"):
        engine.start_workflow(workflow)


def test_a_child_that_does_not_exist_is_told_with_the_nearest_name(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        project,
        "parent",
        """
        steps:
          - {name: by_name, workflow: plian}
          - {name: by_file, workflow: ./codomyrmx.yaml}
        """,
    )
    by_name, by_file = refused(engine, file)
    assert by_name.startswith("parent.yaml:4: steps[0] 'by_name'.workflow: there is no workflow 'plian'")
    assert "did you mean 'plain'?" in by_name
    assert "did you mean './codomyrmex.yaml'?" in by_file
    assert "did you mean 'plain'?" in said_by_validate(capsys, "parent.yaml")


def test_every_fault_of_every_child_is_told_once_with_its_own_file_and_line(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "formless", "steps:\n  - {name: a, rum: x}")
    write(
        project,
        "faulty",
        """
        steps:
          - {name: a, call: "nowhere:f"}
          - {name: b, run: ["true"], needs: [gone]}
          - {name: deeper, workflow: ./formless.yaml}
        """,
    )
    file = write(
        project,
        "parent",
        """
        steps:
          - {name: one, workflow: ./faulty.yaml}
          - {name: two, workflow: ./faulty.yaml}
          - {name: three, workflow: ./absent.yaml}
        """,
    )
    told = refused(engine, file)
    for start in (
        "./faulty.yaml:4: steps[0] 'a'.call: there is no module 'nowhere'",
        "./faulty.yaml:5: steps[1] 'b'.needs: unknown step 'gone'",
        "./formless.yaml:4: steps[0] 'a'.rum: unknown key 'rum'",
        "parent.yaml:6: steps[2] 'three'.workflow: there is no workflow './absent.yaml'",
    ):
        assert sum(each.startswith(start) for each in told) == 1, told
    assert "1 workflow" not in said_by_validate(capsys, "parent.yaml", "codomyrmex.yaml")


def test_parameters_that_a_child_would_refuse_are_told_where_they_are_given(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, "deploy", f"parameters: {{copies: {{type: integer}}}}\nsteps: [{STEP}]")
    file = write(
        project,
        "parent",
        """
        parameters: {copies: {type: string, default: three}}
        steps:
          - {name: unknown, workflow: ./deploy.yaml, with: {copies: 1, copy: 2}}
          - {name: missing, workflow: ./deploy.yaml}
          - {name: wrong, workflow: ./deploy.yaml, with: {copies: many}}
          - {name: fine, workflow: ./deploy.yaml, with: {copies: 3}}
          - {name: later, workflow: ./deploy.yaml, with: {copies: "${parameters.copies}"}}
        """,
    )
    unknown, missing, wrong = refused(engine, file)
    assert "parent.yaml:5: steps[0] 'unknown'.with.copy: there is no parameter 'copy'" in unknown
    assert "did you mean 'copies'?" in unknown
    assert "steps[1] 'missing'" in missing
    assert "write it in the step: with: {copies: ...}" in missing
    assert "steps[2] 'wrong'.with.copies: an integer is needed, got text 'many'" in wrong
    assert "'wrong'.with.copies" in said_by_validate(capsys, "parent.yaml")


def test_a_parameter_that_is_wrong_only_when_it_is_known_fails_the_step(
    engine: OrchestrationEngine, project: Path
) -> None:
    write(project, "deploy", f"parameters: {{copies: {{type: integer}}}}\nsteps: [{STEP}]")
    write(
        project,
        "parent",
        """
        parameters: {copies: {type: string}}
        steps: [{name: later, workflow: ./deploy.yaml, with: {copies: "${parameters.copies}"}}]
        """,
    )
    ended = engine.execute_workflow("parent.yaml", copies="many")
    assert "workflow './deploy.yaml' refuses its parameters" in str(ended.error)
    assert "an integer is needed, got text 'many'" in str(ended.error)


# -- secrets and phases ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("outputs", 'steps: [{name: work, run: ["true"]}]\noutputs: {report: "${secrets.TOKEN}"}'),
        ("cache", 'steps: [{name: work, run: ["true"], cache: {outputs: ["${secrets.TOKEN}"]}}]'),
        ("working_dir", 'steps: [{name: work, run: ["true"], working_dir: "${secrets.TOKEN}"}]'),
    ],
)
def test_a_secret_in_an_output_path_is_refused_because_it_would_be_shown(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str], place: str, text: str
) -> None:
    (told,) = refused(engine, write(project, "leaky", text))
    assert f"{place}: ${{secrets.TOKEN}} must not stand here: " in told
    assert "stored and shown" in said_by_validate(capsys, "leaky.yaml")


@pytest.mark.parametrize(
    "key", ['working_dir: "/tmp/${secrets.TOKEN}"', 'cache: {outputs: ["out/${secrets.TOKEN}.txt"]}']
)
def test_a_secret_within_a_path_is_refused(engine: OrchestrationEngine, project: Path, key: str) -> None:
    (told,) = refused(engine, write(project, "leaky", f'steps: [{{name: work, run: ["true"], {key}}}]'))
    assert "a secret may only be the whole of a parameter" in told


def test_a_reference_to_a_later_phase_is_refused(
    engine: OrchestrationEngine, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        project,
        "early",
        """
        steps:
          - {name: work, run: [echo, "${steps.close.output.stdout}"]}
        on_failure:
          - {name: tell, run: [echo, "${steps.close.output.stdout}"]}
        finally:
          - {name: close, run: ["true"]}
        outputs: {last: "${steps.close.output}"}
        """,
    )
    told = refused(engine, file)
    assert len(told) == 3
    assert sum("is not there yet: 'close' is of `finally`" in each for each in told) == 2
    assert sum("is not there yet: outputs are worked out when main has ended" in each for each in told) == 1
    assert "early.yaml:4: steps[0] 'work'.run" in said_by_validate(capsys, "early.yaml")


def test_a_handler_that_needs_a_step_of_another_phase_is_refused(
    engine: OrchestrationEngine, project: Path
) -> None:
    file = write(
        project,
        "mixed",
        f"""
        steps: [{STEP}]
        on_failure:
          - {{name: tell, run: ["true"], needs: [close]}}
        finally:
          - {{name: close, run: ["true"], needs: [work]}}
        """,
    )
    tell, close = refused(engine, file)
    assert "'close' is not a step of `on_failure`" in tell + close
    assert "'work' is not a step of `finally`" in tell + close
