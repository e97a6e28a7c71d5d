"""`codomyrmex resources`: what there is, who has it, and every change of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.cli import resource_watch
from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.names import complete_resources
from codomyrmex.cli.resource_text import holder_lines, list_lines, resource_lines, usage_lines
from codomyrmex.cli.terminal import Terminal, display_width
from codomyrmex.clock import SystemClock, to_datetime
from codomyrmex.logistics.orchestration.project import engine_store, resource_store
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger
from codomyrmex.logistics.orchestration.project.resource_store import ClaimRow
from codomyrmex.logistics.orchestration.project.resource_views import HOST, HolderView, ResourceView
from codomyrmex.logistics.storage.sqlite import SQLiteDatabase
from waiting import wait_until

GIB = 2**30
NOW_US = 1_700_000_000_000_000
MACHINE = {"CPU": "4", "MEMORY": "8GiB", "GPU": "2", "DISK": "100GiB", "NETWORK": "10MB"}


@pytest.fixture(autouse=True)
def machine(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose size is known, with a ledger of its own; its folder."""
    for name, amount in MACHINE.items():
        monkeypatch.setenv(f"CODOMYRMEX_RESOURCES_{name}", amount)
    monkeypatch.setenv("CODOMYRMEX_HOST_DIR", str(tmp_path / "host"))
    return tmp_path / "host"


@pytest.fixture
def ledger(machine: Path) -> Iterator[HostLedger]:
    """An engine of another project on the same machine."""
    opened = HostLedger.open(machine, clock=SystemClock(), token="other", state="/srv/other/.codomyrmex")
    with closing(opened):
        yield opened


class Claims:
    """An engine of this project that holds what a test wants; it has no other work."""

    def __init__(self, project: Path) -> None:
        self._database = SQLiteDatabase.open_existing(project / ".codomyrmex" / "state.db")
        with self._database.transaction() as tx:
            self.epoch, _token = engine_store.insert(tx, now_us=SystemClock().now_us())
        lock = engine_store.lock_path(project / ".codomyrmex", self.epoch)
        self.lock = engine_store.EngineLock(lock)

    def hold(self, resource: str, amount: int, requester: str, *, ttl_s: float | None = None) -> None:
        now_us = SystemClock().now_us()
        row = ClaimRow(
            id=f"{requester}.{resource}",
            resource=resource,
            amount=amount,
            requester=requester,
            epoch=self.epoch,
            since_us=now_us,
            expires_us=now_us + round(ttl_s * 1_000_000) if ttl_s is not None else None,
        )
        with self._database.transaction() as tx:
            assert resource_store.claim(tx, row)

    def wait_for(self, resource: str) -> None:
        now_us = SystemClock().now_us()
        with self._database.transaction() as tx:
            resource_store.put_wait(
                tx, epoch=self.epoch, resource=resource, amount=10_000, since_us=now_us, now_us=now_us
            )

    def close(self) -> None:
        self.lock.release()
        self._database.close()


@pytest.fixture
def claims(cli: Any, project: Path) -> Iterator[Claims]:
    """`database` (a lock) and `licence` (four), and an engine that may hold some of them."""
    assert cli("resources", "add", "database", "--capacity", "1").code == 0
    assert cli("resources", "add", "licence", "--capacity", "4", "--description", "of the solver").code == 0
    with closing(Claims(project)) as engine:
        yield engine


def view(**given: Any) -> ResourceView:
    fields: dict[str, Any] = {
        "id": "licence", "name": "licence", "type": "custom", "capacity": 40_000, "allocated": 10_000,
        "available": 30_000, "peak": 20_000, "holders": 1,
    }  # fmt: skip
    return ResourceView(**{**fields, **given})


def data(ended: Any) -> Any:
    assert ended.document["ok"], ended.out
    return ended.document["data"]


# -- looking -------------------------------------------------------------------------------------


def test_without_a_state_the_list_has_what_the_machine_has_and_makes_no_file(
    cli: Any, project: Path, machine: Path
) -> None:
    found = data(cli("resources", "list", "--json"))
    capacities = {each["id"]: each["capacity"] for each in found["resources"]}
    assert capacities == {
        "sys-compute": 4,
        "sys-memory": 8 * GIB,
        "sys-disk": 100 * GIB,
        "sys-network": 10_000_000,
        "gpu-0": 1,
        "gpu-1": 1,
    }
    assert (found["next_cursor"], found["total"]) == (None, 6)
    assert list(project.iterdir()) == []
    assert not machine.exists()


