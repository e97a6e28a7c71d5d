"""What the key of a cached result is made of, and how two such sets differ.

Layer: pure. *Parts* are a JSON object: everything that the result of one task depends on, as far as anybody
can tell before it runs. The key is the SHA-256 of their canonical text, so equal parts mean an equal key. The
parts are kept beside the result, because a hash alone cannot say what has changed.

    action      `module:action`
    code        {"version": text} | {"files": {path: hash}, "holds": values} | {"package": text}
    python      the interpreter of project code
    parameters  {name: tagged value}, long or private ones as {"$sha256": hash}
    env         {name: hash}: variables are often secrets
    folder      the working folder, where the step names one
    inputs      {path as it is shown: hash}
    key         stands for parameters, env and inputs where the step gives it
    also        whatever else the step says that its result depends on
    outputs     the paths and patterns that it promises to write
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Parts = Mapping[str, Any]

LONGEST_KEPT = 500
"""A value whose JSON is longer than this stands in the parts as its hash."""
LONGEST_SHOWN = 40
HASHED = "$sha256"


def key_of(parts: Parts) -> str:
    """The key that parts make."""
    return hashlib.sha256(canonical(parts)).hexdigest()


def canonical(tree: Any) -> bytes:
    """The canonical JSON of a tagged tree."""
    return msgspec.json.encode(tree, order="deterministic")


def kept(tree: Any, *, private: tuple[str, ...] = ()) -> Any:
    """A value as it stands in parts: itself, or its hash where it is long or holds a private text."""
    data = canonical(tree)
    if len(data) <= LONGEST_KEPT and not (private and any(text in data.decode() for text in private)):
        return tree
    return {HASHED: hashlib.sha256(data).hexdigest()}


def first_difference(before: Parts, now: Parts) -> str | None:
    """The first thing in which parts differ, as a sentence without a full stop; None where they do not."""
    return next(_differences(before, now), None)


def _differences(before: Parts, now: Parts) -> Iterator[str]:
    if before.get("action") != now.get("action"):
        yield f"its action was {before.get('action')}, is {now.get('action')}"
    yield from _code(before.get("code", {}), now.get("code", {}))
    if before.get("python") != now.get("python"):
        yield f"Python was {before.get('python')}, is {now.get('python')}"
    if before.get("key") != now.get("key"):
        yield _changed("its key", before.get("key"), now.get("key"))
    yield from _values("parameter {!r}", before.get("parameters", {}), now.get("parameters", {}))
    for name in _unequal(before.get("env", {}), now.get("env", {})):
        yield f"variable {name} changed"
    if before.get("folder") != now.get("folder"):
        yield f"its working folder was {before.get('folder') or '.'}, is {now.get('folder') or '.'}"
    yield from _files("input", before.get("inputs", {}), now.get("inputs", {}))
    if before.get("also") != now.get("also"):
        yield from _values("`also` {}", _by_place(before.get("also")), _by_place(now.get("also")))
    if before.get("outputs") != now.get("outputs"):
        yield "the outputs it promises changed"


def _code(before: Parts, now: Parts) -> Iterator[str]:
    if set(before) != set(now):
        yield "it is now told by other means whether the action's source changed"
    elif "files" in now:
        for text in _files("", before["files"], now["files"]):
            yield f"the action's source changed: {text.removesuffix(' changed').strip()}"
        yield from _values("{}, which the function holds,", before.get("holds", {}), now.get("holds", {}))
    elif "version" in now and before["version"] != now["version"]:
        yield f"the action's version was {before['version']!r}, is {now['version']!r}"
    elif before != now:
        yield f"the action's package was {before.get('package')}, is {now.get('package')}"


def _files(what: str, before: Parts, now: Parts) -> Iterator[str]:
    for path in _unequal(before, now):
        how = "changed" if path in before and path in now else "is new" if path in now else "is gone"
        yield f"{what} {path} {how}".strip()


def _values(what: str, before: Any, now: Any, name: str = "") -> Iterator[str]:
    """The unequal leaves of two trees, mappings walked down to where they differ."""
    for key in _unequal(before, now):
        path = f"{name}.{key}" if name else str(key)
        if key not in now:
            yield f"{what.format(path)} is gone"
        elif key not in before:
            yield f"{what.format(path)} is new"
        elif _plain_mapping(before[key]) and _plain_mapping(now[key]):
            yield from _values(what, before[key], now[key], path)
        else:
            yield _changed(what.format(path), before[key], now[key])


def _changed(what: str, before: Any, now: Any) -> str:
    if before is None or now is None or _is_hash(before) or _is_hash(now):
        return f"{what} changed"
    return f"{what} was {_shown(before)}, is {_shown(now)}"


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def _unequal(before: Parts, now: Parts) -> list[str]:
    """The names whose values differ, in the order in which they now stand, those that are gone last."""
    names = dict.fromkeys([*now, *before])
    return [name for name in names if (name in before) != (name in now) or before[name] != now[name]]


def _is_hash(value: Any) -> bool:
    return isinstance(value, dict) and HASHED in value


def _plain_mapping(value: Any) -> bool:
    return isinstance(value, dict) and "$type" not in value and HASHED not in value


def _by_place(also: Any) -> dict[str, Any]:
    """`also` as a mapping: a list by number, anything else under no name."""
    if isinstance(also, list):
        return {f"[{at}]": value for at, value in enumerate(also)}
    if _plain_mapping(also):
        return dict(also)
    return {} if also is None else {"": also}
