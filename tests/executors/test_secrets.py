"""The values of secrets reach the action and nothing else: not its log, its error, its result or its notes."""

from __future__ import annotations

import base64
import json
import logging
import os
import shlex
import signal
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codomyrmex.current_task import current_task
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.attempt import (
    Attempt,
    Executor,
    Outcome,
    OutcomeKind,
)
from codomyrmex.logistics.orchestration.project.executors.coroutine import AsyncExecutor
from codomyrmex.logistics.orchestration.project.executors.process import ProcessExecutor
from codomyrmex.logistics.orchestration.project.executors.thread import ThreadExecutor
from codomyrmex.logistics.orchestration.project.executors.thread_output import captured
from codomyrmex.logistics.orchestration.project.executors.worker.redaction import Redactor
from codomyrmex.logistics.orchestration.project.executors.worker.secret_forms import forms_of
from waiting import wait_until

Make = Callable[..., Attempt]
VALUE = 'hunter2/+ "quoted" it\'s ünïcode=&'
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq/hk+iG9w0\nBAQEFAASCBKcwggSj\n-----END KEY-----"
SECRETS = {"TOKEN": VALUE, "KEY": KEY}
letters = st.text("ab/'\\\n é\"%=", min_size=4, max_size=12).filter(lambda text: len(text.strip()) >= 4)


def forms() -> Iterator[tuple[str, str]]:
    """How a value looks where programs have written it."""
    yield "plain", VALUE
    yield "quote", urllib.parse.quote(VALUE)
    yield "quote_plus", urllib.parse.quote_plus(VALUE)
    yield "query", urllib.parse.urlencode({"token": VALUE})
    yield "lower percent", urllib.parse.quote(VALUE, safe="").replace("%C3%BC", "%c3%bc").lower()
    yield "json", json.dumps({"x": VALUE})
    yield "json unicode", json.dumps([VALUE], ensure_ascii=False)
    yield "repr", repr(VALUE)
    yield "repr among both quotes", repr({"x": f'\'"{VALUE}"'})
    yield "ascii", ascii(VALUE)
    yield "repr of bytes", repr(VALUE.encode())
    yield "shell", shlex.quote(VALUE)
    for before in ("", "u", "us", "user:"):
        yield f"base64 behind {before!r}", base64.b64encode(f"{before}{VALUE}".encode()).decode()
        yield f"urlsafe behind {before!r}", base64.urlsafe_b64encode(f"{before}{VALUE}!".encode()).decode()
    yield "whole key", KEY
    for number, line in enumerate(KEY.splitlines()):
        yield f"line {number} of the key", f"  {line}\r\n"


@pytest.mark.parametrize(("text"), [pytest.param(text, id=name) for name, text in forms()])
def test_every_form_of_a_value_is_hidden(text: str) -> None:
    redactor = Redactor(SECRETS)
    shown = redactor.text(f"before {text} after")
    assert "***TOKEN***" in shown or "***KEY***" in shown
    assert redactor.data(f"before {text} after".encode()) == shown.encode()
    for piece in (VALUE, "hunter2", "quoted", "aHVudGVy", "odW50ZX", "IHF1b3RlZ", "MIIEv", "BEGIN"):
        assert piece not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


def test_short_values_and_texts_without_a_value_stay() -> None:
    redactor = Redactor({"PIN": "123", "EMPTY": "", "TOKEN": "12345"})
    text = "PIN 123, code 1234"
    assert redactor.text(text) is text
    assert redactor.text("x12345") == "x***TOKEN***"
    assert forms_of("abc") == []


@given(st.lists(letters, min_size=1, max_size=3), st.data())
def test_no_value_passes_however_a_text_is_cut(secrets: list[str], data: st.DataObject) -> None:
    redactor = Redactor({f"S{number}": value for number, value in enumerate(secrets)})
    every = sorted({form for value in secrets for form in forms_of(value)})
    pieces = data.draw(st.lists(st.sampled_from(every) | st.text("ab/\\n\n'% x", max_size=4), max_size=8))
    text = "".join(pieces)
    shown = redactor.text(text)
    assert not any(form in shown for form in every)
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    stream, came = redactor.stream(), b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        came += stream.feed(raw[start:end])
        assert not any(form.encode() in came for form in every)
    assert came + stream.feed(b"", final=True) == shown.encode()


