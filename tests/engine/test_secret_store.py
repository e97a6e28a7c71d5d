"""Where secrets are kept, which place wins, and files that are refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from codomyrmex.exceptions import CodomyrmexError, ValidationError
from codomyrmex.logistics.orchestration.project.secret_store import (
    FILE,
    MAX_BYTES,
    SecretFileRefused,
    SecretNotFound,
    SecretStore,
)
from codomyrmex.workspace import Workspace


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def store_of(state: Path | None, **environ: str) -> SecretStore:
    home = str(state.parent / "home") if state is not None else "/nowhere"
    return SecretStore(state, environ={"HOME": home, **environ})


def test_a_variable_wins_over_the_state_and_the_state_over_the_user(state: Path) -> None:
    store = store_of(state)
    for name in ("A", "B", "C"):
        store.set(name, "user's", user=True)
    for name in ("A", "B"):
        store.set(name, "state's")
    store = store_of(state, CODOMYRMEX_SECRET_A="variable's", CODOMYRMEX_SECRET_B="", CODOMYRMEX_SECRET_9="x")
    assert store.values(["C", "A", "B", "A"]) == {"C": "user's", "A": "variable's", "B": "state's"}
    assert [(each.name, each.origin) for each in store.names()] == [
        ("A", "variable"),
        ("B", "state"),
        ("C", "user"),
    ]
    assert [each.updated_at is None for each in store.names()] == [True, False, False]


def test_all_that_is_missing_is_said_at_once_with_the_command_that_helps(state: Path) -> None:
    store = store_of(state)
    store.set("API_TOKEN", "v")
    with pytest.raises(SecretNotFound) as refused:
        store.values(["API_TOKENS", "API_TOKEN", "OTHER"])
    assert refused.value.names == ("API_TOKENS", "OTHER")
    assert refused.value.exit_code == 2
    assert [fault.nearest for fault in refused.value.faults] == ["API_TOKEN", None]
    assert "codomyrmex secrets set OTHER" in str(refused.value)
    assert "CODOMYRMEX_SECRET_OTHER" in str(refused.value)


def test_the_files_are_their_owner_s_alone_whatever_the_umask(state: Path) -> None:
    before = os.umask(0)
    try:
        paths = [store_of(state).set("A", "v"), store_of(state).set("A", "v", user=True)]
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
    assert paths[0] == state / FILE
    assert paths[1] == state.parent / "home" / ".config" / "codomyrmex" / FILE
    assert stat.S_IMODE(paths[1].parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in state.iterdir()) == [".secrets.lock", FILE]


def test_xdg_config_home_says_where_the_user_s_secrets_are(state: Path, tmp_path: Path) -> None:
    path = store_of(state, XDG_CONFIG_HOME=str(tmp_path / "xdg")).set("A", "v", user=True)
    assert path == tmp_path / "xdg" / "codomyrmex" / FILE


def test_a_value_may_have_lines_and_comes_back_as_it_was(state: Path) -> None:
    value = "-----BEGIN-----\nä\t\"'\\\n-----END-----\n"
    store_of(state).set("KEY", value)
    assert store_of(state).values(["KEY"]) == {"KEY": value}
    assert store_of(state).values([]) == {}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("a-b", "v", "cannot be called 'a-b'"),
        ("9A", "v", "cannot be called"),
        ("A\n", "v", "cannot be called"),
        ("A", "", "is empty"),
        ("A", "x" * (MAX_BYTES + 1), "more than 65536 bytes"),
        ("A", "q\0q", "NUL"),
        ("A", "q\ud800q", "UTF-8"),
    ],
)
def test_what_cannot_be_kept_is_refused_without_being_shown(
    state: Path, name: str, value: str, why: str
) -> None:
    with pytest.raises(ValidationError, match=why) as refused:
        store_of(state).set(name, value)
    assert "qq" not in str(refused.value).replace("\0", "")
    assert not (state / FILE).exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_or_write_is_refused(state: Path, mode: int) -> None:
    store = store_of(state)
    path = store.set("A", "v4lue")
    path.chmod(mode)
    for use in (lambda: store.values(["A"]), lambda: store_of(state).names(), lambda: store.set("B", "v")):
        with pytest.raises(SecretFileRefused, match="others") as refused:
            use()
        assert f"chmod 600 {path}" in str(refused.value.hint)
    path.chmod(0o600)
    assert store.values(["A"]) == {"A": "v4lue"}


def test_links_folders_and_files_of_something_else_are_refused(state: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("{}")
    elsewhere.chmod(0o600)
    path = state / FILE
    path.symlink_to(elsewhere)
    with pytest.raises(SecretFileRefused, match="is a link"):
        store_of(state).values(["A"])
    with pytest.raises(SecretFileRefused, match="is a link"):
        store_of(state).set("A", "v")
    assert elsewhere.read_text() == "{}"
    path.unlink()
    path.mkdir()
    with pytest.raises(SecretFileRefused, match="is no file"):
        store_of(state).values(["A"])
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(SecretFileRefused, match="is no file"):
        store_of(state).values(["A"])
    path.unlink()
    path.touch(0o600)
    path.write_text('{"secrets": {"A": {"value": 12345, "updated_at": "2026-11-22T00:00:00Z"}}}')
    with pytest.raises(SecretFileRefused, match="no file of secrets") as refused:
        store_of(state).values(["A"])
    assert "12345" not in str(refused.value)


def test_removing_says_where_it_was(state: Path) -> None:
    store = store_of(state, CODOMYRMEX_SECRET_V="v")
    store.set("A", "v")
    store.set("A", "v", user=True)
    assert [store.remove("A"), store.remove("A")] == ["state", "user"]
    with pytest.raises(SecretNotFound):
        store.remove("A")
    with pytest.raises(CodomyrmexError, match="from the environment"):
        store.remove("V")


def test_a_change_by_another_process_is_seen(state: Path) -> None:
    mine, other = store_of(state), store_of(state)
    mine.set("A", "one1")
    assert other.values(["A"]) == {"A": "one1"}
    mine.set("A", "two2")
    assert other.values(["A"]) == {"A": "two2"}


def test_without_a_folder_there_are_only_variables() -> None:
    store = SecretStore(None, environ={"CODOMYRMEX_SECRET_A": "v"})
    assert store.values(["A"]) == {"A": "v"}
    for user in (False, True):
        with pytest.raises(CodomyrmexError, match="no folder"):
            store.set("A", "v", user=user)


def test_a_variable_that_is_no_text_is_refused() -> None:
    store = SecretStore(None, environ={"CODOMYRMEX_SECRET_A": os.fsdecode(b"q\xffq")})
    with pytest.raises(ValidationError, match="UTF-8"):
        store.values(["A"])


def test_nothing_of_a_store_shows_a_value(state: Path) -> None:
    store = store_of(state, CODOMYRMEX_SECRET_V="v4lue")
    store.set("A", "v4lue")
    store.values(["A", "V"])
    shown = repr(store) + repr(store.names()) + repr(vars(store)["_state"].read())
    assert "v4lue" not in shown


def test_what_a_killed_writer_left_is_cleared_by_the_next(state: Path) -> None:
    (state / ".secrets.part").write_text("half")
    store_of(state).set("A", "v")
    assert not (state / ".secrets.part").exists()


def test_the_state_s_own_gitignore_covers_the_file(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path, root_evidence="", state=tmp_path / ".codomyrmex", state_evidence="")
    workspace.prepare()
    path = store_of(workspace.state).set("A", "v")
    assert path.parent == workspace.state
    assert "*" in (workspace.state / ".gitignore").read_text().splitlines()


def set_many(folder: str, prefix: str) -> None:
    store = SecretStore(Path(folder), environ={})
    for number in range(25):
        store.set(f"{prefix}{number}", f"value {number}")


def test_writers_at_the_same_time_lose_nothing(state: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=set_many, args=(str(state), prefix)) for prefix in "ABC"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store_of(state).names()) == 75
    assert len(json.loads((state / FILE).read_text())["secrets"]) == 75