def test_the_list_can_be_of_one_type(cli: Any, claims: Claims) -> None:
    told = cli("resources", "list", "--type", "custom")
    assert [line.split()[0] for line in told.out.splitlines()] == ["RESOURCE", "database", "licence"]
    nothing = cli("resources", "--json", "list", "--type", "api_quota")
    assert [each["name"] for each in data(nothing)["resources"]] == ["api-global"]


def test_a_row_says_what_is_held_free_and_at_most_was_held(cli: Any, claims: Claims) -> None:
    claims.hold("licence", 25_000, "ada")
    claims.hold("licence", 5_000, "grace", ttl_s=3600)
    claims.wait_for("licence")
    (row,) = data(cli("resources", "usage", "licence", "--json"))["resources"]
    wanted = {
        "id": "licence", "name": "licence", "type": "custom", "unit": "units", "status": "allocated", "capacity": 4,
        "allocated": 3, "available": 1, "percent": 75.0, "peak": 3, "holders": 2, "waiting": 1, "offline": False,
        "scope": "state", "description": "of the solver",
    }  # fmt: skip
    assert wanted.items() <= row.items()


def test_what_has_expired_counts_no_more(cli: Any, claims: Claims) -> None:
    claims.hold("licence", 40_000, "ada", ttl_s=-1)
    (row,) = data(cli("resources", "usage", "licence", "--json"))["resources"]
    assert (row["allocated"], row["holders"], row["status"]) == (0, 0, "available")
    assert data(cli("resources", "holders", "licence", "--json"))["holders"] == []


def test_holders_are_listed_with_their_engine_and_their_end(cli: Any, claims: Claims) -> None:
    claims.hold("licence", 20_000, "ada", ttl_s=3600)
    (row,) = data(cli("resources", "holders", "licence", "--json"))["holders"]
    assert (row["holder"], row["amount"], row["engine"], row["gone"]) == ("ada", 2, claims.epoch, False)
    assert row["expires_at"] > row["since"]
    shown = cli("resources", "show", "licence")
    assert "custom of this project" in shown.out
    assert "ada" in shown.out
    claims.lock.release()
    (row,) = data(cli("resources", "show", "licence", "--json"))["held_by"]
    assert row["gone"] is True
    listed = cli("resources", "holders")
    assert " gone" in listed.out
    assert "comes back when an engine opens: codomyrmex resume" in listed.err
    refused = cli("resources", "remove", "licence")
    assert "is held by ada, whose process is gone\n  it comes back when an engine opens" in refused.err


def test_nobody_holds_anything_is_said(cli: Any) -> None:
    told = cli("resources", "holders")
    assert (told.code, told.out) == (0, "")
    assert "nobody holds anything" in told.err


def test_engines_of_other_projects_are_seen_on_the_machine(cli: Any, ledger: HostLedger) -> None:
    capacity = {"sys-compute": 4000, "sys-memory": 8 * GIB, "gpu-0": 10_000, "gpu-1": 10_000}
    granted = ledger.grow({"sys-compute": 1500, "sys-memory": GIB, "gpu": 10_000}, {}, capacity=capacity)
    assert granted["gpu-0"] == 10_000
    rows = {each["id"]: each for each in data(cli("resources", "usage", "--json"))["resources"]}
    cpu = rows["sys-compute"]
    assert (cpu["capacity"], cpu["allocated"], cpu["available"], cpu["peak"]) == (4, 1.5, 2.5, 1.5)
    assert (rows["gpu-0"]["status"], rows["gpu-1"]["status"]) == ("exhausted", "available")
    (held,) = data(cli("resources", "holders", "cpu", "--json"))["holders"]
    assert (held["project"], held["amount"], held["unit"], held["gone"]) == (
        "/srv/other",
        1.5,
        "CPUs",
        False,
    )


