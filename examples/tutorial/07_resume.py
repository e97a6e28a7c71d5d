"""Kill the engine at any instant, and the run goes on where it was."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codomyrmex import OrchestrationEngine

# %% A project of two files: ten pages are written into a book, one after the other.
WORKFLOW = """
codomyrmex: 1
name: book
steps:
  - {name: page, call: "./pages.py:write", with: {number: "${item}"}, foreach: "${range(10)}", max_parallel: 1}
outputs: {pages: "${steps.page.output}"}
"""
ACTIONS = """
import os, time
def write(number):
    with open("book.txt", "a") as book:
        book.write(f"{number} ")
    if number == 6 and not os.path.exists("killed"):
        open("reached", "w").close()
        time.sleep(60)   # time to be killed in
    return number
"""


def run_and_kill(project: Path) -> int:
    """Runs the workflow as `codomyrmex run` would, and kills that process in the middle of page 6."""
    process = subprocess.Popen([sys.executable, "-m", "codomyrmex", "run", "-q"], cwd=project)
    while not (project / "reached").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    return process.wait()


# %% Pages 0 to 5 were recorded and are not written again. Page 6 was under way, so it is: at least once, said honestly.
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "codomyrmex.yaml").write_text(WORKFLOW)
        (project / "pages.py").write_text(ACTIONS)
        print(
            "killed:",
            run_and_kill(project) == -signal.SIGKILL,
            "- written:",
            (project / "book.txt").read_text(),
        )

        (project / "killed").touch()
        with OrchestrationEngine(root=project, recover=False) as engine:
            for run_id in engine.recover():
                engine.wait(run_id)
            run = engine.workflows.get_execution_status("@last")
            print(f"{run.status.value} - written: {(project / 'book.txt').read_text()}")
            print("recorded:", run.outputs["pages"])