@given(st.lists(letters, min_size=1, max_size=3), st.text("cdef\n", max_size=40))
def test_a_text_without_values_comes_out_as_it_was_and_at_once(secrets: list[str], text: str) -> None:
    redactor = Redactor({f"S{number}": f"{value}zz" for number, value in enumerate(secrets)})
    assert redactor.text(text) == text
    stream = redactor.text_stream()
    assert stream.feed("") + "".join(map(stream.feed, text)) + stream.feed("", final=True) == text


def test_values_that_overlap_are_hidden_as_one() -> None:
    redactor = Redactor({"A": "abcdef", "B": "defghi"})
    assert redactor.text("<abcdefghi>") == "<***A***>"
    stream = redactor.text_stream()
    assert [stream.feed(piece) for piece in ("<abcd", "ef", "gh", "i>")] == ["<", "***A***", "", ">"]
    assert redactor.text("abcdefdefghi") == "***A******B***"


def test_a_tree_is_searched_in_texts_keys_and_bytes_and_not_changed() -> None:
    redactor = Redactor({"T": "s3cret", "N": "20261122"})
    given_value = {
        "k s3cret": ["s3cret!", 1, None, 20261122, 202611220],
        "k s3cret ": Path("/tmp/s3cret"),
        "b": b"\x00s3cret\xff",
        "d": {"s3cret": ("s3cret",)},
    }
    tagged = values.to_tagged(given_value)
    before = values.encode_tree(tagged)
    hidden = redactor.tree(tagged)
    assert values.encode_tree(tagged) == before
    assert values.from_tagged(hidden, classes=True) == {
        "k ***T***": ["***T***!", 1, None, "***N***", 202611220],
        "k ***T*** ": Path("/tmp/***T***"),
        "b": b"\x00***T***\xff",
        "d": {"***T***": ("***T***",)},
    }
    assert redactor.tree({"s3cret": 1, "czNjcmV0": 2}) == {"***T***": 1, "***T*** (2)": 2}
    assert redactor.tree({"$type": "decimal", "value": "20261122"}) == "***N***"
    assert redactor.note({"kind": "s3cret", "message": "s3cret"}) == {"kind": "s3cret", "message": "***T***"}


# ------------------------------------------------------------------------------------------ in processes


SPILL = """
import json, logging, os, subprocess, sys, time, traceback
from codomyrmex.current_task import current_task

def spill(token):
    print("out", token)
    print("err", token, file=sys.stderr)
    logging.getLogger("x").warning("log %s", token)
    current_task().log.info("task %s", token)
    os.write(1, token.encode()[:5]); time.sleep(0.01); os.write(1, token.encode()[5:] + b"\\n")
    subprocess.run(["sh", "-c", 'echo "child $TOKEN" && echo "again $TOKEN" >&2'], check=True)
    current_task().progress(1, 2, f"at {token}")
    current_task().metric(token, 1.0)
    return {"token": token, token: [token.encode(), current_task().secret("TOKEN"), os.environ["TOKEN"]]}

def burst(token):
    try:
        local = {"given": token}
        raise KeyError(token)
    except KeyError as cause:
        raise ValueError(f"with {local!r} and {token}") from cause

def long_burst(token):
    raise ValueError(token * 1700)

def die(token, how):
    sys.stdout.write("last " + token[:-1]); sys.stdout.flush()
    if how == "exit": os._exit(7)
    os.kill(os.getpid(), 9)

def linger(token, until):
    print("first", token)
    child = "\\n".join([
        "import os, sys, time",
        "print('begun', flush=True)",
        "print('to the log', os.environ['TOKEN'], file=sys.stderr, flush=True)",
        "print('said', flush=True)",
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)",
        "print('late', os.environ['TOKEN'])",
    ])
    child = subprocess.Popen(
        [sys.executable, "-c", child, until], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    child.stdout.readline(), child.stdout.readline()
    return child.pid

def hold(token, until):
    print("waiting with", token)
    while not os.path.exists(until): time.sleep(0.005)

def flood(token):
    for number in range(3000):
        print(number, "x" * 100, token)

def close_all(token):
    print(token); sys.stdout.flush(); os.close(1); os.close(2)
"""