def test_a_hold_on_the_machine_has_its_requester_and_its_end(cli: Any, ledger: HostLedger) -> None:
    end_us = SystemClock().now_us() + 3_600_000_000
    capacity = {"sys-memory": 8 * GIB}
    assert ledger.hold("h1", "ada", {"sys-memory": GIB}, capacity=capacity, expires_us=end_us)
    (held,) = data(cli("resources", "holders", "memory", "--json"))["holders"]
    assert (held["holder"], held["amount"], held["expires_at"]) == (
        "ada",
        GIB,
        to_datetime(end_us).isoformat(),
    )
    assert "1 GiB" in cli("resources", "show", "sys-memory").out


def test_who_waits_for_any_gpu_is_counted_at_each(cli: Any, ledger: HostLedger, machine: Path) -> None:
    capacity = {"gpu-0": 10_000, "gpu-1": 10_000}
    assert ledger.grow({"gpu": 20_000}, {}, capacity=capacity) == capacity
    with closing(HostLedger.open(machine, clock=SystemClock(), token="third")) as third:
        assert third.grow({"gpu": 10_000}, {}, capacity=capacity) == {}
        listed = data(cli("resources", "usage", "--json"))["resources"]
    rows = {each["id"]: each["waiting"] for each in listed}
    assert (rows["gpu-0"], rows["gpu-1"], rows["sys-compute"]) == (1, 1, 0)


def test_where_each_engine_counts_by_itself_nothing_is_made_up(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_SCOPE", "project")
    told = cli("resources", "usage", "cpu", "--json")
    (row,) = data(told)["resources"]
    assert (row["capacity"], row["allocated"], row["available"], row["percent"]) == (4, None, None, None)
    assert "resources.scope = project" in told.err
    refused = cli("resources", "offline", "cpu")
    assert (refused.code, "resources.cpu" in refused.err) == (6, True)


def test_a_ledger_that_cannot_be_read_is_told_and_the_rest_is_shown(cli: Any, machine: Path) -> None:
    with SQLiteDatabase.open(machine / "ledger.db").transaction():
        pass  # a state where the ledger should be
    told = cli("resources", "list", "--json")
    assert data(told)["resources"][0]["allocated"] is None
    assert "is a database, but not the ledger of a host" in told.err


@pytest.mark.parametrize("verb", ["show", "usage", "holders", "remove", "offline", "online"])
def test_an_unknown_name_is_told_with_the_nearest(cli: Any, claims: Claims, verb: str) -> None:
    told = cli("resources", verb, "databse")
    assert told.code == 5
    assert "no resource 'databse'; did you mean 'database'?" in told.err
    assert cli("resources", verb, "databse", "--json").document["error"]["code"] == "resource_not_found"


# -- adding --------------------------------------------------------------------------------------


def test_a_lock_is_added_with_its_state(cli: Any, project: Path) -> None:
    found = data(cli("resources", "add", "database", "--capacity", "1", "--json"))
    assert (found["name"], found["type"], found["capacity"], found["replaced"]) == (
        "database",
        "custom",
        1,
        False,
    )
    assert (project / ".codomyrmex" / ".gitignore").exists()


def test_a_quota_lets_so_much_pass_per_time(cli: Any) -> None:
    words = ("resources", "add", "openai", "--type", "api_quota", "--capacity", "60")
    spaced = cli(*words)
    assert "60 per minute, evenly spaced" in spaced.out
    found = data(cli(*words, "--per", "1h30m", "--burst", "10", "--replace", "--json"))
    assert (found["per_s"], found["burst"], found["unit"], found["replaced"]) == (5400, 10, "calls", True)
    assert "60 per 5400 s, up to 10 at once" in cli("resources", "show", "openai").out


@pytest.mark.parametrize(
    ("kind", "capacity", "read", "shown"),
    [
        ("memory", "1.5GiB", 3 * GIB // 2, "1.5 GiB"),
        ("disk", "10GB", 10**10, "9.31 GiB"),
        ("network", "10MB/s", 10**7, "10 MB/s"),
        ("cpu", "2.5", 2.5, "2.5 CPUs"),
        ("gpu", "0.5", 0.5, "0.5 GPU"),
        ("custom", "0.0001", 0.0001, "0.0001"),
    ],
)
def test_amounts_are_read_as_people_write_them(
    cli: Any, kind: str, capacity: str, read: float, shown: str
) -> None:
    told = cli("resources", "add", "mine", "--type", kind, "--capacity", capacity)
    assert f"  {shown}\n" in told.out
    assert data(cli("resources", "show", "mine", "--json"))["capacity"] == read


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("x", "--capacity", "0"), "--capacity: an amount is above 0"),
        (("x", "--capacity", "-1"), "--capacity: an amount is above 0"),
        (("x", "--capacity", "many"), "--capacity: not a number: 'many'\n    write a number, without a unit"),
        (("api_quota", "--capacity", "1"), "'api_quota' is the word for api-global in steps"),
        (("x", "--capacity", "nan"), "--capacity: not a number: 'nan'"),
        (("x", "--capacity", "0.00001"), "--capacity: units are counted in ten-thousandths"),
        (("x", "--capacity", "9" * 18), "--capacity: this is more than can be counted"),
        (("x", "--type", "memory", "--capacity", "1.5"), "--capacity: not a whole number of bytes"),
        (("x", "--capacity", "1", "--per", "60s"), "--per is for quotas; add --type api_quota"),
        (("x", "--capacity", "1", "--burst", "2"), "--burst is for quotas; add --type api_quota"),
        (("x", "--type", "api_quota", "--capacity", "1", "--per", "soon"), "--per: not a duration"),
        (("x", "--type", "api_quota", "--capacity", "1", "--per", "0"), "--per: a quota is per 1ms"),
        (("x", "--type", "api_quota", "--capacity", "1", "--burst", "0"), "--burst: an amount is above 0"),
        (("x", "--type", "lock", "--capacity", "1"), "'lock' is not one of 'cpu'"),
        (("x",), "missing option '--capacity'"),
        (("cpu", "--capacity", "1"), "NAME: 'cpu' is what the machine has"),
        (("sys-memory", "--capacity", "1"), "NAME: 'sys-memory' is what the machine has"),
        (("gpu-7", "--capacity", "1"), "NAME: 'gpu-7' is what the machine has"),
        (("x-lock", "--capacity", "1"), "NAME: steps cannot ask for it"),
        (("a lock", "--capacity", "1"), "'a lock' is no name"),
    ],
)
def test_what_cannot_be_added_is_refused_with_its_place(
    cli: Any, project: Path, words: tuple[str, ...], place: str
) -> None:
    told = cli("resources", "add", *words)
    assert (told.code, told.out) == (2, "")
    assert place in told.err
    assert list(project.iterdir()) == []


