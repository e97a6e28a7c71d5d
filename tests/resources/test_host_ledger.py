"""The ledger of a host: one suite over both kinds of it, and what only a file and other processes can show."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from codomyrmex.clock import ManualClock
from codomyrmex.exceptions import (
    EngineClosed,
    StateFileGuarded,
    StoreCorrupt,
    StoreError,
    StoreIOError,
    StoreTooNew,
)
from codomyrmex.logistics.orchestration.project import ledger_file
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger, ledger_directory
from codomyrmex.logistics.orchestration.project.resource_request import CPU, GPU, MEMORY
from codomyrmex.logistics.storage.migrations import LEDGER, known_migrations
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

CAPACITY = {CPU: 4000, MEMORY: 1000, "gpu-0": 10_000, "gpu-1": 10_000}
Open = Callable[..., HostLedger]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path / "host"))
    return tmp_path / "host"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def opened(folder: Path, clock: ManualClock) -> Iterator[Open]:
    """Opens holders of the ledger in the test's folder; they leave when the test is over."""
    ledgers: list[HostLedger] = []

    def open_one(token: str = "me", directory: Path | None = folder, **given: object) -> HostLedger:
        ledgers.append(HostLedger.open(directory, clock=clock, token=token, **given))  # type: ignore[arg-type]
        return ledgers[-1]

    yield open_one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture(params=["file", "memory"])
def ledger(request: pytest.FixtureRequest, opened: Open, folder: Path) -> HostLedger:
    return opened(directory=folder if request.param == "file" else None)


