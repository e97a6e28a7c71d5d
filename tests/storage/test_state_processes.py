"""One state and several processes: they take turns, die, are forked, and nothing is lost or locked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codomyrmex.logistics.storage.lock import FileLock
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

COUNT = """
    import sys
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
    path, rounds = sys.argv[1], int(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(5):
        state = SQLiteDatabase.open(path)
        for number in range(rounds):
            with state.transaction(barrier=number % 100 == 0) as transaction:
                ((value,),) = transaction.execute("SELECT value FROM meta WHERE key = 'n'")
                transaction.execute("UPDATE meta SET value = ? WHERE key = 'n'", (str(int(value) + 1),))
            if number % 50 == 0:
                state.query("SELECT * FROM meta")
                state.checkpoint()
        state.close()
    print("done")
"""

Begin = Callable[..., "subprocess.Popen[str]"]


def make(path: Path) -> None:
    state = SQLiteDatabase.open(path)
    with state.transaction() as transaction:
        transaction.execute("INSERT INTO meta VALUES ('n', '0')")
    state.close()


def value(path: Path) -> int:
    state = SQLiteDatabase.open(path)
    ((text,),) = state.query("SELECT value FROM meta WHERE key = 'n'")
    state.close()
    return int(text)


def test_processes_that_hammer_one_state_open_close_and_commit_without_an_error(
    path: Path, begin: Begin
) -> None:
    make(path)
    processes = [begin(COUNT, path, 400) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=50) for process in processes]
    assert [output for output, _ in outputs] == ["done\n"] * 3
    assert value(path) == 3 * 5 * 400


def test_processes_that_make_one_state_at_the_same_time_find_one_state(path: Path, begin: Begin) -> None:
    source = """
        import sys
        from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
        print("ready", flush=True)
        sys.stdin.readline()
        state = SQLiteDatabase.open(sys.argv[1])
        with state.transaction() as transaction:
            transaction.execute("INSERT INTO meta VALUES (?, 'x')", (sys.argv[2],))
        state.close()
    """
    processes = [begin(source, path, number) for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=50)
        assert process.returncode == 0
    state = SQLiteDatabase.open(path)
    assert state.query("SELECT count(*) FROM meta") == [(4,)]
    state.close()


def test_a_process_killed_inside_a_transaction_leaves_the_state_free_and_whole(
    path: Path, begin: Begin
) -> None:
    make(path)
    process = begin(
        """
        import sys
        from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
        state = SQLiteDatabase.open(sys.argv[1])
        with state.transaction() as transaction:
            transaction.execute("UPDATE meta SET value = '1'")
        with state.transaction() as transaction:
            transaction.execute("UPDATE meta SET value = '2'")
            print("inside", flush=True)
            sys.stdin.readline()
        """,
        path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    process.kill()
    process.communicate()
    assert value(path) == 1


def test_who_gives_up_a_lock_leaves_it_to_the_next(tmp_path: Path) -> None:
    holder, waiter, third = (FileLock(str(tmp_path / "a.lock")) for _ in range(3))
    assert holder.acquire(1)
    assert not waiter.acquire(0.01)
    holder.release()
    assert third.acquire(5)
    third.release()
    assert waiter.acquire(5)
    for lock in (holder, waiter, third):
        lock.close()
        lock.release()


def test_a_lock_is_had_as_soon_as_it_is_free(tmp_path: Path, begin: Begin) -> None:
    process = begin(
        """
        import sys
        from codomyrmex.logistics.storage.lock import FileLock
        lock = FileLock(sys.argv[1])
        lock.acquire(1)
        print("held", flush=True)
        sys.stdin.readline()
        """,
        tmp_path / "a.lock",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    lock = FileLock(str(tmp_path / "a.lock"))
    assert not lock.acquire(0.01)
    process.kill()
    assert lock.acquire(10)
    lock.close()
    process.communicate()


FORK = """
    import os, sys
    from codomyrmex.exceptions import EngineForked
    from codomyrmex.logistics.storage.sqlite import SQLiteDatabase

    def refused(act):
        try:
            act()
        except EngineForked:
            return True
        return False

    def in_child(act):
        child = os.fork()
        if child == 0:
            act()
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status))

    state = SQLiteDatabase.open(sys.argv[1])
    memory = SQLiteDatabase.open(":memory:")
    state.query("SELECT 1")

    def use_all():
        for one in (state, memory):
            assert refused(lambda: one.query("SELECT 1"))
            assert refused(lambda: one.transaction().__enter__())
            assert refused(one.version)
            assert refused(one.barrier)
            one.close()
        with open(sys.argv[1], "rb") as file:
            file.read()

    in_child(use_all)

    def go_on_inside():
        assert refused(lambda: transaction.execute("SELECT 1"))

    def own():
        mine = SQLiteDatabase.open(sys.argv[1])
        with mine.transaction() as transaction:
            transaction.execute("INSERT INTO meta VALUES ('child', 'x')")
        mine.close()

    with state.transaction() as transaction:
        transaction.execute("INSERT INTO meta VALUES ('parent', 'x')")
        in_child(go_on_inside)
    in_child(own)
    with state.transaction() as transaction:
        transaction.execute("INSERT INTO meta VALUES ('later', 'x')")
    print(*(key for key, in state.query("SELECT key FROM meta ORDER BY key")))
    state.close()
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_refused_the_parents_state_may_open_its_own_and_harms_nothing(
    path: Path, script: Callable[..., str]
) -> None:
    assert script(FORK, path).split("\n") == ["0", "0", "0", "child later parent"]
    state = SQLiteDatabase.open(path)
    assert state.query("SELECT count(*) FROM meta") == [(3,)]
    state.close()


def test_a_forked_child_that_outlives_its_parent_holds_no_lock(path: Path, begin: Begin) -> None:
    process = begin(
        """
        import os, signal, sys
        from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
        state = SQLiteDatabase.open(sys.argv[1])
        with state.transaction() as transaction:
            transaction.execute("INSERT INTO meta VALUES ('a', 'x')")
            if os.fork() == 0:
                print("child", flush=True)
                sys.stdin.readline()
                os._exit(0)
            os.waitpid(-1, 0)
        """,
        path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "child\n"
    process.kill()
    process.wait()
    state = SQLiteDatabase.open(path, busy_timeout_s=10)
    with state.transaction() as transaction:
        transaction.execute("INSERT INTO meta VALUES ('b', 'x')")
    assert state.query("SELECT key FROM meta") == [("b",)]
    state.close()
    process.communicate("end\n", timeout=10)
