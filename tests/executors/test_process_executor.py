"""A worker process runs project code and tells how it ended."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor, WorkerStartFailed

Make = Callable[..., Attempt]


def value_of(outcome: Outcome) -> Any:
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.result is not None
    return values.decode(outcome.result)


def test_parameters_arrive_and_the_result_comes_back_with_its_times(
    executor: ProcessExecutor, make: Make
) -> None:
    before_us = time.time_ns() // 1000
    outcome = executor.run(make("add", a=40, b=2))
    assert value_of(outcome) == 42
    assert before_us <= outcome.started_us <= outcome.ended_us <= time.time_ns() // 1000
    assert 0 <= outcome.duration_s < 5


def test_values_beyond_json_keep_their_types_on_both_ways(executor: ProcessExecutor, make: Make) -> None:
    given = {
        "path": Path("/a/b"),
        "pair": (1, 2),
        "raw": b"\x00\xff",
        "none": float("inf"),
        "text": "é\udcff",
    }
    assert value_of(executor.run(make("echo", **given))) == given


def test_a_worker_is_used_again_and_ready_within_three_times_the_promise(
    executor: ProcessExecutor, make: Make
) -> None:
    started = time.perf_counter()
    executor.run(make("nothing"))
    first_s = time.perf_counter() - started
    first = value_of(executor.run(make("look")))["env"]["CODOMYRMEX_WORKER"]
    assert value_of(executor.run(make("look")))["env"]["CODOMYRMEX_WORKER"] == first
    assert first_s < 3 * 0.120


def test_a_large_result_and_large_parameters_pass(executor: ProcessExecutor, make: Make) -> None:
    text = "x" * 3_000_000
    assert value_of(executor.run(make("echo", text=text))) == {"text": text}


def test_a_failure_names_type_classes_message_and_the_users_frame(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    outcome = executor.run(make("fail"))
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == ("ConnectionError", "no route")
    assert outcome.error.mro == ("ConnectionError", "OSError", "Exception", "BaseException")
    assert outcome.error.frame is not None
    assert outcome.error.frame.startswith(f"{project}/acts.py:")
    assert outcome.error.frame.endswith(" fail")
    assert outcome.error.traceback is not None
    assert "runner.py" not in outcome.error.traceback


def test_a_wrong_parameter_is_a_failure_that_points_at_the_function(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    error = executor.run(make("add", a=1, c=2)).error
    assert error is not None
    assert error.type == "TypeError"
    assert error.frame is not None
    assert error.frame.startswith(f"{project}/acts.py:")


@pytest.mark.parametrize(
    ("action", "given", "kind", "message"),
    [
        ("opaque", {}, OutcomeKind.UNSERIALISABLE, "output.rows[1] is a builtins.object"),
        ("hoard", {}, OutcomeKind.OUT_OF_MEMORY, "MemoryError"),
        ("leave", {"code": 3}, OutcomeKind.FAILED, "the action called sys.exit(3)"),
        ("ad", {}, OutcomeKind.FAILED, "module 'acts' has no action 'ad'; did you mean 'add'?"),
    ],
)
def test_ways_not_to_complete_are_told_apart(
    executor: ProcessExecutor, make: Make, action: str, given: dict[str, Any], kind: OutcomeKind, message: str
) -> None:
    outcome = executor.run(make(action, **given))
    assert outcome.kind is kind
    assert outcome.error is not None
    assert message in outcome.error.message


def test_leaving_with_exit_code_0_is_a_completion_without_a_value(
    executor: ProcessExecutor, make: Make
) -> None:
    assert value_of(executor.run(make("leave", code=0))) is None


def test_a_missing_module_is_told_from_a_missing_import_inside_one(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    (project / "needy.py").write_text("import not_there_at_all\n")
    missing = executor.run(make("x", {"module": "absent"})).error
    inside = executor.run(make("x", {"module": "needy"})).error
    assert missing is not None
    assert inside is not None
    assert missing.type == "ActionNotFound"
    assert "'absent'" in missing.message
    assert inside.type == "ModuleNotFoundError"
    assert inside.frame == f"{project}/needy.py:1 <module>"


def test_a_coroutine_function_is_run_to_its_end(executor: ProcessExecutor, make: Make) -> None:
    assert value_of(executor.run(make("later", value=5))) == 5


def test_the_action_sees_its_attempt_environment_and_folder(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    attempt = make("look", {"env": {"COLOUR": "red"}, "working_dir": str(tmp_path)})
    seen = value_of(executor.run(attempt))
    assert seen["cwd"] == str(tmp_path)
    assert seen["env"]["COLOUR"] == "red"
    assert seen["env"]["CODOMYRMEX_ATTEMPT"] == attempt.token
    assert value_of(executor.run(make("whoami")))[:2] == ["run", "whoami"]


def test_what_one_attempt_changes_in_its_process_the_next_does_not_see(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    executor.run(make("litter", {"env": {"COLOUR": "red"}}))
    seen = value_of(executor.run(make("look")))
    assert seen["cwd"] == str(project)
    assert not {"LITTER", "COLOUR"} & set(seen["env"])
    assert "HOME" in seen["env"]
    attempt = make("say", text="heard")
    executor.run(attempt)
    assert Path(attempt.log_path or "").read_text() == "heard\n"


def test_variables_that_count_at_the_start_get_a_worker_started_with_them(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    (project / "early.py").write_text(
        "import os\nTHREADS = os.environ.get('OMP_NUM_THREADS')\ndef threads(): return THREADS\n"
    )
    for count in ("1", "2"):
        attempt = make("threads", {"module": "early", "env": {"OMP_NUM_THREADS": count}})
        assert value_of(executor.run(attempt)) == count


def test_progress_metrics_and_log_reach_the_engine(make: Make, tmp_path: Path) -> None:
    notes: list[tuple[str, dict[str, Any]]] = []
    executor = ProcessExecutor(
        spool_dir=str(tmp_path / "spool"),
        engine_token="notes",
        max_workers=1,
        on_note=lambda token, note: notes.append((token, dict(note))),
    )
    try:
        attempt = make("report_progress")
        assert executor.run(attempt).kind is OutcomeKind.COMPLETED
    finally:
        executor.close()
    assert [(token, note["kind"]) for token, note in notes] == [
        (attempt.token, "progress"),
        (attempt.token, "progress"),
        (attempt.token, "metric"),
    ]
    assert notes[1][1]["done"] == 2
    assert Path(attempt.log_path or "").read_text().endswith("INFO a line\n")


def test_a_secret_is_put_in_its_place_and_into_no_environment(executor: ProcessExecutor, make: Make) -> None:
    options = {"secrets": {"TOKEN": "s3cret"}, "parameters": b'{"key":{"$secret":"TOKEN"}}'}
    assert value_of(executor.run(make("tell_secret", options))) == ["terc3s", "terc3s"]
    seen = value_of(executor.run(make("look", {"secrets": {"TOKEN": "s3cret"}})))
    assert "s3cret" not in str(seen)


def test_a_file_beside_the_workflow_is_an_action_module_under_its_own_name(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    (project / "tool.py").write_text("def name(): return __name__\n")
    (project / "my-tool.py").write_text("def name(): return __name__\n")
    (project / "json.py").write_text("def name(): return __name__\n")
    assert value_of(executor.run(make("name", {"module": "./tool.py"}))) == "tool"
    odd = value_of(executor.run(make("name", {"module": "./my-tool.py"})))
    assert odd.startswith("file_my_tool_")
    assert value_of(executor.run(make("name", {"module": "./json.py"}))).startswith("file_json_")


def test_several_threads_run_attempts_at_once_on_workers_of_their_own(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    flag = tmp_path / "go"
    outcomes: list[Outcome] = []
    attempts = [make("wait", until=str(flag)) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda one=one: outcomes.append(executor.run(one))) for one in attempts
    ]
    for thread in threads:
        thread.start()
    flag.touch()
    for thread in threads:
        thread.join()
    assert [value_of(outcome) for outcome in outcomes] == ["waited"] * 3


def test_actions_are_described_without_being_imported_here(executor: ProcessExecutor, project: Path) -> None:
    before = sys.modules.get("acts")
    asked = [("acts", "declared"), ("acts", "decalred"), ("absent", "x"), ("shell", "run")]
    found, near, absent, shell = executor.describe(asked, roots=[str(project)])
    assert found["found"]
    assert (found["effects"], found["timeout_s"], found["registered"]) == ("unsafe", 3, True)
    assert [item["name"] for item in found["parameters"]] == ["path", "count", "deep"]
    assert [item["required"] for item in found["parameters"]] == [True, False, False]
    assert found["parameters"][1]["default"] == 2
    assert found["parameters"][0]["annotation"] == "str"
    assert found["doc"] == "What it is for."
    assert found["file"] == str(project / "acts.py")
    assert len(found["fingerprint"]) == 64
    assert "did you mean 'declared'?" in near["error"]["message"]
    assert absent["found"] is False
    assert shell["found"]
    assert sys.modules.get("acts") is before


def test_an_interpreter_that_cannot_start_is_a_lost_attempt_that_says_why(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no library here >&2\nexit 4\n")
    broken.chmod(0o755)
    outcome = executor.run(make("nothing", {"python": str(broken)}))
    assert outcome.kind is OutcomeKind.LOST
    assert outcome.error is not None
    assert "exit status 4" in outcome.error.message
    assert "no library here" in outcome.error.message
    missing = executor.run(make("nothing", {"python": str(tmp_path / "absent")}))
    assert missing.kind is OutcomeKind.LOST
    with pytest.raises(WorkerStartFailed):
        executor.describe([("acts", "add")], python=str(broken))


def test_workers_prepared_ahead_are_taken(executor: ProcessExecutor, make: Make, project: Path) -> None:
    executor.prepare(2, roots=[str(project)])
    executor.prepare(2, roots=[str(project)])
    assert executor.run(make("nothing")).kind is OutcomeKind.COMPLETED
    assert executor._pool.started == 2


def test_a_closed_executor_starts_nothing(make: Make, tmp_path: Path) -> None:
    executor = ProcessExecutor(spool_dir=str(tmp_path / "s"), engine_token="closed", max_workers=1)
    executor.close()
    executor.close()
    assert executor.run(make("nothing")).kind is OutcomeKind.LOST