@pytest.fixture
def spill(project: Path) -> Mapping[str, Any]:
    (project / "spill.py").write_text(SPILL)
    return {"module": "spill", "secrets": {"TOKEN": VALUE}, "env": {"TOKEN": {"$secret": "TOKEN"}}}


MARK = {"$secret": "TOKEN"}


def given_secret(options: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
    """An attempt's fields with a parameter `token` that stands for the secret, and others."""
    return {**options, "parameters": json.dumps({"token": MARK, **parameters}).encode()}


def log_of(attempt: Attempt) -> str:
    return Path(str(attempt.log_path)).read_text()


def test_a_process_gets_the_value_and_only_its_name_comes_back(
    tmp_path: Path, make: Make, spill: Mapping[str, Any]
) -> None:
    notes: list[Any] = []
    executor = ProcessExecutor(
        spool_dir=str(tmp_path / "spool"),
        engine_token="secret-notes",
        max_workers=1,
        on_note=lambda _, note: notes.append(note),
    )
    attempt = make("spill", given_secret(spill))
    try:
        outcome = executor.run(attempt)
    finally:
        executor.close()
    assert outcome.error is None
    assert values.decode(outcome.result or b"") == {
        "token": "***TOKEN***",
        "***TOKEN***": [b"***TOKEN***", "***TOKEN***", "***TOKEN***"],
    }
    said = log_of(attempt).splitlines()
    assert [line.split("INFO ")[-1] for line in said] == [
        "out ***TOKEN***",
        "err ***TOKEN***",
        "log ***TOKEN***",
        "task ***TOKEN***",
        "***TOKEN***",
        "child ***TOKEN***",
        "again ***TOKEN***",
    ]
    assert [note.get("message") or note["name"] for note in notes] == ["at ***TOKEN***", "***TOKEN***"]


def test_an_error_shows_no_value_in_message_cause_or_traceback(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any]
) -> None:
    error = executor.run(make("burst", given_secret(spill))).error
    assert error is not None
    assert error.message == "with {'given': '***TOKEN***'} and ***TOKEN***"
    assert "KeyError: '***TOKEN***'" in str(error.traceback)
    assert "hunter2" not in str(error)
    cut = executor.run(make("long_burst", given_secret(spill))).error
    assert cut is not None
    assert "... cut ..." in str(cut.traceback)
    assert not [piece for piece in ("hunter2", "quoted", "=&") if piece in str(cut.traceback)]


def test_the_next_attempt_of_the_worker_is_hidden_no_more(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any]
) -> None:
    first, second = make("hold", given_secret(spill, until="/")), make("say", text=VALUE)
    executor.run(first)
    executor.run(second)
    assert log_of(first) == "waiting with ***TOKEN***\n"
    assert log_of(second) == f"{VALUE}\n"
    assert VALUE not in str(values.decode(executor.run(make("look")).result or b""))


def test_a_silent_attempt_with_secrets_leaves_no_log(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any]
) -> None:
    attempt = make("nothing", {**spill, "module": "acts"})
    executor.run(attempt)
    assert not Path(str(attempt.log_path)).exists()


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_the_last_words_of_a_crash_are_in_the_log(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any], how: str
) -> None:
    attempt = make("die", given_secret(spill, how=how))
    assert executor.run(attempt).kind is OutcomeKind.CRASHED
    assert log_of(attempt) == f"last {VALUE[:-1]}"


