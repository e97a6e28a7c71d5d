"""Every reason as people read it and as programs get it; pure tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.amount_words import amount_text, listed, natural
from codomyrmex.logistics.orchestration.project.explanations import (
    Cascade,
    Ended,
    Explanation,
    Failed,
    Failure,
    Handler,
    Root,
)
from codomyrmex.logistics.orchestration.project.resource_request import CPU, DISK, GPU, MEMORY, NETWORK, UNIT
from codomyrmex.logistics.orchestration.project.wait_reasons import (
    Answer,
    Child,
    ConcurrencyKey,
    Dependencies,
    Gate,
    Holder,
    LaterPhase,
    MaxParallel,
    MaxWorkers,
    NoOwner,
    Order,
    OtherEngine,
    OtherEngines,
    Paused,
    QuotaUsed,
    Ready,
    Reason,
    ResourceShort,
    Signal,
    Stopping,
    Timer,
    Upstream,
)

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
THEN = datetime(2026, 5, 4, 12, 2, 11, tzinfo=UTC)
AT = f"{THEN.astimezone():%H:%M:%S}"
GIB, MIB = 2**30, 2**20


def short(**facts: Any) -> ResourceShort:
    whole: dict[str, Any] = {
        "resource": MEMORY,
        "name": "memory",
        "asked": 2 * GIB,
        "free": 512 * MIB,
        "capacity": 8 * GIB,
        "holders": (Holder(who="k3f9/parse[4]", workflow="nightly", amount=3 * GIB // 2, since=THEN),),
        "more_holders": 2,
    }
    return ResourceShort(**whole | facts)


def lock(**facts: Any) -> ResourceShort:
    whole: dict[str, Any] = {
        "resource": "r-1",
        "name": "deploy",
        "asked": UNIT,
        "free": 0,
        "capacity": UNIT,
        "holders": (Holder(who="ship", amount=UNIT, since=THEN),),
        "more_holders": 0,
    }
    return ResourceShort(**whole | facts)


ELSEWHERE = OtherEngine(engine=4, pid=4121, state="/srv/b/.codomyrmex", amount=2000, since=THEN)
SENTENCES: dict[str, tuple[Reason, str]] = {
    "dependencies": (
        Dependencies(
            steps=(
                Upstream(task="fetch", status="running", waits_for="3 of 10 items have ended"),
                Upstream(task="ask", status="blocked", waits_for="waits for an answer"),
                Upstream(task="parse", status="pending"),
            ),
            more=7,
        ),
        "waits for fetch (3 of 10 items have ended), ask (waits for an answer), parse (pending) and 7 more",
    ),
    "memory": (
        short(),
        "waits for memory: it asks for 2 GiB, 512 MiB of 8 GiB are free; "
        f"held by nightly k3f9/parse[4] (1.5 GiB, since {AT}) and 2 others",
    ),
    "one holder": (
        short(more_holders=0),
        "waits for memory: it asks for 2 GiB, 512 MiB of 8 GiB are free; "
        f"held by nightly k3f9/parse[4] (1.5 GiB, since {AT})",
    ),
    "figures that read alike": (
        short(asked=2 * GIB, free=2 * GIB - 3, holders=(), more_holders=0),
        "waits for memory: it asks for 2 GiB, 2 GiB of 8 GiB are free, 3 B too little",
    ),
    "nothing free": (
        short(resource=CPU, name=CPU, asked=1000, free=0, capacity=2000, holders=(), more_holders=0),
        "waits for CPU: it asks for 1 CPU, nothing of 2 CPUs is free",
    ),
    "more than there is": (
        short(resource=GPU, name=GPU, asked=2 * UNIT, free=0, capacity=UNIT, holders=(), more_holders=0),
        "waits for a GPU: it asks for 2 GPUs, and there is no more than 1 GPU",
    ),
    "a lock": (lock(), f"waits for deploy, of which there is one; held by ship (since {AT})"),
    "a lock that another engine awaits": (
        lock(holders=(), ahead=(OtherEngine(engine=3, pid=77, amount=UNIT, since=THEN),)),
        f"waits for deploy, of which there is one; pid 77 (1, since {AT}) has waited for it longer",
    ),
    "a semaphore": (
        lock(asked=2 * UNIT, free=UNIT, capacity=5 * UNIT, holders=(), more_holders=0),
        "waits for deploy: it asks for 2, 1 of 5 is free",
    ),
    "offline": (
        lock(offline=True),
        "waits for deploy, which is offline (codomyrmex resources online deploy)",
    ),
    "a quota": (
        QuotaUsed(resource="q", name="openai", asked=2 * UNIT, capacity=60 * UNIT, per_s=60, retry_at=THEN),
        f"waits for the quota openai (60 per minute): it asks for 2; that passes at {AT}",
    ),
    "a quota that never lets it through": (
        QuotaUsed(resource="q", name="openai", asked=99 * UNIT, capacity=60 * UNIT, per_s=60),
        "waits for the quota openai (60 per minute): it asks for 99 at once, which it never lets through",
    ),
    "other engines": (
        OtherEngines(resource=CPU, asked=1000, free=0, capacity=2000, engines=(ELSEWHERE,), waits_before=1),
        "waits for CPU: it asks for 1 CPU; the machine's 2 CPUs are shared with "
        f"pid 4121 of /srv/b (2 CPUs, since {AT}); another engine has waited for it longer",
    ),
    "a line of other engines": (
        OtherEngines(resource=CPU, asked=1000, free=2000, capacity=2000, waits_before=2),
        "waits for CPU: it asks for 1 CPU; 2 other engines have waited for it longer",
    ),
    "workers": (
        MaxWorkers(limit=8, running=8, engine=1, tasks=("a", "b", "c"), more=5),
        "waits for a worker: its engine runs 8 tasks, which is its max_workers (a, b, c and 5 more)",
    ),
    "max_parallel of a step": (
        MaxParallel(scope="step", limit=2, of="parse", tasks=("parse[0]", "parse[1]")),
        "waits for its turn: max_parallel of parse is 2, and parse[0] and parse[1] are at work",
    ),
    "max_parallel of the run": (
        MaxParallel(scope="run", limit=1, of="k3f9", tasks=("a",)),
        "waits for its turn: max_parallel of its run is 1, and a is at work",
    ),
    "max_parallel of the root": (
        MaxParallel(scope="root", limit=1, of="k3f9"),
        "waits for its turn: max_parallel of run k3f9 above it is 1",
    ),
    "a concurrency key": (
        ConcurrencyKey(key="main", run="k3f9", workflow="nightly", status="running", since=THEN, more=1),
        f"waits for run k3f9 of nightly, which has the concurrency key 'main' since {AT} (1 more is before it)",
    ),
    "the gate": (Gate(), "its run has not begun; its engine takes it up next"),
    "a sleep": (Timer(why="sleep", until=THEN), f"sleeps until {AT}"),
    "a retry": (
        Timer(why="retry", until=THEN, attempt=2, error="TimeoutError: slow"),
        f"attempt 2 failed (TimeoutError: slow), the next follows at {AT}",
    ),
    "an approval": (
        Answer(run="k3f9", task="ask", question="Ship\n it?", who=("alice", "bob"), until=THEN),
        f"waits for an answer of alice, bob until {AT}: Ship it? (codomyrmex approvals answer k3f9 ask)",
    ),
    "an answer that is not read": (
        Answer(run="k3f9", task="ask", question="Ship it?", recorded_by="alice"),
        "alice has answered (Ship it?), and the run has not read it yet",
    ),
    "a signal": (
        Signal(run="k3f9", name="go"),
        "waits for signal go (codomyrmex runs signal k3f9 go)",
    ),
    "a signal that is not read": (
        Signal(run="k3f9", name="go", recorded_by="bob"),
        "bob has sent signal go, and the run has not read it yet",
    ),
    "a child": (
        Child(run="c1", workflow="child", status="running", waits=("nap waits for signal wake",)),
        "waits for the end of run c1 of child, which is running: nap waits for signal wake",
    ),
    "a pause": (
        Paused(run="k3f9", since=THEN, by="alice"),
        f"the run is paused since {AT} by alice; codomyrmex resume k3f9 goes on",
    ),
    "a dead engine": (
        NoOwner(run="k3f9", engine=2, pid=99),
        "its engine (pid 99) is gone; codomyrmex resume k3f9 goes on where it was",
    ),
    "a later phase": (
        LaterPhase(phase="finally", now_in="main"),
        "it runs when all else of the run has ended",
    ),
    "the order of undoing": (
        Order(after="undo-b"),
        "waits until undo-b has ended: what has completed is undone one after the other",
    ),
    "a thread that was asked to stop": (
        Stopping(why="the run was cancelled", isolation="thread"),
        "asked to stop (the run was cancelled); a thread task runs on until it looks or returns",
    ),
    "ready": (
        Ready(asks=("1 CPU", "2 GiB")),
        "ready, starts when its engine has room for it (it asks for 1 CPU and 2 GiB)",
    ),
    "what was cancelled": (
        Ended(why="cancelled", text="the run was cancelled", by="alice", at=THEN),
        f"the run was cancelled by alice at {AT}",
    ),
    "what failed": (
        Failed(type="x.ValueError", message="bad\nmore", attempts=2, frame="load.py:12 read"),
        "in attempt 2: ValueError: bad, at load.py:12 read",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_each_reason_is_one_short_sentence_and_plain_data(name: str) -> None:
    reason, sentence = SENTENCES[name]
    assert reason.sentence(NOW) == sentence
    data = json.loads(json.dumps(reason.to_dict()))
    assert data["kind"] == reason.kind != ""


def test_amounts_of_a_reason_leave_in_the_units_people_count_in() -> None:
    data = short().to_dict()
    assert (data["unit"], data["asked"], data["short_by"]) == ("bytes", 2 * GIB, 2 * GIB - 512 * MIB)
    assert data["holders"][0] == {
        "who": "k3f9/parse[4]",
        "amount": 3 * GIB // 2,
        "since": "2026-05-04T12:02:11+00:00",
        "workflow": "nightly",
        "engine": None,
        "pid": None,
    }
    cpu = OtherEngines(resource=CPU, asked=500, free=0, capacity=2000, engines=(ELSEWHERE,)).to_dict()
    assert (cpu["unit"], cpu["asked"], cpu["capacity"], cpu["engines"][0]["amount"]) == ("CPUs", 0.5, 2, 2)
    assert (lock(offline=True).to_dict()["short_by"], lock().to_dict()["unit"]) == (1, "units")


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        (CPU, 1000, "1 CPU"),
        (CPU, 500, "0.5 CPU"),
        (CPU, 0, "0 CPUs"),
        (CPU, 64000, "64 CPUs"),
        (MEMORY, 0, "0 B"),
        (MEMORY, 1023 * GIB, "1023 GiB"),
        (MEMORY, 256 * MIB, "256 MiB"),
        (DISK, 5 * 2**50, "5120 TiB"),
        (NETWORK, 10_000_000, "10 MB/s"),
        (GPU, 5000, "0.5 GPU"),
        (GPU, 20_000, "2 GPUs"),
        ("licence", 1_234_567 * UNIT, "1,234,567"),
        ("licence", 2500, "0.25"),
    ],
)
def test_amounts_are_said_in_the_units_of_their_resource(resource: str, amount: int, text: str) -> None:
    assert amount_text(resource, amount) == text
    assert json.dumps(natural(resource, amount))


def test_lists_name_the_first_and_count_the_rest() -> None:
    assert [listed([], 0), listed(["a"], 0), listed(["a", "b"], 0)] == ["", "a", "a and b"]
    assert listed(["a", "b", "c"], 99_997) == "a, b, c and 99,997 more"
    assert [listed(["a"], 1, "other"), listed(["a"], 2, "other")] == ["a and 1 other", "a and 2 others"]


def test_an_instant_of_another_day_has_its_date() -> None:
    said = Timer(why="sleep", until=NOW + timedelta(days=9)).sentence(NOW)
    assert said == f"sleeps until {(NOW + timedelta(days=9)).astimezone():%b %d %H:%M}"


def test_an_explanation_stands_for_others_with_the_same_reasons() -> None:
    reasons = (Gate(),)
    alone = Explanation(task="a", status="pending", reasons=reasons)
    assert alone.sentence(NOW) == "a is pending: its run has not begun; its engine takes it up next."
    many = Explanation(task="a", status="pending", reasons=reasons, others=("b",), more=8)
    assert many.sentence(NOW).startswith("a, b and 8 more are pending, each: its run has not begun")
    assert Explanation(task="a", status="completed").sentence(NOW) == "a is completed."
    data = many.to_dict(NOW)
    assert data["reasons"] == [{"kind": "gate", "sentence": Gate().sentence(NOW)}]
    assert (data["others"], data["more"], data["sentence"]) == (["b"], 8, many.sentence(NOW))


def test_a_failure_names_its_roots_then_what_did_not_run_then_what_ran_because_of_it() -> None:
    failed = Failed(
        type="ValueError", message="bad header", attempts=3, frame="load.py:12 read", log_path="/l"
    )
    failure = Failure(
        roots=(Root(task="parse[1]", failed=failed, at=THEN),),
        more_roots=1,
        cascade=(
            Cascade(why="upstream", steps=11, items=0, names=("deploy", "notify", "pack")),
            Cascade(why="item_failed", steps=1, items=4093, names=("sweep",)),
        ),
        handlers=(Handler(task="tell", phase="on_failure", status="completed"),),
    )
    assert failure.sentences() == [
        "parse[1] failed in attempt 3: ValueError: bad header, at load.py:12 read.",
        "The log of parse[1]: /l",
        "1 more task failed by itself.",
        "Because of it 12 steps and 4,093 items did not run (deploy, notify, pack and 9 more).",
        "After it ran: tell (completed).",
    ]
    data = json.loads(json.dumps(failure.to_dict()))
    assert data["roots"][0]["failed"]["frame"] == "load.py:12 read"
    assert data["cascade"][1] == {"why": "item_failed", "steps": 1, "items": 4093, "names": ["sweep"]}


def test_a_run_that_failed_by_its_time_limit_says_so_first() -> None:
    failure = Failure(
        type="RunTimedOut",
        message="the run took longer than its timeout",
        cascade=(Cascade(why="timeout", steps=2, items=0, names=("a", "b")),),
    )
    assert failure.sentences() == [
        "the run took longer than its timeout.",
        "Because of it 2 steps did not run (a and b).",
    ]
