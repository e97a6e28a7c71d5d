"""A workflow whose steps do all they can to leave the values of their secrets lying about, and the search for them."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from codomyrmex.logistics.orchestration.project.executors.worker.secret_forms import forms_of

ACTIONS = r"""
import asyncio, base64, json, logging, os, signal, subprocess, sys, urllib.parse
from codomyrmex.current_task import current_task

def spill(token):
    task = current_task()
    print("out", token)
    print("err", repr(token), file=sys.stderr)
    print(base64.b64encode(b"user:" + token.encode()).decode(), json.dumps({"token": token}))
    print(urllib.parse.urlencode({"q": token}), end="")
    for half in (token[:7], token[7:]):
        sys.stdout.write(half)
        sys.stdout.flush()
    logging.getLogger("x").warning("log %s", token)
    task.log.warning("task %s", token)
    task.progress(1, 2, f"at {token}")
    task.progress(2, 2, f"at {urllib.parse.quote(token)}")
    task.metric("m " + token, 1.0)
    return {"token": token, f"key {token}": [token.encode(), {"deep": (token, {token})}]}

async def spill_later(token):
    await asyncio.sleep(0)
    return spill(token)

def burst(token):
    try:
        local = {"given": token}
        raise KeyError(token)
    except KeyError as cause:
        try:
            raise RuntimeError(repr(local)) from cause
        except RuntimeError as second:
            current_task().log.exception("caught")
            raise ValueError(f"with {local!r}, {token} and {vars(current_task()) if 0 else token!r}") from second

def again(token):
    print("attempt", current_task().attempt, token)
    if current_task().attempt < 2:
        raise ConnectionError(f"no route for {token}")
    return token

def spin(token):
    print("spinning with", token)
    subprocess.Popen([sys.executable, "-c", "import os, time; print(os.environ['T'], flush=True); time.sleep(60)"],
                     env={**os.environ, "T": token}, start_new_session=True)
    while True:
        sys.stderr.write(token + "\n")

def die(token):
    print("dying with", token)
    sys.stdout.write(token)
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""

STEPS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("process", "completed", {"call": "./acts.py:spill", "with": {"token": "TOKEN"}}),
    ("thread", "completed", {"call": "./acts.py:spill", "with": {"token": "TOKEN"}, "isolation": "thread"}),
    ("later", "completed", {"call": "./acts.py:spill_later", "with": {"token": "TOKEN"}, "isolation": "async"}),
    ("burst", "failed", {"call": "./acts.py:burst", "with": {"token": "TOKEN"}}),
    ("burst_thread", "failed", {"call": "./acts.py:burst", "with": {"token": "TOKEN"}, "isolation": "thread"}),
    ("again", "completed", {
        "call": "./acts.py:again", "with": {"token": "TOKEN"}, "retry": {"max_attempts": 2, "delay": 0.01},
    }),
    ("spin", "failed", {"call": "./acts.py:spin", "with": {"token": "TOKEN"}, "timeout": 0.3}),
    ("die", "failed", {"call": "./acts.py:die", "with": {"token": "TOKEN"}}),
    ("shell", "failed", {"run": 'set -x; echo TOKEN; echo "a TOKEN b" >&2; exit 3'}),
    ("env", "completed", {"run": "printenv T; printenv T | base64 -w0; env", "env": {"T": "TOKEN"}}),
    ("http", "completed", {
        "module": "http", "action": "request", "with": {"url": "URL/echo", "headers": {"X-Token": "TOKEN"}},
    }),
    ("http_fails", "failed", {
        "module": "http", "action": "request", "with": {"url": "URL/absent", "headers": {"X-Token": "TOKEN"}},
    }),
)  # fmt: skip
"""Name, how it ends, and its fields; TOKEN stands for a reference to the step's own secret, URL for the server."""


HEAD = re.compile(rb"v[0-9a-f]{16}")
"""How every value begins."""


def workflow_of(names: Mapping[str, str], url: str) -> dict[str, Any]:
    """The document of a run; `names` gives the secret of each step."""

    def filled(tree: Any, secret: str) -> Any:
        if isinstance(tree, Mapping):
            return {key: filled(item, secret) for key, item in tree.items()}
        if isinstance(tree, str):
            return tree.replace("TOKEN", f"${{secrets.{secret}}}").replace("URL", url)
        return tree

    steps = [{"name": name, **filled(fields, names[name])} for name, _, fields in STEPS if name in names]
    return {"codomyrmex": 1, "name": "planted", "steps": steps}


def value_of(chance: Random) -> str:
    """A value as awkward as they come; HTTP headers bear no line breaks and only Latin letters."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=%&'\"\\ ~-_.é"
    middle = "".join(chance.choice(letters) for _ in range(chance.randrange(10, 40)))
    return f"v{chance.getrandbits(64):016x}{middle}x"


def left_behind(values: list[str], folder: Path, patterns: Path) -> str:
    """The files below `folder` that hold one of the values in any form; `secrets.json` is where they belong."""
    patterns.write_text("".join(f"{form}\n" for value in values for form in forms_of(value)))
    command = ["grep", "-rlaF", "--exclude=secrets.json", "-f", str(patterns), str(folder)]
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        token = self.headers.get("X-Token", "")
        data = f"you sent {token}\n".encode("latin-1")
        self.send_response(404 if self.path == "/absent" else 200)
        self.send_header("X-Echo", token)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextmanager
def echo_server() -> Iterator[str]:
    """A server that says back what it was sent; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def watched_arguments(values: list[str]) -> Iterator[list[bytes]]:
    """Inside, the arguments of every process are read over and over; the list gets those that hold a value."""
    heads = {value[:17].encode() for value in values}
    found: list[bytes] = []
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue  # it ended meanwhile
                if not heads.isdisjoint(HEAD.findall(line)):
                    found.append(line)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stopped.set()
        thread.join()
