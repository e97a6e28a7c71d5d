"""Which attempts share a worker, and the variables that a worker starts with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors import worker_kinds
from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt, Outcome, OutcomeKind
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.worker_kinds import (
    THREAD_CAPS,
    WorkerKind,
    WorkerKinds,
    starting_environment,
)

Make = Callable[..., Attempt]
NO_DEVICE = {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
ONE_DEVICE = {**NO_DEVICE, "CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "1"}


def seen(outcome: Outcome) -> dict[str, str]:
    assert outcome.kind is OutcomeKind.COMPLETED, outcome
    assert outcome.result is not None
    found: dict[str, str] = values.decode(outcome.result)["env"]
    return found


def started(base: dict[str, str], **kind: Any) -> dict[str, str]:
    return starting_environment(WorkerKind(python="python", **kind), base)


@pytest.mark.parametrize(
    ("fields", "alike"),
    [
        ({}, True),
        ({"env": {"COLOUR": "red"}}, True),
        ({"memory_bytes": 2**20}, True),
        ({"gpu_env": {}}, True),
        ({"threads": 2}, False),
        ({"gpu_env": NO_DEVICE}, False),
        ({"clean_env": ()}, False),
        ({"memory_bytes": 2**20, "memory_hard": True}, False),
        ({"env": {"OMP_NUM_THREADS": "1"}}, False),
        ({"env": {"VECLIB_MAXIMUM_THREADS": "1"}}, False),
        ({"env": {"PYTHONHASHSEED": "1"}}, False),
    ],
)
def test_attempts_share_a_worker_when_nothing_that_counts_at_its_start_differs(
    make: Make, fields: dict[str, Any], alike: bool
) -> None:
    kinds = WorkerKinds("python")
    assert (kinds.of(make("nothing")) is kinds.of(make("nothing", fields))) is alike
    assert kinds.of(make("nothing", fields)) is kinds.of(make("nothing", fields))


def test_the_order_of_variables_makes_no_kind_and_the_default_interpreter_may_be_named(make: Make) -> None:
    kinds = WorkerKinds("python")
    turned = dict(reversed(NO_DEVICE.items()))
    assert kinds.of(make("x", {"gpu_env": NO_DEVICE})) is kinds.of(make("x", {"gpu_env": turned}))
    plain = make("x", {"python": "python"})
    assert kinds.of(plain) is kinds.of(make("x")) is kinds.plain(None, plain.roots)


def test_kinds_are_not_remembered_without_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_kinds, "KINDS_AT_MOST", 10)
    kinds = WorkerKinds("python")
    for seed in range(40):
        kinds.of(make("x", {"env": {"PYTHONHASHSEED": str(seed)}}))
        assert len(kinds._kinds) <= 12


def test_only_a_device_that_can_be_seen_is_held(make: Make) -> None:
    kinds = WorkerKinds("python")
    assert not kinds.of(make("x", {"gpu_env": NO_DEVICE})).holds_devices
    assert kinds.of(make("x", {"gpu_env": ONE_DEVICE})).holds_devices


@pytest.mark.parametrize(
    ("inherited", "threads", "found"),
    [("", 2, "2"), ("1", 2, "1"), ("8", 2, "2"), ("2,4", 3, "2,4"), ("0", 2, "2"), ("all", 2, "2")],
)
def test_a_thread_cap_stands_unless_a_smaller_one_is_inherited(
    inherited: str, threads: int, found: str
) -> None:
    environment = started({"MKL_NUM_THREADS": inherited}, threads=threads)
    assert environment["MKL_NUM_THREADS"] == found
    assert environment["POLARS_MAX_THREADS"] == str(threads)


def test_without_a_number_of_threads_what_is_inherited_is_left_alone() -> None:
    assert started({"OMP_NUM_THREADS": "8"}) == {"OMP_NUM_THREADS": "8"}


def test_what_the_step_chose_wins_over_thread_caps_and_devices() -> None:
    chosen = (("CUDA_VISIBLE_DEVICES", "7"), ("OMP_NUM_THREADS", "16"))
    environment = started(
        {"OMP_NUM_THREADS": "4"}, threads=2, devices=tuple(ONE_DEVICE.items()), environment=chosen
    )
    assert environment["OMP_NUM_THREADS"] == "16"
    assert environment["CUDA_VISIBLE_DEVICES"] == "7"
    assert environment["ROCR_VISIBLE_DEVICES"] == "1"


def test_a_clean_environment_keeps_what_any_program_needs_limits_and_what_is_named() -> None:
    base = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "TOKEN": "t",
        "EDITOR": "vi",
        "CUDA_VISIBLE_DEVICES": "0",
        "RAYON_NUM_THREADS": "1",
        "CODOMYRMEX_ATTEMPT": "a",
        "CODOMYRMEX_SECRET_KEY": "s",
        "CODOMYRMEX_STATE": "/state",
    }
    few = {"PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES", "RAYON_NUM_THREADS", "CODOMYRMEX_ATTEMPT"}
    assert set(started(base, inherited=())) == few
    assert set(started(base, inherited=("EDITOR", "ABSENT"))) == few | {"EDITOR"}


def test_a_secret_of_the_engines_own_environment_is_not_inherited_unless_it_is_named() -> None:
    base = {"PATH": "/bin", "CODOMYRMEX_SECRET_KEY": "s"}
    assert set(started(base)) == {"PATH"}
    assert set(started(base, inherited=("CODOMYRMEX_SECRET_KEY",))) == set(base)


def test_an_attempt_sees_its_caps_and_devices_from_the_start_and_the_next_one_its_own(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("UNRELATED", "yes")
    capped = seen(executor.run(make("look", {"threads": 3, "gpu_env": NO_DEVICE})))
    assert {capped[name] for name in THREAD_CAPS} == {"3"}
    assert capped["CUDA_VISIBLE_DEVICES"] == ""
    own = seen(executor.run(make("look", {"threads": 3, "env": {"OMP_NUM_THREADS": "9"}})))
    assert (own["OMP_NUM_THREADS"], own["MKL_NUM_THREADS"]) == ("9", "3")
    plain = seen(executor.run(make("look")))
    assert plain["OMP_NUM_THREADS"] == "5"
    assert plain["UNRELATED"] == "yes"


def test_a_worker_with_a_clean_environment_runs_and_sees_little(
    executor: ProcessExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRELATED", "yes")
    monkeypatch.setenv("WANTED", "yes")
    attempt = make("look", {"clean_env": ("WANTED",), "env": {"CHOSEN": "red"}})
    found = seen(executor.run(attempt))
    assert (found["WANTED"], found["CHOSEN"]) == ("yes", "red")
    assert found["CODOMYRMEX_ATTEMPT"] == attempt.token
    assert "UNRELATED" not in found
    assert "PATH" in found