def test_what_is_left_running_is_ended_and_its_words_stay_hidden_in_their_own_log(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any], tmp_path: Path
) -> None:
    attempt = make("linger", given_secret(spill, until=str(tmp_path / "never")))
    after = make("say", text="after")
    outcome = executor.run(attempt)
    assert outcome.kind is OutcomeKind.COMPLETED
    wait_until(lambda: not Path(f"/proc/{int(outcome.result or b'0')}").exists())
    executor.run(after)
    assert log_of(attempt) == "first ***TOKEN***\nto the log ***TOKEN***\n"
    assert log_of(after) == "after\n"


def test_the_log_can_be_followed_and_a_cancel_keeps_it(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any], tmp_path: Path
) -> None:
    attempt = make("hold", given_secret(spill, until=str(tmp_path / "never")))
    ended: list[Outcome] = []
    thread = threading.Thread(target=lambda: ended.append(executor.run(attempt)))
    thread.start()
    try:
        wait_until(
            lambda: Path(str(attempt.log_path)).exists() and log_of(attempt) == "waiting with ***TOKEN***\n"
        )
    finally:
        executor.cancel(attempt.token, kill=True)
        thread.join()
    assert ended[0].kind is OutcomeKind.CANCELLED
    assert log_of(attempt) == "waiting with ***TOKEN***\n"


def test_all_that_an_attempt_wrote_is_in_its_log_when_it_has_ended(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any]
) -> None:
    for _ in range(40):
        attempt = make("hold", given_secret(spill, until="/"))
        executor.run(attempt)
        assert log_of(attempt) == "waiting with ***TOKEN***\n"


def test_much_output_passes_whole_and_an_attempt_may_close_its_streams(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any]
) -> None:
    attempt = make("flood", given_secret(spill))
    executor.run(attempt)
    assert log_of(attempt) == "".join(f"{number} {'x' * 100} ***TOKEN***\n" for number in range(3000))
    closed = make("close_all", given_secret(spill))
    assert executor.run(closed).kind is OutcomeKind.COMPLETED
    assert log_of(closed) == "***TOKEN***\n"


def test_what_a_command_writes_is_hidden_in_its_result_and_its_failure(
    executor: ProcessExecutor, make: Make
) -> None:
    where = {"module": "codomyrmex_worker.builtins_shell", "secrets": {"TOKEN": VALUE}}

    def made(**parameters: Any) -> Attempt:
        return make("run", {**where, "parameters": json.dumps(parameters).encode()})

    good = executor.run(made(command='echo "$T"; echo "$T" >&2', shell=True, env={"T": MARK}))
    assert good.error is None
    assert values.decode(good.result or b"") == {
        "exit_code": 0,
        "stdout": "***TOKEN***\n",
        "stderr": "***TOKEN***\n",
    }
    bad = executor.run(made(command=["sh", "-c", 'echo "$0"; exit 3', MARK])).error
    assert bad is not None
    assert bad.exit_code == 3
    assert "hunter2" not in str(bad)
    assert bad.message.endswith("ended with exit code 3: ***TOKEN***")
    command = ["bash", "-c", 'for i in {1..9000}; do printf "%s" "$0"; done', MARK]
    tail = values.decode(executor.run(made(command=command)).result or b"")["stdout"]
    assert set(tail.replace("***TOKEN***", "")) <= set("*TOKEN")


def test_data_that_looks_like_a_secret_s_place_stays_data(executor: ProcessExecutor, make: Make) -> None:
    def echo(**given: Any) -> Any:
        return {"seen": str(given)}

    options = {"secrets": {"TOKEN": VALUE}}
    data = {"x": MARK, "y": [(MARK,)]}
    outcome = executor.run(make("echo", options, **data))
    assert values.decode(outcome.result or b"") == data
    assert values.to_tagged(MARK) == {"$type": "dict", "value": [["$secret", "TOKEN"]]}
    seen = ThreadExecutor().run(make("echo", {**options, "function": echo}, **data))
    assert values.decode(seen.result or b"") == {"seen": str(data)}


