"""Rules for every test: nothing is left behind, and on the build machine nothing is silently left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import hypothesis
import pytest

import leftovers
import waiting

ON_BUILD_MACHINE = os.environ.get("CI", "").lower() not in ("", "0", "false", "no")
SETTLING_S = float(os.environ.get("CODOMYRMEX_TEST_SETTLING_S", "5"))

leftovers.mark_environment()
# Speed is measured in `benchmarks/`: on a busy machine a deadline would only say that it was busy. The build
# machine tries the same examples each time; everybody else looks for new ones.
hypothesis.settings.register_profile(
    "codomyrmex",
    deadline=None,
    derandomize=ON_BUILD_MACHINE,
    database=None if ON_BUILD_MACHINE else hypothesis.settings.default.database,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("codomyrmex")


@pytest.fixture(autouse=True, scope="session")
def a_host_for_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a module's own fixtures open shares the machine with nothing outside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path_factory.mktemp("host")))
        yield


@pytest.fixture(autouse=True)
def a_host_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of one test share the machine with each other, not with whatever else runs on it."""
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path_factory.mktemp("host")))


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`waiting.wait_until`, for tests that would rather not import it."""
    return waiting.wait_until


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fails a test after which a child process or a thread lives on; a module's fixtures may hold theirs."""
    children, threads = leftovers.children(), leftovers.threads()
    yield
    left = (leftovers.children() - children, leftovers.threads() - threads)
    if any(left):
        left = _settled(children, threads)
    if left[0]:
        pytest.fail(f"left child processes behind: {leftovers.described(left[0])}")
    if left[1]:
        pytest.fail(f"left threads behind: {', '.join(sorted(thread.name for thread in left[1]))}")


@pytest.fixture(autouse=True, scope="module")
def nobody_slipped_away() -> Iterator[None]:
    """Fails when a module's tests leave a process anywhere, one with a session of its own included."""
    before = leftovers.marked()
    yield
    escaped = leftovers.marked() - before
    if escaped:
        try:
            waiting.wait_until(lambda: not leftovers.marked() - before, timeout_s=SETTLING_S)
        except AssertionError:
            pytest.fail(f"processes live on: {leftovers.described(leftovers.marked() - before)}")


def _settled(children: set[int], threads: set[Any]) -> tuple[set[int], set[Any]]:
    """What is still there after those that are about to end have had time to."""

    def left() -> tuple[set[int], set[Any]]:
        return leftovers.children() - children, leftovers.threads() - threads

    try:
        waiting.wait_until(lambda: not any(left()), timeout_s=SETTLING_S)
    except AssertionError:
        return left()
    return set(), set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("may_skip") is None:
        _refuse_skip(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _refuse_skip(report, report.nodeid)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, what: str) -> None:
    """Turns a skip into a failure where the environment is ours and has everything a test may want."""
    if ON_BUILD_MACHINE:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = (
            f"{what} was skipped on the build machine ({reason}); there a skip is a failure "
            "unless the test is marked `may_skip`"
        )
