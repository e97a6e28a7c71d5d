"""Logs as files, and parameters as words."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click
import pytest

from codomyrmex.cli.log_files import LogTails, last_attempts, lines_of, logs_of
from codomyrmex.cli.parameter_options import given_parameters, with_lists
from codomyrmex.exceptions import ValidationError


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for number, name in enumerate(["list.1", "parse[0].1", "parse[0].2", "parse.x[1].1", "parse[10].1"]):
        path = tmp_path / f"{name}.log"
        path.write_text(f"{name}\n")
        os.utime(path, ns=(number, number))
    (tmp_path / "note.txt").write_text("no log")
    (tmp_path / "odd.log").write_text("no attempt")
    return tmp_path


def test_the_logs_of_a_run_come_in_the_order_in_which_they_began(logs: Path) -> None:
    assert [(log.task, log.attempt) for log in logs_of(logs)] == [
        ("list", 1), ("parse[0]", 1), ("parse[0]", 2), ("parse.x[1]", 1), ("parse[10]", 1),
    ]  # fmt: skip
    assert logs_of(logs / "none") == []


def test_a_step_means_all_its_items_and_a_task_itself(logs: Path) -> None:
    assert [log.path.stem for log in logs_of(logs, "parse")] == ["parse[0].1", "parse[0].2", "parse[10].1"]
    assert [log.path.stem for log in logs_of(logs, "parse[10]")] == ["parse[10].1"]
    assert [log.path.stem for log in last_attempts(logs_of(logs, "parse[0]"))] == ["parse[0].2"]


def test_a_rewritten_line_is_told_as_it_was_last(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1%\r50%\r100%\r\nnext\xff\nlast")
    assert list(lines_of(tmp_path / "a")) == ["100%", "next\ufffd", "last"]


def test_tails_tell_whole_lines_as_they_come(tmp_path: Path) -> None:
    path, tails = tmp_path / "a.log", LogTails()
    assert tails.news(str(path)) == []
    path.write_text("one\ntw")
    assert tails.news(str(path)) == ["one"]
    assert tails.news(str(path)) == []
    with path.open("a") as file:
        file.write("o\nthr")
    assert tails.news(str(path)) == ["two"]
    assert tails.rest(str(path)) == ["thr"]


def test_tails_may_begin_at_the_end(tmp_path: Path) -> None:
    path, tails = tmp_path / "a.log", LogTails()
    path.write_text("old\n")
    tails.skip(str(path))
    with path.open("a") as file:
        file.write("new\n")
    assert tails.news(str(path)) == ["new"]


def test_parameters_are_texts_files_json_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("note.txt").write_text("from a file")
    words = ["a=1", "b=x=y", "c=@note.txt", 'd:={"e": [1]}', "f=1", "f=2", "g="]
    assert given_parameters(words, None) == {
        "a": "1", "b": "x=y", "c": "from a file", "d": {"e": [1]}, "f": ["1", "2"], "g": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '{"a": 1, "b": 2}'),
        ("p.yaml", "a: 1\nb: 2\n"),
        ("p.toml", "a = 1\nb = 2\n"),
        ("-", "a: 1\nb: 2"),
    ],
)
def test_a_file_of_parameters_gives_way_to_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    Path(name).write_text(text)
    assert given_parameters(["b=3"], name) == {"a": 1, "b": "3"}


@pytest.mark.parametrize(
    ("words", "file", "told"),
    [
        (["a"], None, "-p 'a' is not name=value"),
        (["=a"], None, "is not name=value"),
        (["a:={"], None, "not valid JSON"),
        (["a=@none.txt"], None, "none.txt: No such file"),
        ([], "none.json", "none.json: No such file"),
        ([], "list.json", "a mapping of names to values is needed"),
    ],
)
def test_a_wrong_word_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], file: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1]")
    with pytest.raises(click.UsageError, match=told):
        given_parameters(words, file)


def test_a_file_of_parameters_that_cannot_be_read_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a: 1\nb: {c\n")
    with pytest.raises(ValidationError, match=r"p\.yaml:"):
        given_parameters([], str(tmp_path / "p.yaml"))


def test_one_word_for_a_list_is_a_list_of_one() -> None:
    declared = {"l": {"type": "list"}, "m": {"type": "list"}, "t": {"type": "string"}}
    assert with_lists({"l": "a", "m": "[1]", "t": "a", "u": "a"}, declared) == {
        "l": ["a"], "m": "[1]", "t": "a", "u": "a",
    }  # fmt: skip
