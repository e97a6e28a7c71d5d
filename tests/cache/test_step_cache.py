"""When a kept result is used and when the action runs again; the engine's part stands in `test_cached_runs`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from caching_bench import Bench

from codomyrmex.logistics.orchestration.project.executors.attempt import OutcomeKind
from codomyrmex.logistics.orchestration.project.values import encode_tree


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    (tmp_path / "data.csv").write_text("1,2")
    yield bench
    bench.close()


def test_the_same_step_runs_once(bench: Bench) -> None:
    first = bench.fit({}, {"lr": 0.1})
    again = bench.fit({}, {"lr": 0.1})
    assert (first.result, first.cached) == (b"1", False)
    assert (again.result, again.cached, again.cache_row) == (b"1", True, None)
    assert bench.calls == 1


def test_other_parameters_run_and_the_earlier_result_stays(bench: Bench) -> None:
    assert [bench.fit({}, {"lr": lr}).result for lr in (0.1, 0.2, 0.1)] == [b"1", b"2", b"1"]
    assert bench.why(bench.run({}, {"lr": 0.3})) == "parameter 'lr' was 0.2, is 0.3"


def test_parameters_of_other_types_are_other_parameters(bench: Bench) -> None:
    for value in (1, "1", 1.5, True, None, [1], {"a": 1}):
        assert not bench.fit({}, {"x": value}).cached
        assert bench.fit({}, {"x": value}).cached


def test_an_input_that_changed_runs_it_again(bench: Bench, tmp_path: Path) -> None:
    cache = {"inputs": ["*.csv"]}
    bench.fit(cache)
    assert bench.fit(cache).cached
    (tmp_path / "data.csv").write_text("1,3")
    assert bench.why(bench.run(cache)) == "input data.csv changed"
    assert not bench.fit(cache).cached


def test_a_missing_input_fails_the_step_before_the_action(bench: Bench) -> None:
    outcome = bench.fit({"inputs": ["gone.csv"]})
    assert outcome.kind is OutcomeKind.FAILED
    assert outcome.error is not None
    assert (outcome.error.type, bench.calls) == ("InputMissing", 0)
    assert "'gone.csv' matches no file" in outcome.error.message


def test_an_action_that_changes_its_own_inputs_is_not_kept(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        outcome = bench.fit({"inputs": ["data.csv"]}, {"writes": "data.csv"})
    assert (outcome.kind, outcome.cache_row) == (OutcomeKind.COMPLETED, None)
    assert "changed its own inputs" in caplog.text


def test_outputs_must_be_there_as_they_were_left(bench: Bench, tmp_path: Path) -> None:
    cache, given = {"outputs": ["model.*"]}, {"writes": "model.bin"}
    bench.fit(cache, given)
    assert bench.fit(cache, given).cached
    (tmp_path / "model.bin").write_text("somebody else's")
    assert bench.why(bench.run(cache, given)) == "output model.bin changed"
    assert not bench.fit(cache, given).cached
    (tmp_path / "model.bin").unlink()
    assert bench.why(bench.run(cache, given)) == "output model.bin is gone"
    assert not bench.fit(cache, given).cached


def test_an_output_that_was_not_written_keeps_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    assert bench.fit({"outputs": ["never.bin"]}).cache_row is None
    assert "'never.bin' matches no file" in caplog.text


def test_a_result_ages(bench: Bench) -> None:
    cache = {"ttl_s": 7 * 86400.0}
    bench.fit(cache)
    bench.clock.advance(7 * 86400 - 1)
    assert bench.fit(cache).cached
    bench.clock.advance(2)
    assert bench.why(bench.run(cache)) == "older than its ttl of 7d"
    assert not bench.fit(cache).cached
    assert bench.fit(cache).cached


def test_a_key_stands_for_parameters_and_inputs(bench: Bench) -> None:
    bench.fit({"key": "v1", "inputs": ["data.csv"]}, {"lr": 0.1})
    assert bench.fit({"key": "v1"}, {"lr": 0.2}).cached
    assert not bench.fit({"key": "v2"}, {"lr": 0.2}).cached


def test_also_is_part_of_the_key(bench: Bench) -> None:
    assert not bench.fit({"also": ["schema 1"]}).cached
    assert bench.fit({"also": ["schema 1"]}).cached
    assert not bench.fit({"also": ["schema 2"]}).cached


def test_force_runs_and_keeps_what_comes(bench: Bench) -> None:
    bench.fit({})
    forced = bench.fit({}, force=True)
    assert (forced.cached, forced.result, forced.cache_row is not None) == (False, b"2", True)
    assert bench.fit({}).result == b"2"


def test_a_variable_counts_by_value_and_is_not_written_down(bench: Bench) -> None:
    given, step = {"url": "host?token=${env.TOKEN}"}, {"env": {"MODE": "${env.TOKEN}"}}
    first = bench.fit({}, given, environment={"TOKEN": "s3cret"}, **step)
    assert bench.fit({}, given, environment={"TOKEN": "s3cret"}, **step).cached
    assert first.cache_row is not None
    assert "s3cret" not in str(first.cache_row)
    assert not bench.fit({}, given, environment={"TOKEN": "other"}, **step).cached


def test_a_failed_attempt_keeps_nothing(bench: Bench) -> None:
    outcome = bench.fit({}, {"writes": "no/such/folder"})
    assert (outcome.kind, outcome.cache_row) == (OutcomeKind.FAILED, None)
    assert bench.why(bench.run({})) == "never ran with a cache"


def test_a_large_result_comes_from_its_file_and_runs_again_without_it(bench: Bench, tmp_path: Path) -> None:
    given = {"big": 200_000}
    first = bench.fit({}, given)
    again = bench.fit({}, given)
    assert again.cached
    assert bench.results.get(again.result) == b'"' + b"x" * 200_000 + b'"'
    for file in (tmp_path / ".results").glob("*.json"):
        file.unlink()
    assert "cannot be read" in bench.why(bench.run({}, given))
    renewed = bench.fit({}, given)
    assert (renewed.cached, renewed.result) == (False, first.result)


def test_a_damaged_row_is_no_result(bench: Bench) -> None:
    bench.fit({})
    with bench.database.transaction() as tx:
        tx.execute("UPDATE cache SET result = ?", (b"7",))
    assert bench.why(bench.run({})) == "the kept result is damaged"
    assert not bench.fit({}).cached


def test_a_step_without_a_cache_is_never_looked_up(bench: Bench) -> None:
    run = bench.run({})
    run.workflow.caches.clear()  # type: ignore[attr-defined]
    assert bench.attempt(run).cache_row is None


def test_a_result_whose_value_file_is_gone_is_no_result(bench: Bench, tmp_path: Path) -> None:
    bench.fit({})
    tag = {"codec": "table", "bytes": 3, "sha256": "ab" * 32, "suffix": ".csv"}
    data = encode_tree({"rows": [{"$type": "file", "value": tag}]})
    with bench.database.transaction() as tx:
        tx.execute("UPDATE cache SET result = ?, check_sum = ?", (data, crc32(data)))
    assert bench.why(bench.run({})) == "a file of the kept result is gone"
    Path(bench.results.values.folder).mkdir(exist_ok=True)
    Path(bench.results.values.folder, "ab" * 32 + ".csv").write_text("1,2")
    assert bench.fit({}).result == data