def test_what_is_there_is_changed_only_when_asked(cli: Any, claims: Claims) -> None:
    claims.hold("licence", 30_000, "ada")
    again = cli("resources", "add", "licence", "--capacity", "8")
    assert (again.code, "--replace changes it" in again.err) == (6, True)
    told = cli("resources", "add", "licence", "--capacity", "2", "--replace", "--json")
    found = data(told)
    assert (found["capacity"], found["allocated"], found["available"]) == (2, 3, 0)
    assert found["description"] == "of the solver"
    assert "who holds it keeps it" in told.err
    refused = cli("resources", "add", "licence", "--type", "cpu", "--capacity", "8", "--replace")
    assert (refused.code, "held by ada: its type cannot change now" in refused.err) == (6, True)


def test_the_quota_of_every_state_can_be_changed_and_stays_one(cli: Any, claims: Claims) -> None:
    words = ("resources", "add", "api-global", "--capacity", "100", "--replace")
    assert cli(*words).code == 6
    assert data(cli(*words, "--type", "api_quota", "--json"))["capacity"] == 100
    assert cli("resources", "remove", "api-global").code == 6


# -- removing, offline, online -------------------------------------------------------------------


def test_what_is_held_is_removed_only_by_force(cli: Any, claims: Claims) -> None:
    claims.hold("database", 10_000, "ada")
    refused = cli("resources", "remove", "database", "--json")
    assert refused.code == 6
    assert refused.document["error"]["message"] == "database is held by ada"
    assert refused.document["error"]["details"]["holders"][0]["holder"] == "ada"
    told = cli("resources", "remove", "database", "--force")
    assert (told.code, told.out) == (0, "removed database\n")
    assert "held by ada" in told.err
    assert cli("resources", "show", "database").code == 5


def test_what_is_waited_for_is_removed_only_by_force(cli: Any, claims: Claims) -> None:
    claims.wait_for("database")
    refused = cli("resources", "remove", "database")
    assert (refused.code, "1 engine with work that waits for database" in refused.err) == (6, True)
    assert data(cli("resources", "remove", "database", "--force", "--json"))["released"] == []


