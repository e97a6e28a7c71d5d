"""`http.request`: one HTTP request as a step.

Layer: worker built-in, on the standard library's client. A status that is not in `expect` (by default 200 to
299) fails the step with the status and the first line of the answer. A body is read up to `max_bytes`, or
written to `save_to` as it comes.
"""

from __future__ import annotations

import json as json_format
import os

from . import redaction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Optional, Union

MAX_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 65536


class RequestFailed(RuntimeError):
    """The server answered with a status that was not expected."""

    def __init__(self, method: str, url: str, status: int, body: str) -> None:
        self.status = status
        first = body.strip().splitlines()[0][:200] if body.strip() else "no body"
        super().__init__(f"{method} {url} answered {status}: {first}")


class ResponseTooLarge(RuntimeError):
    """More came than a result may hold."""

    def __init__(self, url: str, max_bytes: int) -> None:
        super().__init__(
            f"{url} sent more than {max_bytes} bytes; raise max_bytes, or name a file in save_to"
        )


def request(
    url: str,
    *,
    method: str = "GET",
    params: Optional[Mapping[str, Any]] = None,
    headers: Optional[Mapping[str, str]] = None,
    json: Any = None,
    data: Union[str, bytes, None] = None,
    timeout_s: float = 30.0,
    expect: Optional[Sequence[int]] = None,
    max_bytes: int = MAX_BYTES,
    save_to: Optional[str] = None,
) -> dict[str, Any]:
    """Sends one request; returns `{status, url, headers, text, json}`, or `{..., path, size_bytes}` with
    `save_to`.

    `timeout_s` bounds each wait for the network, not the whole; the step's own timeout does that.
    """
    import urllib.error
    import urllib.request

    prepared = _prepare(url, method, params, headers, json, data)
    try:
        response = urllib.request.urlopen(prepared, timeout=timeout_s)  # noqa: S310  (the scheme is checked)
    except urllib.error.HTTPError as answer:
        response = answer
    with response:
        status = int(response.status)
        if not (status in expect if expect is not None else 200 <= status < 300):
            body = redaction.hide_data(response.read(4096)).decode("utf-8", "replace")
            raise RequestFailed(prepared.get_method(), prepared.full_url, status, body)
        found = {"status": status, "url": response.url, "headers": dict(response.headers.items())}
        if save_to is not None:
            return {**found, "path": os.path.abspath(save_to), "size_bytes": _save(response, save_to)}
        body_bytes = response.read(max_bytes + 1)
        if len(body_bytes) > max_bytes:
            raise ResponseTooLarge(url, max_bytes)
        return {**found, **_content(body_bytes, response.headers)}


def _prepare(
    url: str,
    method: str,
    params: Optional[Mapping[str, Any]],
    headers: Optional[Mapping[str, str]],
    json: Any,
    data: Union[str, bytes, None],
) -> Any:
    import urllib.parse
    import urllib.request

    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"url: {url!r} is neither http nor https")
    if json is not None and data is not None:
        raise TypeError("give either 'json' or 'data'")
    if params:
        url += ("&" if "?" in url else "?") + urllib.parse.urlencode(params, doseq=True)
    sent = {"User-Agent": "codomyrmex", **(headers or {})}
    body = data.encode() if isinstance(data, str) else data
    if json is not None:
        body = json_format.dumps(json).encode()
        sent.setdefault("Content-Type", "application/json")
    return urllib.request.Request(url, data=body, headers=sent, method=method.upper())  # noqa: S310


def _content(body: bytes, headers: Any) -> dict[str, Any]:
    text = body.decode(headers.get_content_charset() or "utf-8", "replace")
    if headers.get_content_type() == "application/json" or headers.get_content_type().endswith("+json"):
        try:
            return {"text": text, "json": json_format.loads(text)}
        except ValueError:
            return {"text": text, "json": None}
    return {"text": text, "json": None}


def _save(response: Any, save_to: str) -> int:
    """Writes the body beside the file and puts it in place when it is whole."""
    partial = f"{save_to}.{os.getpid()}.part"
    size = 0
    try:
        with open(partial, "wb") as file:
            while True:
                chunk = response.read(_CHUNK_BYTES)
                if not chunk:
                    break
                size += file.write(chunk)
        os.replace(partial, save_to)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
    return size
