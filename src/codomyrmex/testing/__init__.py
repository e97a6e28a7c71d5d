"""For the tests of whoever uses this package, and for ours.

Layer: above the engine; nothing that runs in production imports it.

    from codomyrmex.testing import run_workflow

    def test_the_report_survives_a_failed_download():
        run = run_workflow("nightly.yaml", stubs={"download": [ConnectionError("gone"), {"rows": 3}]})
        assert run.success and run.attempts("download") == 2

`run_workflow` runs in memory and in virtual time: delays, sleeps and time limits pass at once, and approvals,
signals and child runs have stubs too (`stubs={"approve": True}`). `assert_resumes` kills real engines.
`FaultyDatabase` fails commits, `FakeGpus` stand in for devices. The pytest fixture `codomyrmex_engine` is an
engine in memory; pytest knows it as soon as this package is installed. `codomyrmex workflows test` does the
same for cases in files.
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "FakeGpus": "codomyrmex.testing.fake_gpus",
    "FaultyDatabase": "codomyrmex.testing.faulty_database",
    "FinishedRun": "codomyrmex.testing.finished_run",
    "ManualClock": "codomyrmex.clock",
    "VirtualClock": "codomyrmex.clock",
    "assert_resumes": "codomyrmex.testing.resumption",
    "codomyrmex_engine": "codomyrmex.testing.fixtures",
    "run_workflow": "codomyrmex.testing.finished_run",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