def test_what_the_machine_has_cannot_be_removed(cli: Any) -> None:
    told = cli("resources", "remove", "memory")
    assert (told.code, "resources offline sys-memory takes it out of service" in told.err) == (6, True)


def test_offline_keeps_what_is_held_and_gives_nobody_more(cli: Any, claims: Claims) -> None:
    claims.hold("licence", 10_000, "ada")
    told = cli("resources", "offline", "licence")
    assert told.out == "licence is offline\n"
    assert "held by ada" in told.err
    with pytest.raises(AssertionError):
        claims.hold("licence", 10_000, "grace")
    (row,) = data(cli("resources", "usage", "licence", "--json"))["resources"]
    assert (row["status"], row["allocated"], row["available"]) == ("offline", 1, 0)
    assert data(cli("resources", "online", "licence", "--json"))["status"] == "allocated"
    claims.hold("licence", 10_000, "grace")


def test_what_the_machine_has_goes_offline_for_every_project(
    cli: Any, machine: Path, ledger: HostLedger
) -> None:
    capacity = {"gpu-0": 10_000}
    assert cli("resources", "offline", "gpu-0").out == "gpu-0 is offline\n"
    assert ledger.grow({"gpu": 10_000}, {}, capacity=capacity) == {}
    assert data(cli("resources", "show", "gpu-0", "--json"))["status"] == "offline"
    assert cli("resources", "online", "gpu-0").out == "gpu-0 is available\n"
    assert ledger.grow({"gpu": 10_000}, {}, capacity=capacity) == {"gpu-0": 10_000}


# -- watching, completion, width -----------------------------------------------------------------


class Moments:
    """Waits that a test counts and ends as Ctrl-C does."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self, seconds: float) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


def test_watching_with_json_prints_a_line_each_second(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        resource_watch.watch_usage(Invocation(json=True), lambda: [view()], wait=Moments(3))
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["event"] for record in records] == ["usage"] * 3
    assert records[0]["resources"][0]["name"] == "licence"


def test_watching_without_a_terminal_prints_what_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    held = iter([10_000, 10_000, 20_000])
    with pytest.raises(KeyboardInterrupt):
        resource_watch.watch_usage(Invocation(), lambda: [view(allocated=next(held))], wait=Moments(3))
    told = capsys.readouterr().out
    assert told.count("RESOURCE") == 2
    assert "\x1b" not in told


def test_watching_on_a_terminal_draws_over_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    invocation = Invocation()
    invocation.output.out = Terminal(Screen(), {"NO_COLOR": "1"})
    held = iter([10_000, 20_000])
    with pytest.raises(KeyboardInterrupt):
        resource_watch.watch_usage(invocation, lambda: [view(allocated=next(held))], wait=Moments(2))
    assert "\x1b[2F\x1b[J" in invocation.output.out.stream.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_ctrl_c_ends_a_watch_without_a_word(
    cli: Any, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    monkeypatch.setattr(resource_watch.watch_usage, "__kwdefaults__", {"wait": Moments(1)})
    ended = cli("resources", "usage", "--watch", *form)
    assert (ended.code, ended.err) == (130, "")


def test_the_word_for_any_gpu_says_where_the_devices_are(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_GPU", "1")
    told = cli("resources", "show", "gpu")
    assert told.code == 5
    assert "codomyrmex resources list --type gpu lists them" in told.err
    monkeypatch.setenv("CODOMYRMEX_RESOURCES_GPU", "0")
    assert "resources.gpu in config.toml" in cli("resources", "offline", "gpu").err


def test_a_watch_of_an_unknown_name_ends_at_once(cli: Any) -> None:
    assert cli("resources", "usage", "nothing", "--watch").code == 5


def test_names_are_completed(claims: Claims) -> None:
    import click

    context = click.Context(click.Command("show"), obj=Invocation())
    offered = complete_resources(context, click.Argument(["name"]), "d")
    assert [each.value for each in offered] == ["database"]


def test_every_table_fits_into_80_columns(screen: Terminal) -> None:
    now = to_datetime(NOW_US)
    long = view(name="a" * 128, description="what it is for " * 9, type="network", scope=HOST)
    quota = view(name="openai", type="api_quota", per_s=3600.0, burst=100_000, description="words " * 30)
    holder = HolderView(
        resource="a" * 128,
        type="memory",
        amount=1023 * GIB,
        parts=1,
        holder="kbcdfghjkm/" + "b" * 128 + "[123456]",
        pid=4194304,
        gone=True,
        since=now,
        expires_at=now,
        pool="nightly",
        project="/srv/projects/somewhere/deep/" + "c" * 60,
    )
    lines = [
        *list_lines(screen, [long, quota]),
        *usage_lines(screen, [long, quota]),
        *resource_lines(screen, quota, [], now),
        *holder_lines(screen, [holder], now),
    ]
    assert [line for line in lines if display_width(line) > 80] == []


def test_bars_show_in_wide_terminals_and_in_ascii(screen: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    views = [view(allocated=each) for each in (0, 100, 20_000, 39_900, 40_000)]
    bars = [line.split()[1] for line in usage_lines(screen, views)[1:]]
    assert bars == ["░" * 10, "█" + "░" * 9, "█" * 5 + "░" * 5, "█" * 9 + "░", "█" * 10]
    screen.unicode = False
    assert usage_lines(screen, views[2:3])[1].split()[1] == "#####-----"


# -- with a run ----------------------------------------------------------------------------------

GUARDED = """
codomyrmex: 1
name: guarded
steps:
  - name: table
    foreach: [users, orders]
    call: "./acts.py:migrate"
    with: {name: "${item}"}
    resources: {cpu: 0.5, database: 1}