def test_an_attempt_never_shows_its_secrets(make: Make) -> None:
    assert "hunter2" not in repr(make("nothing", {"secrets": {"TOKEN": VALUE}}))


# ------------------------------------------------------------------------------- in threads and coroutines


def talk(token: str) -> Any:
    task = current_task()
    print("printed", token[:4], end="")
    print(token[4:])
    task.log.warning("logged %s", token)
    try:
        raise KeyError(token)
    except KeyError:
        task.log.exception("caught")
    task.progress(1, 1, token)
    return {"token": token, "again": task.secret("TOKEN")}


async def talk_later(token: str) -> Any:
    return talk(token)


def shout(token: str) -> None:
    raise ValueError(token)


async def shout_later(token: str) -> None:
    raise ValueError(token)


@pytest.mark.parametrize("kind", [ThreadExecutor, AsyncExecutor])
def test_threads_and_coroutines_hide_the_same(
    kind: Callable[..., Executor], make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[Any] = []
    executor = kind(on_note=lambda _, note: notes.append(note))
    later = kind is AsyncExecutor
    secret = {"secrets": {"TOKEN": VALUE}, "isolation": "thread"}
    attempt = make("talk", given_secret({**secret, "function": talk_later if later else talk}))
    failing = make("shout", given_secret({**secret, "function": shout_later if later else shout}))
    try:
        with captured(), caplog.at_level(logging.INFO):
            outcome, failed = executor.run(attempt), executor.run(failing)
    finally:
        executor.close()
    assert values.decode(outcome.result or b"") == {"token": "***TOKEN***", "again": "***TOKEN***"}
    assert [note["message"] for note in notes] == ["***TOKEN***"]
    said = log_of(attempt)
    assert "printed ***TOKEN***\n" in said
    assert "logged ***TOKEN***" in said
    assert "KeyError: " in said
    assert failed.error is not None
    assert failed.error.message == "***TOKEN***"
    for text in (said, caplog.text, str(failed.error), str(notes)):
        assert "hunter2" not in text


def test_a_thread_without_a_log_prints_to_its_streams_without_the_value(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak(token: str) -> None:
        print("said", token)

    options = {"secrets": {"TOKEN": VALUE}, "function": speak, "log_path": None}
    with captured():
        assert ThreadExecutor().run(make("speak", given_secret(options))).kind is OutcomeKind.COMPLETED
    assert capsys.readouterr().out == "said ***TOKEN***\n"


def test_no_worker_shows_a_value_in_its_arguments(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any], tmp_path: Path
) -> None:
    attempt = make("hold", given_secret(spill, until=str(tmp_path / "until")))
    thread = threading.Thread(target=executor.run, args=(attempt,))
    thread.start()
    try:
        wait_until(lambda: Path(str(attempt.log_path)).exists())
        lines = [
            path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)
        ]
        assert not [line for line in lines if VALUE.encode() in line]
    finally:
        (tmp_path / "until").touch()
        thread.join()


def test_a_runner_that_is_killed_in_the_middle_of_a_value_leaves_no_half_hidden_log(
    executor: ProcessExecutor, make: Make, spill: Mapping[str, Any], project: Path, tmp_path: Path
) -> None:
    (project / "half.py").write_text(
        "import os, time\n"
        "def half(token, until):\n"
        "    os.write(1, b'ok ' + token.encode()[:20])\n"
        "    open(until, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
    )
    started = tmp_path / "started"
    attempt = make("half", given_secret({**spill, "module": "half"}, until=str(started)))
    thread = threading.Thread(target=executor.run, args=(attempt,))
    thread.start()
    wait_until(lambda: started.exists() and bool(started.read_text()))
    os.kill(int(started.read_text()), signal.SIGKILL)
    thread.join()
    assert log_of(attempt) == "ok " + VALUE.encode()[:20].decode()
