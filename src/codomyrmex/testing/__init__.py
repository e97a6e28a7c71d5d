"""For the tests of whoever uses this package, and for ours.

Layer: above the engine; nothing that runs in production imports it.

    from codomyrmex.testing import run_workflow

    def test_the_report_survives_a_failed_download():
        run = run_workflow("nightly.yaml", stubs={"download": [ConnectionError("gone"), {"rows": 3}]})
        assert run.success and run.attempts("download") == 2

`run_workflow` runs in memory and in virtual time: the delay before a retry passes at once. `assert_resumes`
kills real engines. `FaultyDatabase` fails commits. The pytest fixture `codomyrmex_engine` is an engine in
memory; import it in a `conftest.py`.
"""

from __future__ import annotations

from typing import Any

from codomyrmex.clock import ManualClock, VirtualClock
from codomyrmex.testing.faulty_database import FaultyDatabase
from codomyrmex.testing.finished_run import FinishedRun, run_workflow
from codomyrmex.testing.resumption import assert_resumes

__all__ = [
    "FaultyDatabase",
    "FinishedRun",
    "ManualClock",
    "VirtualClock",
    "assert_resumes",
    "codomyrmex_engine",
    "run_workflow",
]


def __getattr__(name: str) -> Any:
    if name == "codomyrmex_engine":  # the only name that needs pytest
        from codomyrmex.testing.fixtures import codomyrmex_engine

        return codomyrmex_engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