HOLDER = """
    import os, sys
    from pathlib import Path
    from codomyrmex.clock import SystemClock
    from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger

    ledger = HostLedger.open(Path(os.environ["CODOMYRMEX_HOST_DIR"]), clock=SystemClock(), token=sys.argv[1])
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


class Process:
    """A holder in a process of its own: `ask` evaluates an expression there."""

    def __init__(self, token: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(HOLDER), token]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, expression: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(expression, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def another() -> Iterator[Callable[[str], Process]]:
    """Starts holders in processes of their own."""
    started: list[Process] = []

    def start(token: str = "another") -> Process:
        started.append(Process(token))
        return started[-1]

    yield start
    for process in started:
        process.end()


# -- a file or memory, all the same


def test_growth_is_used_until_it_is_given_back(ledger: HostLedger) -> None:
    assert ledger.grow({CPU: 1000}, {CPU: 3000}, capacity=CAPACITY) == {CPU: 3000}
    assert ledger.grow({CPU: 500, MEMORY: 400}, {CPU: 500, MEMORY: 400}, capacity=CAPACITY) == {
        CPU: 500,
        MEMORY: 400,
    }
    assert ledger.used() == {CPU: 3500, MEMORY: 400}
    ledger.give({CPU: 1500, MEMORY: 400})
    assert ledger.used() == {CPU: 2000}
    (row,) = ledger.allotments()
    assert (row.pid, row.resource, row.amount) == (os.getpid(), CPU, 2000)


def test_nothing_beyond_the_capacity_is_granted_and_nothing_in_part(ledger: HostLedger) -> None:
    assert ledger.grow({CPU: 3000}, {CPU: 9000}, capacity=CAPACITY) == {CPU: 4000}
    assert ledger.grow({CPU: 1, MEMORY: 10}, {CPU: 1, MEMORY: 10}, capacity=CAPACITY) == {}
    assert ledger.used() == {CPU: 4000}


def test_the_smallest_of_the_capacities_that_holders_name_holds(ledger: HostLedger) -> None:
    ledger.grow({CPU: 3000}, {CPU: 3000}, capacity=CAPACITY)
    assert ledger.grow({CPU: 1000}, {CPU: 1000}, capacity={CPU: 3000}) == {}
    assert ledger.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY) == {CPU: 1000}


def test_a_refused_request_is_a_wait_until_it_is_met_or_given_up(
    ledger: HostLedger, clock: ManualClock
) -> None:
    ledger.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    begun = clock.now_us()
    ledger.grow({CPU: 1000}, {CPU: 9000}, capacity=CAPACITY)
    clock.advance(1)
    ledger.grow({CPU: 2000}, {CPU: 9000}, capacity=CAPACITY)
    (row,) = ledger.waits()
    assert (row.amounts, row.since_us, row.lives) == ({CPU: 2000}, begun, True)
    ledger.stop_waiting()
    assert ledger.waits() == []
    ledger.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    ledger.give({CPU: 1000})
    assert ledger.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY) == {CPU: 1000}
    assert ledger.waits() == []


def test_what_could_never_be_met_is_not_waited_for(ledger: HostLedger) -> None:
    assert ledger.grow({CPU: 4001}, {CPU: 4001}, capacity=CAPACITY) == {}
    assert ledger.grow({"sys-disk": 1}, {"sys-disk": 1}, capacity=CAPACITY) == {}
    assert ledger.waits() == []


def test_alone_nobody_has_to_give_anything_back(ledger: HostLedger) -> None:
    ledger.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    ledger.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    assert ledger.surplus({CPU: 4000}, capacity=CAPACITY) == {}
    assert not ledger.others_wait
    assert not ledger.changed() or not ledger.changed()


def test_giving_back_what_one_does_not_have_is_refused_and_changes_nothing(ledger: HostLedger) -> None:
    ledger.grow({CPU: 1000, MEMORY: 5}, {}, capacity=CAPACITY)
    with pytest.raises(ValueError, match="no 6 of sys-memory"):
        ledger.give({CPU: 1000, MEMORY: 6})
    assert ledger.used() == {CPU: 1000, MEMORY: 5}


def test_devices_are_named_and_fractions_share_one(ledger: HostLedger) -> None:
    assert ledger.grow({GPU: 6000}, {GPU: 6000}, capacity=CAPACITY) == {"gpu-0": 6000}
    assert ledger.grow({GPU: 6000}, {GPU: 6000}, capacity=CAPACITY) == {"gpu-1": 6000}
    assert ledger.grow({GPU: 4000}, {GPU: 4000}, capacity=CAPACITY) == {"gpu-0": 4000}
    assert ledger.grow({GPU: 5000}, {GPU: 5000}, capacity=CAPACITY) == {}
    ledger.give({"gpu-0": 10_000, "gpu-1": 6000})
    assert ledger.grow({GPU: 20_000}, {GPU: 20_000}, capacity=CAPACITY) == {"gpu-0": 10_000, "gpu-1": 10_000}


def test_a_hold_is_kept_beside_the_tasks_all_or_nothing(ledger: HostLedger) -> None:
    ledger.grow({CPU: 3000}, {CPU: 3000}, capacity=CAPACITY)
    assert ledger.hold("a", "ann", {CPU: 2000, GPU: 5000}, capacity=CAPACITY, expires_us=None) is None
    held = ledger.hold("a", "ann", {CPU: 1000, GPU: 5000}, capacity=CAPACITY, expires_us=None)
    assert held == {CPU: 1000, "gpu-0": 5000}
    assert ledger.hold("a", "ann", {CPU: 1}, capacity=CAPACITY, expires_us=None) == held, (
        "the id has it already"
    )
    assert ledger.used() == {CPU: 4000, "gpu-0": 5000}
    assert ledger.grow({CPU: 1}, {CPU: 1}, capacity=CAPACITY) == {}
    assert [(row.id, row.amounts) for row in ledger.holds("ann")] == [("a", held)]
    assert ledger.holds("bob") == []
    assert ledger.release_hold("a") == held
    assert ledger.release_hold("a") is None
    assert ledger.used() == {CPU: 3000}


def test_a_hold_ends_when_it_says_unless_it_is_renewed(ledger: HostLedger, clock: ManualClock) -> None:
    end = clock.now_us() + 10_000_000
    ledger.hold("a", "ann", {CPU: 4000}, capacity=CAPACITY, expires_us=end)
    assert ledger.renew_hold("a", end + 10_000_000)
    clock.advance(15)
    assert ledger.used() == {CPU: 4000}
    clock.advance(6)
    assert (ledger.used(), ledger.holds()) == ({}, [])
    assert not ledger.renew_hold("a", None)
    assert ledger.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY) == {CPU: 4000}


def test_reap_removes_holds_that_have_expired(ledger: HostLedger, clock: ManualClock) -> None:
    ledger.hold("a", "ann", {CPU: 4000}, capacity=CAPACITY, expires_us=clock.now_us() + 1)
    assert ledger.reap() == 0
    clock.advance(1)
    assert ledger.reap() > 0
    assert ledger.reap() == 0


def test_of_what_is_offline_who_holds_keeps_and_nobody_gets_any(ledger: HostLedger) -> None:
    ledger.grow({GPU: 5000}, {GPU: 5000}, capacity=CAPACITY)
    ledger.set_offline("gpu-0", on=True)
    assert ledger.offline() == {"gpu-0"}
    assert ledger.used() == {"gpu-0": 5000}
    assert ledger.grow({GPU: 5000}, {GPU: 5000}, capacity=CAPACITY) == {"gpu-1": 5000}
    assert ledger.hold("a", "ann", {GPU: 10_000}, capacity=CAPACITY, expires_us=None) is None
    ledger.set_offline("gpu-0", on=False)
    assert ledger.grow({GPU: 5000}, {GPU: 5000}, capacity=CAPACITY) == {"gpu-0": 5000}


def test_the_most_that_was_ever_held_is_remembered(ledger: HostLedger) -> None:
    ledger.grow({CPU: 2000}, {CPU: 2000}, capacity=CAPACITY)
    ledger.hold("a", "ann", {CPU: 1000}, capacity=CAPACITY, expires_us=None)
    ledger.give({CPU: 2000})
    ledger.grow({CPU: 500}, {CPU: 500}, capacity=CAPACITY)
    assert ledger.peaks() == {CPU: 3000}


def test_closing_twice_is_harmless_and_nothing_can_be_asked_afterwards(ledger: HostLedger) -> None:
    ledger.grow({CPU: 2000}, {CPU: 2000}, capacity=CAPACITY)
    ledger.close()
    ledger.close()
    assert not ledger.changed()
    with pytest.raises(EngineClosed):
        ledger.grow({CPU: 2000}, {CPU: 2000}, capacity=CAPACITY)


# -- several holders


def test_nothing_is_touched_before_the_ledger_is_used(opened: Open, folder: Path) -> None:
    ledger = opened()
    assert not ledger.changed()
    assert ledger.surplus({}, capacity=CAPACITY) == {}
    assert (ledger.reap(), ledger.give({})) == (0, [])
    ledger.stop_waiting()
    ledger.renew_wait()
    ledger.close()
    assert not folder.exists()


def test_who_only_looks_is_no_holder(opened: Open, folder: Path) -> None:
    looker = opened("looker")
    assert (looker.used(), looker.allotments(), looker.waits(), looker.holds()) == ({}, [], [], [])
    assert list((folder / "holders").iterdir()) == []


def test_two_holders_never_have_more_than_there_is_and_share_it(opened: Open) -> None:
    first, second = opened("first"), opened("second")
    first.grow({CPU: 1000}, {CPU: 9000}, capacity=CAPACITY)
    assert second.grow({CPU: 1000}, {CPU: 9000}, capacity=CAPACITY) == {}
    assert first.changed()
    assert first.surplus({CPU: 3000}, capacity=CAPACITY) == {CPU: 2000}
    assert first.others_wait
    first.give({CPU: 2000})
    assert first.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY) == {}, "it was given for the other"
    assert second.grow({CPU: 1000}, {CPU: 9000}, capacity=CAPACITY) == {CPU: 2000}
    assert first.surplus({CPU: 2000}, capacity=CAPACITY) == {}
    assert [(row.holder, row.amount) for row in first.allotments()] == [(1, 2000), (2, 2000)]


def test_only_what_others_write_is_a_change(opened: Open) -> None:
    first, second = opened("first"), opened("second")
    first.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    first.changed()
    first.give({CPU: 1000})
    first.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    assert not first.changed()
    second.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    first.give({CPU: 1000})
    assert first.changed()
    assert not first.changed()


def test_renewing_a_wait_is_no_news_to_others(opened: Open) -> None:
    first, second = opened("first"), opened("second")
    first.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    second.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    first.changed()
    second.renew_wait()
    second.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    assert not first.changed()


def test_a_wait_that_is_not_renewed_is_passed_over_and_keeps_its_place(
    opened: Open, clock: ManualClock
) -> None:
    first, stopped, third = opened("first"), opened("stopped"), opened("third")
    first.grow({CPU: 3000}, {CPU: 3000}, capacity=CAPACITY)
    stopped.grow({CPU: 2000}, {CPU: 2000}, capacity=CAPACITY)
    third.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    assert [row.lives for row in first.waits()] == [True, True]
    clock.advance(2.5)
    assert [row.lives for row in first.waits()] == [False, False]
    assert first.surplus({CPU: 3000}, capacity=CAPACITY) == {}
    assert third.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY) == {CPU: 1000}
    stopped.renew_wait()
    assert first.surplus({CPU: 3000}, capacity=CAPACITY) == {CPU: 2000}


def test_who_gives_and_waits_goes_to_the_end_of_the_line(opened: Open) -> None:
    first, second = opened("first"), opened("second")
    first.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    first.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    second.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    assert [row.holder for row in first.waits()] == [1, 2]
    first.give(first.surplus({CPU: 4000}, capacity=CAPACITY))
    assert [row.holder for row in first.waits()] == [2, 1]
    assert first.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY) == {}
    assert second.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY) == {CPU: 4000}


def test_who_waits_is_woken_when_something_is_given_back(opened: Open, folder: Path) -> None:
    folder.mkdir()
    path = folder / "waiter.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        first, second = opened("first"), opened("second", nudge=path)
        first.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
        second.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
        assert first.give({CPU: 1000}) == [path]
        assert listener.recv(16) == b"!"
        first.hold("a", "ann", {CPU: 1000}, capacity=CAPACITY, expires_us=None)
        first.release_hold("a")
        assert listener.recv(16) == b"!"
        first.close()
        assert listener.recv(16) == b"!"


def test_who_could_give_is_woken_by_a_new_wait(opened: Open, folder: Path) -> None:
    folder.mkdir()
    path = folder / "giver.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(5)
        first, second = opened("first", nudge=path), opened("second")
        first.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
        second.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
        assert listener.recv(16) == b"!"


def test_numbers_of_holders_are_never_used_again(opened: Open) -> None:
    for _ in range(3):
        ledger = opened()
        ledger.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
        ledger.close()
    last = opened()
    last.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    assert [row.holder for row in last.allotments()] == [4]


# -- the dead


def test_what_a_killed_process_held_and_waited_for_comes_back(
    opened: Open, another: Callable[..., Process], folder: Path
) -> None:
    holder, waiter = another("holder"), another("waiter")
    capacity = f"capacity={CAPACITY!r}"
    assert holder.ask(f"ledger.grow({{'{CPU}': 3000}}, {{}}, {capacity})") == f"{{'{CPU}': 3000}}"
    assert holder.ask(f"ledger.hold('h', 'ann', {{'{CPU}': 1000}}, {capacity}, expires_us=None)") != "None"
    assert waiter.ask(f"ledger.grow({{'{CPU}': 1000}}, {{}}, {capacity})") == "{}"
    ended: list[str] = []
    rows_then: list[int] = []

    def on_dead(token: str) -> None:
        ended.append(token)
        rows_then.append(len(me.allotments()) + len(me.waits()))

    me = opened(on_dead=on_dead)
    assert me.reap() == 0
    holder.end()
    waiter.end()
    assert me.reap() > 0
    assert (sorted(ended), rows_then) == (["holder", "waiter"], [2, 2]), "processes end first, then rows go"
    assert (me.used(), me.waits(), me.holds()) == ({}, [], [])
    assert me.reap() == 0
    assert list((folder / "holders").iterdir()) == []


def test_rows_stay_while_what_the_dead_left_behind_could_not_be_ended(
    opened: Open, another: Callable[..., Process]
) -> None:
    holder = another()
    holder.ask(f"ledger.grow({{'{CPU}': 3000}}, {{}}, capacity={CAPACITY!r})")
    holder.end()

    def on_dead(token: str) -> None:
        raise PermissionError(token)

    me = opened(on_dead=on_dead)
    with pytest.raises(PermissionError):
        me.reap()
    assert me.used() == {CPU: 3000}


def test_a_stopped_process_is_not_dead(opened: Open, another: Callable[..., Process]) -> None:
    holder = another()
    holder.ask(f"ledger.grow({{'{CPU}': 3000}}, {{}}, capacity={CAPACITY!r})")
    holder.process.send_signal(signal.SIGSTOP)
    me = opened()
    assert me.reap() == 0
    holder.process.send_signal(signal.SIGCONT)
    assert me.used() == {CPU: 3000}


def test_a_forked_child_keeps_no_dead_holder_alive_and_takes_nothing_away(
    opened: Open, another: Callable[..., Process]
) -> None:
    holder = another()
    holder.ask(f"ledger.grow({{'{CPU}': 3000}}, {{}}, capacity={CAPACITY!r})")
    # The child closes what it inherited and stops; the parent returns when it has.
    in_child = f"(ledger.close(), os.kill(os.getpid(), {int(signal.SIGSTOP)}))"
    child = int(holder.ask(f"os.waitpid(os.fork() or {in_child}, os.WUNTRACED)[0]"))
    me = opened()
    try:
        assert me.reap() == 0
        assert me.used() == {CPU: 3000}
        holder.end()
        assert me.reap() > 0
        assert me.used() == {}
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_holder_whose_lock_file_was_deleted_is_told(opened: Open, folder: Path) -> None:
    first, second = opened("first"), opened("second")
    first.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    (folder / "holders" / "1.lock").unlink()
    assert second.reap() > 0
    with pytest.raises(StoreError, match="taken for dead"):
        first.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)


# -- the file


def test_a_shared_folder_has_a_ledger_for_each_group_that_its_members_can_write(
    opened: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    monkeypatch.setattr(ledger_file, "SHARED_DIRECTORY", folder)
    assert ledger_directory({"HOME": "/nowhere"}) == folder
    mask = os.umask(0o077)
    try:
        opened().grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    finally:
        os.umask(mask)
    group = os.getegid()
    modes = {path.relative_to(folder).as_posix(): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert modes == {
        f"ledger-{group}.db": 0o660,
        f"ledger-{group}.db-shm": 0o660,
        f"ledger-{group}.db-wal": 0o660,
        f"ledger-{group}.lock": 0o660,
        f"holders-{group}": 0o770,
        f"holders-{group}/1.lock": 0o660,
    }


def test_the_folder_is_named_by_the_variable_or_lies_in_the_state_of_the_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "SHARED_DIRECTORY", folder / "missing")
    assert ledger_directory({"CODOMYRMEX_HOST_DIR": "/here", "HOME": "/home/a"}) == Path("/here")
    assert ledger_directory({"XDG_STATE_HOME": "/x", "HOME": "/home/a"}) == Path("/x/codomyrmex")
    assert ledger_directory({"XDG_STATE_HOME": "relative", "HOME": "/home/a"}) == Path(
        "/home/a/.local/state/codomyrmex"
    )


def test_a_ledger_and_a_state_are_never_taken_for_each_other(
    opened: Open, folder: Path, tmp_path: Path
) -> None:
    folder.mkdir()
    SQLiteDatabase.open(folder / "ledger.db").close()
    with pytest.raises(StoreCorrupt, match="not the ledger of a host"):
        opened().used()
    assert not (folder / "ledger.db.damaged").exists()
    other = opened(directory=tmp_path / "other")
    other.used()
    other.close()
    with pytest.raises(StoreCorrupt):
        SQLiteDatabase.open(tmp_path / "other" / "ledger.db")


def test_a_ledger_of_a_newer_version_says_the_way_out(opened: Open, folder: Path) -> None:
    folder.mkdir()
    newer = apsw.Connection(str(folder / "ledger.db"))
    known = len(known_migrations(LEDGER.folder))
    list(newer.execute(f"PRAGMA application_id={LEDGER.application_id}; PRAGMA user_version={known + 1}"))
    list(newer.execute("CREATE TABLE later(a)"))
    newer.close()
    with pytest.raises(StoreTooNew, match="newer codomyrmex") as told:
        opened().used()
    assert told.value.hint is not None
    assert "no engine runs" in told.value.hint


def test_a_folder_that_cannot_be_made_says_how_to_name_another(opened: Open, folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreIOError, match="ledger of this host") as told:
        opened().used()
    assert told.value.hint is not None
    assert "CODOMYRMEX_HOST_DIR" in told.value.hint


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for start in range(2048, len(content), 2048):
        content[start : start + 300] = b"\xff" * 300
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["pages", "header", "cut"])
def test_a_damaged_ledger_that_nobody_holds_is_put_aside(opened: Open, folder: Path, how: str) -> None:
    first = opened()
    first.grow({CPU: 1000}, {CPU: 1000}, capacity=CAPACITY)
    first.close()
    path = folder / "ledger.db"
    if how == "pages":
        damage(path)
    else:
        content = path.read_bytes()
        path.write_bytes(b"nothing like it " * 300 if how == "header" else content[: len(content) // 2])
    second = opened()
    assert second.grow({CPU: 1000}, {CPU: 4000}, capacity=CAPACITY) == {CPU: 4000}
    assert (folder / "ledger.db.damaged").exists()


def test_a_damaged_ledger_is_left_alone_while_an_engine_holds_anything(
    opened: Open, another: Callable[..., Process], folder: Path
) -> None:
    holder = another()
    holder.ask(f"ledger.grow({{'{CPU}': 3000}}, {{}}, capacity={CAPACITY!r})")
    for name in ("ledger.db", "ledger.db-wal"):
        with (folder / name).open("r+b") as file:
            file.write(b"nothing like it " * (os.fstat(file.fileno()).st_size // 16))
    with pytest.raises(StoreCorrupt, match="there are engines that use it") as told:
        opened().used()
    assert told.value.hint is not None
    assert "end all engines" in told.value.hint
    holder.end()
    assert opened().grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY) == {CPU: 4000}


def test_a_ledger_that_was_deleted_while_engines_used_it_is_told(
    opened: Open, another: Callable[..., Process], folder: Path
) -> None:
    holder = another()
    holder.ask(f"ledger.grow({{'{CPU}': 3000}}, {{}}, capacity={CAPACITY!r})")
    for path in folder.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(StoreError, match="was deleted while engines used it"):
        opened().grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)


def test_nothing_else_in_the_process_opens_the_files_of_a_ledger(opened: Open, folder: Path) -> None:
    opened().grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
    for name in ("ledger.db", "ledger.db-wal", "ledger.lock"):
        with pytest.raises(StateFileGuarded):
            (folder / name).read_bytes()


def test_the_log_of_a_busy_ledger_stays_small(opened: Open, folder: Path) -> None:
    ledger = opened()
    for _ in range(1500):
        ledger.grow({CPU: 4000}, {CPU: 4000}, capacity=CAPACITY)
        ledger.give({CPU: 4000})
    assert (folder / "ledger.db-wal").stat().st_size < 3_000_000
