"""`shell.run` and `python.run`, in a worker as always."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from waiting import wait_until

Make = Callable[..., Attempt]
SHELL = {"module": "shell"}


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def value_of(outcome: Outcome) -> Any:
    assert outcome.result is not None, outcome
    return values.decode(outcome.result)


def test_a_list_is_run_as_it_is_and_a_text_by_bash_with_its_safety_on(
    executor: ProcessExecutor, make: Make
) -> None:
    listed = executor.run(make("run", SHELL, command=["printf", "%s|", "a b", "$HOME", 3]))
    assert value_of(listed) == {"exit_code": 0, "stdout": "a b|$HOME|3|", "stderr": ""}
    text = executor.run(make("run", SHELL, command="echo $((1 + 2)); echo no >&2", shell=True))
    assert value_of(text) == {"exit_code": 0, "stdout": "3\n", "stderr": "no\n"}
    for unsafe in ("false; true", "false | true", "echo $UNSET_NAME; true"):
        assert executor.run(make("run", SHELL, command=unsafe, shell=True)).kind is OutcomeKind.FAILED


def test_folder_environment_and_standard_input_are_given(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    given = {"cwd": str(tmp_path), "env": {"N": 5}, "stdin": "line\n"}
    done = executor.run(
        make("run", SHELL, command="pwd; echo $N $CODOMYRMEX_ATTEMPT; cat", shell=True, **given)
    )
    folder, line, stdin = value_of(done)["stdout"].splitlines()
    assert folder == str(tmp_path)
    assert line.startswith("5 1.run.run.")
    assert stdin == "line"
    assert value_of(executor.run(make("run", SHELL, command=["cat"])))["stdout"] == ""


@pytest.mark.parametrize(
    ("given", "exit_code", "message"),
    [
        ({"command": ["sh", "-c", "echo why >&2; exit 3"]}, 3, "ended with exit code 3: why"),
        ({"command": ["absent-command"]}, 127, "command 'absent-command' was not found"),
        ({"command": ["true"], "cwd": "/absent"}, 127, "there is no folder '/absent'"),
        ({"command": ["/etc/passwd"]}, 126, "may not be executed"),
        ({"command": ["sh", "-c", "kill -9 $$"]}, 137, "was ended by signal 9"),
        ({"command": ["true"], "expect": [1, 2]}, 0, "ended with exit code 0 (expected: 1, 2)"),
        ({"command": "true"}, None, "needs 'shell: true'"),
        ({"command": ["true"], "shell": True}, None, "leave out 'shell: true'"),
        ({"command": [["a"]]}, None, "neither text nor a number"),
    ],
)
def test_a_command_that_did_not_do_its_work_fails_the_step_and_says_why(
    executor: ProcessExecutor, make: Make, given: dict[str, Any], exit_code: int | None, message: str
) -> None:
    outcome = executor.run(make("run", SHELL, **given))
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.error is not None
    assert message in outcome.error.message
    assert outcome.error.exit_code == exit_code


def test_an_expected_exit_code_is_a_completion(executor: ProcessExecutor, make: Make) -> None:
    done = executor.run(make("run", SHELL, command=["sh", "-c", "exit 1"], expect=[0, 1]))
    assert value_of(done)["exit_code"] == 1


def test_the_log_has_everything_the_result_the_tails(executor: ProcessExecutor, make: Make) -> None:
    attempt = make("run", SHELL, command="seq 1 50000; echo end >&2", shell=True)
    result = value_of(executor.run(attempt))
    log = Path(attempt.log_path or "").read_text()
    assert len(log.splitlines()) == 50001
    assert len(result["stdout"]) == 65536
    assert result["stdout"].endswith("49999\n50000\n")
    assert result["stderr"] == "end\n"


def test_output_can_be_followed_while_the_command_runs(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    command = f"echo begun; while [ ! -e '{flag}' ]; do sleep 0.01; done"
    attempt = make("run", SHELL, command=command, shell=True)
    thread = threading.Thread(target=executor.run, args=(attempt,))
    thread.start()
    log = Path(attempt.log_path or "")
    try:
        wait_until(lambda: log.exists() and log.read_text() == "begun\n")
    finally:
        flag.touch()
        thread.join()


def test_a_process_left_behind_holds_nothing_up_and_is_ended(
    executor: ProcessExecutor, make: Make, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    left = f"trap '' TERM; echo $$ > '{pid_file}'; sleep 60"
    command = f"setsid bash -c \"{left}\" & while [ ! -s '{pid_file}' ]; do sleep 0.01; done; echo done"
    outcome = executor.run(make("run", SHELL, command=command.replace("$$", "\\$\\$"), shell=True))
    assert value_of(outcome)["stdout"] == "done\n"
    wait_until(lambda: is_gone(int(pid_file.read_text())))


def test_a_timeout_ends_a_command_and_children_that_ignore_sigterm(
    executor: ProcessExecutor, make: Make, project: Path, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    script = f"import acts; acts.stubborn_and_wait({str(pid_file)!r})"
    options = {"module": "python", "timeout_s": 0.5, "env": {"PYTHONPATH": str(project)}}
    outcome = executor.run(make("run", options, code=script))
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert is_gone(int(pid_file.read_text())) or not os.path.exists(f"/proc/{pid_file.read_text()}/exe")


def test_a_python_script_runs_in_the_workers_interpreter(
    executor: ProcessExecutor, make: Make, project: Path
) -> None:
    (project / "script.py").write_text("import sys\nprint(sys.executable, *sys.argv[1:])\n")
    done = value_of(executor.run(make("run", {"module": "python"}, script="script.py", args=["a", 1])))
    executable, *arguments = done["stdout"].split()
    assert arguments == ["a", "1"]
    assert os.path.exists(executable)
    error = executor.run(make("run", {"module": "python"}, script="a", code="b")).error
    assert error is not None
    assert "either 'script'" in error.message
