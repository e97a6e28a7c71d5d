"""What a notebook needs beyond the tutorial's programs: a loop that runs already, pages, output in its own cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codomyrmex import NotResumable, OrchestrationEngine

CELLS = """
import asyncio
from codomyrmex import OrchestrationEngine, Workflow, configure
configure(state=STATE)

def double(number: int) -> int:
    print("doubling", number)
    return 2 * number

async def half(number: int) -> float:
    await asyncio.sleep(0)
    return number / 2

def build(number: int) -> Workflow:
    workflow = Workflow("cells")
    doubled = workflow.step(double, number=number)
    workflow.step(half, number=doubled.output)
    workflow.step(lambda number: -number, number=doubled.output)
    return workflow

# %% a loop runs in this thread, and run() waits beside it
assert asyncio.get_running_loop().is_running()
run = build(4).run()
run
# %% what is printed belongs to the cell that asked for it
again = await asyncio.to_thread(build(5).run)
print(dict(again.results))
# %% a workflow is shown as its graph, before it has run
build(6)
# %% a failure is shown as one too
def broken() -> None:
    raise ValueError("<script>alert(1)</script>")
failing = Workflow("failing")
failing.step(broken)
failed = failing.start()
failed.wait()
failed
# %% an edit of a cell takes effect at the next run
def double(number: int) -> int:
    return 20 * number
print(build(1).run().results["double"])
"""


def in_a_kernel(folder: Path, program: str) -> dict[str, Any]:
    (folder / "cells.py").write_text(program)
    home = folder / "home"
    environment = {
        **os.environ,
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
    }
    kernel = Path(__file__).with_name("notebook_kernel.py")
    done = subprocess.run(
        [sys.executable, str(kernel), str(folder), "cells", str(folder / "cells.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["cells.py"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("notebook")
    return folder, in_a_kernel(folder, f"STATE = {str(folder / 'state')!r}\n{CELLS}")


def test_a_run_works_while_the_kernel_has_a_loop_of_its_own(notebook: tuple[Path, dict[str, Any]]) -> None:
    assert notebook[1]["errors"] == []


def test_what_actions_print_appears_in_the_cell_that_runs_them(notebook: tuple[Path, dict[str, Any]]) -> None:
    printed = notebook[1]["stdout"]  # only what answers the cell at hand is collected
    assert printed == "doubling 4\ndoubling 5\n{'double': 10, 'half': 5.0, 'lambda': -10}\n20\n"


def test_a_run_is_shown_as_a_page_and_as_a_line(notebook: tuple[Path, dict[str, Any]]) -> None:
    run, _workflow, failed = notebook[1]["shown"]
    assert "of 'cells': completed" in run["text/plain"]
    assert "3 tasks: 3 completed" in run["text/html"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in failed["text/html"]
    assert "<script" not in failed["text/html"]


def test_a_workflow_is_shown_with_its_graph_and_what_binds_it_to_this_kernel(
    notebook: tuple[Path, dict[str, Any]],
) -> None:
    page = notebook[1]["shown"][1]["text/html"]
    assert "<svg" in page
    assert "which cannot find these functions: double, half, lambda" in page


TYPED = """
import os
from codomyrmex import OrchestrationEngine, Workflow

def last_words():
    os.kill(os.getpid(), 9)

workflow = Workflow("typed")
workflow.step(last_words)
OrchestrationEngine(state="state").execute_workflow(workflow)
"""


def test_a_function_that_was_typed_in_cannot_be_found_by_another_process(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", TYPED], cwd=tmp_path, check=False)
    with (
        OrchestrationEngine(state=tmp_path / "state", recover=False) as engine,
        pytest.raises(NotResumable, match="__main__:last_words"),
    ):
        engine.resume(engine.reader.find("@last"))