"""
ACTS = """
import pathlib
import time


def migrate(name):
    begun = pathlib.Path(f"{name}.begun")
    begun.touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    begun.unlink()
"""


@pytest.fixture
def guarded(cli: Any, project: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a process of its own, of whose two tasks one holds `database` until there is a file `go`."""
    (project / "guarded.yaml").write_text(GUARDED)
    (project / "acts.py").write_text(ACTS)
    assert cli("resources", "add", "database", "--capacity", "1").code == 0
    words = [sys.executable, "-m", "codomyrmex", "run", "guarded.yaml"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    (project / "go").touch()
    if process.poll() is None:
        process.kill()
    process.wait(30)


def test_a_task_of_a_run_is_a_holder_until_it_ends(
    cli: Any, project: Path, guarded: subprocess.Popen[bytes]
) -> None:
    wait_until(lambda: list(project.glob("*.begun")), timeout_s=30)
    (held,) = data(cli("resources", "holders", "database", "--json"))["holders"]
    run_id = data(cli("show", "--json"))["execution_id"]
    assert (held["holder"], held["task"], held["attempt"]) == (f"{run_id}/table[0]", "table[0]", 1)
    assert (held["pid"], held["gone"]) == (guarded.pid, False)
    shares = data(cli("resources", "holders", "cpu", "--json"))["holders"]
    assert {(each["pid"], each["project"]) for each in shares} == {(guarded.pid, str(project))}
    refused = cli("resources", "remove", "database")
    assert (refused.code, f"held by {run_id}/table[0]" in refused.err) == (6, True)
    (project / "go").touch()
    assert guarded.wait(30) == 0
    (row,) = data(cli("resources", "usage", "database", "--json"))["resources"]
    assert (row["allocated"], row["peak"], row["holders"], row["waiting"]) == (0, 1, 0, 0)


def test_what_a_killed_engine_held_is_marked_and_is_back_when_the_next_one_opens(
    cli: Any, project: Path, guarded: subprocess.Popen[bytes]
) -> None:
    wait_until(lambda: list(project.glob("*.begun")), timeout_s=30)
    guarded.kill()
    guarded.wait(30)
    (held,) = data(cli("resources", "holders", "database", "--json"))["holders"]
    assert held["gone"] is True
    (project / "go").touch()
    assert cli("resume", "--all").code == 0
    assert data(cli("resources", "holders", "--json"))["holders"] == []


def test_what_nobody_knows_is_refused_before_anything_runs(cli: Any, project: Path) -> None:
    (project / "guarded.yaml").write_text(GUARDED)
    (project / "acts.py").write_text(ACTS)
    refused = cli("run", "guarded.yaml")
    assert refused.code == 7
    assert "codomyrmex resources add database" in refused.err
    assert data(cli("runs", "list", "--json"))["runs"] == []
