"""Processes with many threads take, give, hold and are killed; no moment shows more than there is."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import apsw
import pytest

from codomyrmex.clock import SystemClock
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from waiting import wait_until

CAPACITY = {"sys-compute": 8000, "sys-memory": 1000, "gpu-0": 10_000, "gpu-1": 10_000}
BACK_WITHIN_S = 1.0
PROCESSES, THREADS = 4, 8

# Each thread knows what it took and gives no more than that. One more ends what the dead held, as engines do.
HAMMER = """
    import os, random, sys, threading, time, traceback
    from pathlib import Path
    from codomyrmex.clock import SystemClock
    from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger

    capacity = eval(sys.argv[1])
    chance = random.Random(int(sys.argv[2]))
    ledger = HostLedger.open(Path(os.environ["CODOMYRMEX_HOST_DIR"]), clock=SystemClock(), token=f"t{os.getpid()}")
    stop = threading.Event()
    steps = [0] * int(sys.argv[3])

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(3)

    def hammer(index, seed):
        chance, mine, held = random.Random(seed), {}, []
        while not stop.is_set():
            steps[index] += 1
            kind = chance.random()
            if kind < 0.4:
                head = {id: chance.randint(1, most // 2) for id, most in capacity.items()
                        if not id.startswith("gpu") and chance.random() < 0.6}
                if chance.random() < 0.3:
                    head["gpu"] = chance.choice([2500, 5000, 10000, 20000])
                want = {id: amount * chance.randint(1, 3) for id, amount in head.items()}
                for id, amount in ledger.grow(head, want, capacity=capacity).items():
                    mine[id] = mine.get(id, 0) + amount
            elif kind < 0.5:
                name = f"{os.getpid()}-{index}-{steps[index]}"
                expires = chance.choice([None, SystemClock().now_us() + chance.randint(0, 20_000)])
                wanted = {"sys-compute": chance.randint(1, 4000), "gpu": chance.choice([0, 5000])}
                if ledger.hold(name, "someone", wanted, capacity=capacity, expires_us=expires):
                    held.append(name)
            elif kind < 0.6 and held:
                ledger.release_hold(held.pop())
            elif kind < 0.65:
                ledger.renew_wait(), ledger.stop_waiting()
            elif kind < 0.75:
                back = ledger.surplus(mine, capacity=capacity)
                ledger.give(back)
                mine = {id: amount - back.get(id, 0) for id, amount in mine.items()}
            elif mine:
                back = {id: chance.choice([amount, chance.randint(0, amount)]) for id, amount in mine.items()}
                ledger.give(back)
                mine = {id: amount - back[id] for id, amount in mine.items() if amount > back[id]}
        ledger.give(mine)
        for name in held:
            ledger.release_hold(name)

    def bury():
        while not stop.wait(0.05):
            ledger.reap()

    threads = [threading.Thread(target=guarded, args=(hammer, index, chance.random())) for index in range(len(steps))]
    threads.append(threading.Thread(target=guarded, args=(bury,)))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    ledger.close()
    print(sum(steps), flush=True)
"""
# Beside the reader: whoever would commit too much is stopped inside its own transaction.
TRIGGERS = """
CREATE TABLE limits (resource TEXT PRIMARY KEY, most INTEGER);
CREATE VIEW used AS
    SELECT resource, sum(amount) AS amount FROM
    (SELECT resource, amount FROM allotment UNION ALL SELECT resource, amount FROM hold_amount) GROUP BY resource;
CREATE TRIGGER too_much_1 AFTER INSERT ON allotment
    WHEN EXISTS (SELECT 1 FROM used JOIN limits USING (resource) WHERE amount > most)
    BEGIN SELECT raise(ABORT, 'more than there is'); END;
CREATE TRIGGER too_much_2 AFTER UPDATE ON allotment
    WHEN EXISTS (SELECT 1 FROM used JOIN limits USING (resource) WHERE amount > most)
    BEGIN SELECT raise(ABORT, 'more than there is'); END;
CREATE TRIGGER too_much_3 AFTER INSERT ON hold_amount
    WHEN EXISTS (SELECT 1 FROM used JOIN limits USING (resource) WHERE amount > most)
    BEGIN SELECT raise(ABORT, 'more than there is'); END;
"""


class Reader:
    """Looks at the file as any program could: its own connection, its own sums."""

    def __init__(self, path: Path) -> None:
        self.connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        self.connection.set_busy_timeout(10_000)
        self.seen: set[int] = set()

    def prepare(self) -> None:
        list(self.connection.execute(TRIGGERS))
        list(self.connection.executemany("INSERT INTO limits VALUES (?, ?)", CAPACITY.items()))

    def look(self) -> None:
        rows = list(
            self.connection.execute(
                "SELECT 'changes', number FROM change UNION ALL SELECT resource, amount FROM used"
            )
        )
        self.seen.add(dict(rows).pop("changes"))
        wrong = [(id, n) for id, n in rows if id != "changes" and not 0 <= n <= CAPACITY[id]]
        assert not wrong, f"more than there is: {wrong}"

    def holds_anything(self, pid: int) -> bool:
        return bool(list(self.connection.execute("SELECT 1 FROM holder WHERE pid = ?", (pid,))))


@dataclass(frozen=True, kw_only=True)
class Form:
    seconds: float = 1.2
    kill_every_s: float = 0.35


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: Random
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path))
    started: list[subprocess.Popen[str]] = []

    def start_one() -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-c",
            textwrap.dedent(HAMMER),
            repr(CAPACITY),
            str(chance.random())[2:],
            str(THREADS),
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(Form(), id="short"),
        pytest.param(Form(seconds=120.0, kill_every_s=0.7), id="full", marks=pytest.mark.reliability),
    ],
)
def test_processes_that_take_give_and_are_killed_never_have_more_than_there_is(
    form: Form,
    start: Callable[[], subprocess.Popen[str]],
    tmp_path: Path,
    chance: Random,
    record: Callable[..., None],
) -> None:
    maker = HostLedger.open(tmp_path, clock=SystemClock(), token="maker")
    assert maker.used() == {}
    maker.close()
    reader = Reader(tmp_path / "ledger.db")
    reader.prepare()
    processes = [start() for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    looks, kills, slowest_s = 0, 0, 0.0
    ends = time.monotonic() + form.seconds
    next_kill = time.monotonic() + form.kill_every_s
    while time.monotonic() < ends:
        reader.look()
        looks += 1
        assert all(process.poll() is None for process in processes), [
            p.stderr.read() for p in processes if p.poll()
        ]
        if time.monotonic() >= next_kill:
            victim = processes.pop(chance.randrange(len(processes)))
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            died = time.monotonic()

            def is_gone(pid: int = victim.pid) -> bool:
                reader.look()
                return not reader.holds_anything(pid)

            wait_until(is_gone, what="what the dead held is back")
            slowest_s = max(slowest_s, time.monotonic() - died)
            kills += 1
            processes.append(start())
            next_kill = time.monotonic() + form.kill_every_s
    steps = 0
    for process in processes:
        said, errors = process.communicate("\n", timeout=30)
        assert process.returncode == 0, errors
        steps += int(said.split()[-1])
    reader.look()
    assert list(reader.connection.execute("SELECT * FROM used")) == []
    assert (
        list(reader.connection.execute("SELECT number FROM holder UNION ALL SELECT holder FROM wait")) == []
    )
    assert list((tmp_path / "holders").iterdir()) == []
    reader.connection.close()
    assert slowest_s < 3 * BACK_WITHIN_S
    figures = (
        f"{looks} looks at {len(reader.seen)} states, {kills} kills, back within {slowest_s * 1000:.0f} ms"
    )
    record("Ledger of the host: processes that take, give, hold and are killed", steps, figures)
