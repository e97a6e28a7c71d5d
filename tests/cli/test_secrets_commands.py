"""`codomyrmex secrets`: values come from a prompt, a pipe or a file, and are never shown."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waiting import wait_until

Cli = Callable[..., Any]
VALUE = "s3cret value"


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return pipe


def kept(project: Path) -> str:
    return (project / ".codomyrmex" / "secrets.json").read_text()


def test_a_piped_value_is_kept_listed_by_name_and_removed(
    cli: Cli, project: Path, piped: Callable[[bytes], None]
) -> None:
    piped(f"{VALUE}\n".encode())
    ended = cli("secrets", "set", "TOKEN", "-")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"TOKEN is kept in {project / '.codomyrmex' / 'secrets.json'}\n"
    assert f'"{VALUE}"' in kept(project)
    assert (project / ".codomyrmex" / ".gitignore").exists()
    listed = cli("secrets", "list")
    assert [line.split()[:3] for line in listed.out.splitlines()] == [
        ["NAME", "FROM", "SET"],
        ["TOKEN", "this", "project"],
    ]
    document = cli("secrets", "list", "--json").document
    assert [(each["name"], each["origin"]) for each in document["data"]["secrets"]] == [("TOKEN", "state")]
    assert VALUE not in listed.out + str(document)
    assert cli("secrets", "remove", "TOKEN").out == "removed TOKEN from this project's secrets\n"
    again = cli("secrets", "remove", "TOKEN")
    assert again.code == 5
    assert "no secret 'TOKEN'\n  codomyrmex secrets list shows" in again.err
    assert "no secrets yet: codomyrmex secrets set NAME keeps one" in cli("secrets", "list").err


def test_the_user_s_own_secrets_hold_in_every_project(
    cli: Cli, project: Path, piped: Callable[[bytes], None]
) -> None:
    piped(VALUE.encode())
    assert cli("secrets", "set", "--user", "TOKEN").code == 0
    assert not (project / ".codomyrmex").exists()
    assert "your own" in cli("secrets", "list").out
    assert cli("secrets", "remove", "TOKEN").out == "removed TOKEN from your own secrets\n"


def test_a_file_is_taken_as_it_is_but_for_its_last_line_break(cli: Cli, project: Path) -> None:
    (project / "key.pem").write_text("-----BEGIN-----\nline\n-----END-----\r\n")
    assert cli("secrets", "set", "KEY", "--from-file", "key.pem").code == 0
    assert '"-----BEGIN-----\\nline\\n-----END-----"' in kept(project)
    assert cli("secrets", "set", "KEY", "-", "--from-file", "key.pem").code == 2


@pytest.mark.parametrize("words", [("TOKEN", VALUE), (f"TOKEN={VALUE}",)])
def test_a_value_on_the_line_is_refused_with_the_reason_and_not_repeated(
    cli: Cli, project: Path, words: tuple[str, ...]
) -> None:
    for more in ((), ("--json",)):
        ended = cli("secrets", "set", *words, *more)
        assert ended.code == 2
        assert "does not belong on the command line" in ended.err + ended.out
        assert "s3cret" not in ended.err + ended.out
    assert not (project / ".codomyrmex").exists()


def test_what_cannot_be_hidden_or_kept_is_said(
    cli: Cli, project: Path, piped: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_SECRET_PIN", "9")
    piped(b"123")
    assert "cannot be hidden" in (ended := cli("secrets", "set", "PIN")).err
    assert "CODOMYRMEX_SECRET_PIN wins over it" in ended.err
    assert "environment" in cli("secrets", "list").out
    for data, why in ((b"", "is empty"), (b"q\xff", "UTF-8"), (b"x" * 70_000, "65536")):
        piped(data)
        ended = cli("secrets", "set", "T")
        assert ended.code == 2
        assert why in ended.err
    (project / ".codomyrmex" / "secrets.json").chmod(0o644)
    refused = cli("secrets", "list")
    assert refused.code == 2
    assert "chmod 600" in refused.err


def test_at_a_terminal_it_is_asked_for_twice_and_not_shown(project: Path) -> None:
    near, far = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "codomyrmex", "secrets", "set", "TOKEN"], stdin=far, stdout=far, stderr=far
    )
    os.close(far)
    shown = b""

    def read_until(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(near, 4096)

    try:
        read_until(b"Value of TOKEN")
        os.write(near, f"{VALUE}\n".encode())
        read_until(b"Once more")
        os.write(near, f"{VALUE}\n".encode())
        read_until(b"is kept in")
        wait_until(lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()
        os.close(near)
    assert process.returncode == 0
    assert VALUE.encode() not in shown
    assert f'"{VALUE}"' in kept(project)
