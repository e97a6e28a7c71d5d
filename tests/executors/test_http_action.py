"""`http.request`, against a server of the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from codomyrmex.logistics.orchestration.project.executors.worker import builtins_http as http


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        seen = {"path": self.path, "method": self.command, "body": body, "token": self.headers.get("X-Token")}
        data = json.dumps(seen).encode()
        self.send_response(404 if self.path.startswith("/absent") else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_request_with_parameters_headers_and_json(url: str) -> None:
    got = http.request(
        url + "/a", method="post", params={"q": "x y"}, headers={"X-Token": "t"}, json={"n": 1}
    )
    assert got["status"] == 200
    assert got["json"] == {"path": "/a?q=x+y", "method": "POST", "body": '{"n": 1}', "token": "t"}
    assert json.loads(got["text"]) == got["json"]


def test_an_unexpected_status_fails_and_an_expected_one_does_not(url: str) -> None:
    with pytest.raises(http.RequestFailed, match="answered 404"):
        http.request(url + "/absent")
    assert http.request(url + "/absent", expect=[404])["status"] == 404


def test_a_body_over_the_limit_is_refused_and_a_file_takes_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(http.ResponseTooLarge, match="save_to"):
        http.request(url, max_bytes=10)
    got = http.request(url, save_to=str(tmp_path / "body"))
    assert (tmp_path / "body").stat().st_size == got["size_bytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["body"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: http.request("file:///etc/passwd"), ValueError),
        (lambda: http.request("http://127.0.0.1:1/", json=1, data="x"), TypeError),
        (lambda: http.request("http://127.0.0.1:1/", timeout_s=1), OSError),
    ],
)
def test_other_schemes_two_bodies_and_no_server_are_errors(
    call: Callable[[], Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        call()
