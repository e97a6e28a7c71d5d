"""The conformance suite of the `Database` port: every store passes it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from codomyrmex.exceptions import EngineClosed, StoreError
from codomyrmex.logistics.storage.database import Database, StoreConstraint, Transaction

PUT = "INSERT INTO meta(key, value) VALUES (?, ?)"
ALL = "SELECT key, value FROM meta ORDER BY key"


def put(database: Database, *keys: str) -> None:
    with database.transaction() as transaction:
        transaction.execute_many(PUT, [(key, "x") for key in keys])


def put_and_raise(transaction: Transaction, key: str, error: type[BaseException]) -> None:
    transaction.execute(PUT, (key, "x"))
    raise error


def keys(database: Database) -> list[str]:
    return [key for key, _ in database.query(ALL)]


def test_what_was_committed_can_be_read(database: Database) -> None:
    put(database, "a", "b")
    assert database.query(ALL) == [("a", "x"), ("b", "x")]


def test_a_statement_returns_its_rows_and_takes_positions_or_names(database: Database) -> None:
    put(database, "a", "b")
    with database.transaction() as transaction:
        assert transaction.execute("SELECT key FROM meta WHERE key > ?", ("a",)) == [("b",)]
        assert transaction.execute("SELECT key FROM meta WHERE key = :k", {"k": "a"}) == [("a",)]
        assert transaction.execute("UPDATE meta SET value = 'y' RETURNING key") == [("a",), ("b",)]
    assert database.query("SELECT count(*) FROM meta WHERE value = 'y'") == [(2,)]


def test_execute_many_tells_how_many_rows_changed(database: Database) -> None:
    put(database, "a", "b")
    with database.transaction() as transaction:
        changed = transaction.execute_many(
            "UPDATE meta SET value = ? WHERE key = ?", [("1", "a"), ("2", "z")]
        )
        assert changed == 1
        assert transaction.execute_many(PUT, iter([("c", "1"), ("d", "2"), ("e", "3")])) == 3
        assert transaction.execute_many(PUT, []) == 0


def test_execute_many_runs_statements_that_return_rows_to_their_end(database: Database) -> None:
    with database.transaction() as transaction:
        assert transaction.execute_many(f"{PUT} RETURNING key", [("a", "1"), ("b", "2")]) == 2
    assert keys(database) == ["a", "b"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_block_that_raises_anything_leaves_no_trace(database: Database, error: type[BaseException]) -> None:
    with pytest.raises(error), database.transaction() as transaction:
        put_and_raise(transaction, "a", error)
    assert keys(database) == []
    put(database, "b")
    assert keys(database) == ["b"]


def test_a_savepoint_that_raises_is_undone_alone(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(PUT, ("before", "x"))
        with pytest.raises(ValueError), transaction.savepoint():
            put_and_raise(transaction, "inside", ValueError)
        with transaction.savepoint(), transaction.savepoint():
            transaction.execute(PUT, ("after", "x"))
    assert keys(database) == ["after", "before"]


def test_an_inner_savepoint_leaves_the_outer_one_whole(database: Database) -> None:
    with database.transaction() as transaction, transaction.savepoint():
        transaction.execute(PUT, ("outer", "x"))
        with pytest.raises(ValueError), transaction.savepoint():
            put_and_raise(transaction, "inner", ValueError)
    assert keys(database) == ["outer"]


def test_one_bad_item_can_be_left_out_and_its_neighbours_kept(database: Database) -> None:
    refused = []
    with database.transaction() as transaction:
        for key in ("a", "b", "a", "c"):
            try:
                with transaction.savepoint():
                    transaction.execute(PUT, (key, "x"))
            except StoreConstraint:
                refused.append(key)
    assert (refused, keys(database)) == (["a"], ["a", "b", "c"])


def test_a_broken_rule_in_the_middle_of_many_rows_names_the_statement(database: Database) -> None:
    with (
        pytest.raises(StoreConstraint, match=r"UNIQUE.*INSERT INTO meta"),
        database.transaction() as transaction,
    ):
        transaction.execute_many(PUT, [("a", "x"), ("b", "x"), ("a", "x")])
    assert keys(database) == []


def test_a_generator_of_rows_that_raises_ends_the_transaction_cleanly(database: Database) -> None:
    def rows() -> Iterator[tuple[str, str]]:
        yield ("a", "x")
        raise LookupError

    with pytest.raises(LookupError), database.transaction() as transaction:
        transaction.execute_many(PUT, rows())
    with database.transaction() as transaction:
        with pytest.raises(LookupError):
            transaction.execute_many(PUT, rows())
        transaction.execute(PUT, ("b", "x"))
    assert keys(database) == ["a", "b"]


@pytest.mark.parametrize("sql", ["SELEKT 1", "SELECT * FROM nowhere", "SELECT ?"])
def test_a_statement_that_cannot_run_is_a_store_error(database: Database, sql: str) -> None:
    with pytest.raises(StoreError, match="refused a statement"):
        database.query(sql)
    with pytest.raises(StoreError, match="refused a statement"), database.transaction() as transaction:
        transaction.execute(sql)
    put(database, "a")


def test_a_transaction_cannot_be_used_after_its_end(database: Database) -> None:
    with database.transaction() as transaction:
        pass
    with pytest.raises(RuntimeError, match="has ended"):
        transaction.execute("SELECT 1")


def test_a_thread_inside_a_transaction_may_neither_nest_nor_query_nor_close(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(PUT, ("a", "x"))
        with pytest.raises(RuntimeError, match="inside a transaction"), database.transaction():
            pass
        with pytest.raises(RuntimeError, match="inside a transaction"):
            database.query(ALL)
        with pytest.raises(RuntimeError, match="inside a transaction"):
            database.close()
        transaction.execute(PUT, ("b", "x"))
    assert keys(database) == ["a", "b"]


def test_another_thread_never_sees_what_is_not_committed(database: Database) -> None:
    seen: list[list[str]] = []
    with database.transaction() as transaction:
        transaction.execute(PUT, ("a", "x"))
        reader = threading.Thread(target=lambda: seen.append(keys(database)))
        reader.start()
        reader.join(0.05)
        transaction.execute("DELETE FROM meta")
        transaction.execute(PUT, ("b", "x"))
    reader.join()
    assert seen in ([[]], [["b"]])


def test_threads_take_turns_and_lose_nothing(database: Database) -> None:
    put(database, "n")
    with database.transaction() as transaction:
        transaction.execute("UPDATE meta SET value = '0'")

    def count() -> None:
        for _ in range(100):
            with database.transaction() as transaction:
                ((value,),) = transaction.execute("SELECT value FROM meta")
                transaction.execute("UPDATE meta SET value = ?", (str(int(value) + 1),))
            database.query(ALL)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query("SELECT value FROM meta") == [("400",)]


def enter(database: Database, trying: threading.Event) -> None:
    trying.set()
    with database.transaction():
        pass


def test_an_interrupt_while_waiting_for_the_lock_leaves_it_free(database: Database) -> None:
    waiter = threading.get_ident()
    inside, trying, end = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with database.transaction():
            inside.set()
            trying.wait(10)
            signal.pthread_kill(waiter, signal.SIGINT)
            end.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(10)
    with pytest.raises(KeyboardInterrupt):
        enter(database, trying)
    end.set()
    holder.join()
    put(database, "a")
    assert keys(database) == ["a"]


def test_the_version_changes_with_every_change_and_only_then(database: Database) -> None:
    before = database.version()
    assert database.version() == before
    put(database, "a")
    after = database.version()
    assert after != before
    with pytest.raises(ValueError), database.transaction() as transaction:
        put_and_raise(transaction, "b", ValueError)
    database.query(ALL)
    assert database.version() == after


def test_barrier_and_checkpoint_change_nothing_that_is_read(database: Database) -> None:
    with database.transaction(barrier=True) as transaction:
        transaction.execute(PUT, ("a", "x"))
    put(database, "b")
    database.barrier()
    assert database.checkpoint() == 0
    assert keys(database) == ["a", "b"]


def test_a_closed_database_says_so_and_may_be_closed_again(database: Database) -> None:
    database.close()
    database.close()
    for use in (
        lambda: database.query(ALL),
        lambda: database.transaction().__enter__(),
        database.version,
        database.barrier,
        database.checkpoint,
    ):
        with pytest.raises(EngineClosed, match="has been closed"):
            use()


def test_closing_waits_for_the_transaction_in_progress(database: Database) -> None:
    with database.transaction() as transaction:
        closer = threading.Thread(target=database.close)
        closer.start()
        closer.join(0.05)
        assert closer.is_alive()
        transaction.execute(PUT, ("a", "x"))
    closer.join()
    with pytest.raises(EngineClosed):
        database.query(ALL)


def test_the_journal_cannot_be_rewritten(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO event(run, sequence, at, epoch, body) VALUES (1, 1, 2, 3, '[]')")
    with pytest.raises(StoreConstraint, match="append-only"), database.transaction() as transaction:
        transaction.execute("UPDATE event SET body = '[1]'")
