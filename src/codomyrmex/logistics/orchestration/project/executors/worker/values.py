"""Tagged JSON: the one form in which parameters and results travel and are kept.

Layer: worker (standard library only, Python 3.9 syntax; the engine's `values` module uses it too).

JSON types stay as they are. Anything else that has a faithful text form becomes `{"$type": T, "value": ...}`,
T one of datetime, date, time, timedelta (microseconds), path, decimal, uuid, bytes (base64), set, frozenset,
tuple, float (`nan`, `inf`, `-inf`), int (hexadecimal, where 64 bits do not hold it), text (base64 of UTF-8
with lone surrogates), enum, dataclass, msgspec, pydantic (these four with `"class": "module:Name"`), and dict
(pairs; also for a plain dict that happens to have the key `$type`, or `$secret`: that one marks the place of a
secret in parameters, and no data may stand for one). Values that have a codec (`file_codecs`)
become `{"$type": "file", "value": {codec, bytes, sha256, suffix}}` and a file beside the state, or, where that
is small, its content in the tag.

Invariants: the same value has the same tree in every isolation; a tree with nothing to tag is returned as the
very same object; what cannot be represented raises `Unserialisable` and names the place; a file is read only
by who is given a way to (`open_file`), so passing a value on costs its tag.
"""

from __future__ import annotations

import json

from . import file_codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Optional

    Keep = Callable[[Any, file_codecs.Codec], Any]
    Open = Callable[[Any], Any]

TAG = "$type"
MARKER = "$secret"
MAX_DEPTH = 200
_INT_LOW, _INT_HIGH = -(2**63), 2**64 - 1
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Unserialisable(TypeError):
    """A value that no tag covers; `path` names its place, `type_name` what was found there."""

    def __init__(self, type_name: str, reason: str = "") -> None:
        self.path = ""
        self.type_name = type_name
        self.reason = reason
        super().__init__(type_name)

    def __str__(self) -> str:
        why = self.reason or f"is a {self.type_name}, which cannot be kept"
        return (
            f"{_shortened(self.path) or 'the value'} {why}; return JSON-able values (text, numbers, lists, "
            "dicts, dates, paths, dataclasses), or write a file and return its Path (register_codec does that "
            "for every value of a type)"
        )


def _shortened(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]} ... {path[-40:]}"


class Undecodable(ValueError):
    """Tagged data that names a class which is gone, or is not what the tag says."""


def to_tagged(value: Any, *, root: str = "output", keep: Optional[Keep] = None) -> Any:
    """The JSON tree of `value`; the same object where nothing needed a tag.

    `keep` writes what has a codec and returns what stands for it (`ValueFiles.keep`); without it such a value
    is refused. Raises `Unserialisable`, whose path starts with `root`.
    """
    try:
        return _tag(value, 0, keep)
    except Unserialisable as problem:
        problem.path = root + problem.path
        raise


def from_tagged(tree: Any, *, classes: bool, open_file: Optional[Open] = None) -> Any:
    """The value of a JSON tree made by `to_tagged`.

    With `classes` enums and records are rebuilt by importing their class; without, an enum is its value and a
    record the dict of its fields. `open_file` gives the value of a kept file (`ValueFiles.read`); without it
    that is the dict of what its tag says. Raises `Undecodable`.
    """
    kind = type(tree)
    if kind is dict:
        if TAG in tree:
            return _untag(tree, classes, open_file)
        return {key: from_tagged(item, classes=classes, open_file=open_file) for key, item in tree.items()}
    if kind is list:
        return [from_tagged(item, classes=classes, open_file=open_file) for item in tree]
    return tree


def dumps(
    value: Any, *, root: str = "output", keep: Optional[Keep] = None, change: Optional[Open] = None
) -> bytes:
    """`to_tagged`, as UTF-8 JSON; `change` gives the tree to write instead."""
    tree = to_tagged(value, root=root, keep=keep)
    return _encode(tree if change is None else change(tree)).encode()


def loads(
    data: bytes, *, classes: bool = True, open_file: Optional[Open] = None, change: Optional[Open] = None
) -> Any:
    """The value of what `dumps` wrote; `change` gives the tree to read instead."""
    tree = json.loads(data)
    if change is not None:
        tree = change(tree)
    return from_tagged(tree, classes=classes, open_file=open_file) if b'"$type"' in data else tree


# ---------------------------------------------------------------------------------------------- to tagged


def _tag(value: Any, depth: int, keep: Optional[Keep]) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _tag_text(value)
    if kind is int:
        return value if _INT_LOW <= value <= _INT_HIGH else {TAG: "int", "value": hex(value)}
    if value is None or kind is bool:
        return value
    if kind is float:
        return value if value - value == 0.0 else {TAG: "float", "value": repr(value)}
    if depth >= MAX_DEPTH:
        raise Unserialisable(kind.__name__, f"is nested deeper than {MAX_DEPTH}, or contains itself")
    if kind is dict:
        return _tag_dict(value, depth + 1, keep)
    if kind is list:
        return _tag_items(value, depth + 1, keep)
    return _tag_other(value, kind, depth + 1, keep)


def _tag_text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return {TAG: "text", "value": _base64(value.encode("utf-8", "surrogatepass"))}
    return value


def _tag_items(value: Iterable[Any], depth: int, keep: Optional[Keep]) -> Any:
    found: list[Any] = []
    append = found.append
    same = True
    try:
        for item in value:
            tagged = _tag(item, depth, keep)
            same = same and tagged is item
            append(tagged)
    except Unserialisable as problem:
        problem.path = f"[{len(found)}]{problem.path}"
        raise
    return value if same and type(value) is list else found


def _tag_dict(value: dict[Any, Any], depth: int, keep: Optional[Keep]) -> Any:
    found: dict[Any, Any] = {}
    same = True
    text_keys = True
    key: Any = None
    try:
        for key, item in value.items():
            text_keys = text_keys and type(key) is str and (key.isascii() or _tag_text(key) is key)
            tagged = _tag(item, depth, keep)
            same = same and tagged is item
            found[key] = tagged
    except Unserialisable as problem:
        step = f".{key}" if type(key) is str and key.isidentifier() else f"[{key!r}]"
        problem.path = step + problem.path
        raise
    if text_keys and TAG not in found and MARKER not in found:
        return value if same and type(value) is dict else found
    return {TAG: "dict", "value": [[_tag(key, depth, keep), item] for key, item in found.items()]}


def _tag_other(value: Any, kind: type, depth: int, keep: Optional[Keep]) -> Any:
    """Everything but the exact JSON types; ordered so that a subclass is met before its base."""
    tagger = _TAGGERS.get(kind)
    if tagger is not None:
        return tagger(value, depth, keep)
    codec = file_codecs.codec_for(kind)
    if codec is not None:
        return _tag_file(value, kind, codec, keep)
    import enum

    if isinstance(value, enum.Enum):
        return {TAG: "enum", "class": _class_name(kind), "value": _tag(value.value, depth, keep)}
    if hasattr(kind, "__dataclass_fields__"):
        return _tag_record("dataclass", value, kind.__dataclass_fields__, depth, keep)
    if hasattr(kind, "__struct_fields__"):
        return _tag_record("msgspec", value, kind.__struct_fields__, depth, keep)
    if hasattr(kind, "__pydantic_fields__"):
        return _tag_record("pydantic", value, getattr(kind, "__pydantic_fields__"), depth, keep)  # noqa: B009
    if kind.__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return _tag_scalar(value, kind, depth, keep)
    if isinstance(value, dict):
        return _tag_dict(value, depth, keep)
    for base in _JSON_BASES:
        if isinstance(value, base):
            return _tag(base(value), depth, keep)
    return _tag_by_base(value, kind, depth, keep)


def _tag_by_base(value: Any, kind: type, depth: int, keep: Optional[Keep]) -> Any:
    import pathlib

    if isinstance(value, pathlib.PurePath):
        return {TAG: "path", "value": _tag(str(value), depth, keep)}
    for base in kind.__mro__[1:]:
        tagger = _TAGGERS.get(base)
        if tagger is not None:
            return tagger(value, depth, keep)
    tagger = _load_taggers().get(kind)
    if tagger is not None:
        return tagger(value, depth, keep)
    for base in kind.__mro__[1:]:
        if base in _TAGGERS:
            return _TAGGERS[base](value, depth, keep)
    codec = file_codecs.offered_codec_for(kind)
    if codec is not None:
        return _tag_file(value, kind, codec, keep)
    if hasattr(value, "__next__"):
        raise Unserialisable(
            kind.__qualname__, f"is a {kind.__qualname__}, which can be read only once: make it a list"
        )
    raise Unserialisable(f"{kind.__module__}.{kind.__qualname__}")


def _tag_file(value: Any, kind: type, codec: file_codecs.Codec, keep: Optional[Keep]) -> Any:
    what = f"is a {kind.__module__}.{kind.__qualname__}, "
    if keep is None:
        raise Unserialisable(
            kind.__qualname__, f"{what}which is kept as a file, and only results of steps are"
        )
    try:
        return {TAG: "file", "value": keep(value, codec)}
    except file_codecs.CannotWrite as problem:
        raise Unserialisable(kind.__qualname__, f"{what}and {problem}") from problem


def _tag_scalar(value: Any, kind: type, depth: int, keep: Optional[Keep]) -> Any:
    """A number of numpy as Python's; an instant or a duration where microseconds hold it."""
    plain = value.item()
    if kind.__name__ in ("datetime64", "timedelta64") and type(plain) is int:
        short = value.astype(kind.__name__ + "[us]")
        if short == value:
            plain = short.item()
    if type(plain) is kind or (kind.__name__ in ("datetime64", "timedelta64") and type(plain) is int):
        raise Unserialisable(
            f"numpy.{kind.__name__}", f"is a numpy.{kind.__name__} that Python has no type for"
        )
    return _tag(plain, depth, keep)


def _tag_record(tag: str, value: Any, names: Iterable[str], depth: int, keep: Optional[Keep]) -> Any:
    fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
    found = {}
    for name, item in fields.items():
        try:
            found[name] = _tag(item, depth, keep)
        except Unserialisable as problem:
            problem.path = f".{name}{problem.path}"
            raise
    return {TAG: tag, "class": _class_name(type(value)), "value": found}


def _class_name(kind: type) -> str:
    if "<" in kind.__qualname__:
        raise Unserialisable(
            kind.__qualname__,
            f"is a {kind.__qualname__}, a class made inside a function, which no other process can import",
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _tag_set(value: Any, depth: int, keep: Optional[Keep]) -> list[Any]:
    """The items in an order that does not depend on hashing."""
    items: list[Any] = list(_tag_items(list(value), depth, keep))
    if all(type(item) is str for item in items) or all(type(item) is int for item in items):
        return sorted(items)
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _tag_datetime(value: Any, _depth: int, _keep: Optional[Keep]) -> Any:
    text = value.isoformat()
    if not text[:1].isdigit():
        raise Unserialisable(type(value).__name__, f"is {text}, which is no moment in time")  # pandas.NaT
    zone = getattr(value.tzinfo, "key", None)
    tagged = {TAG: "datetime", "value": text}
    return {**tagged, "zone": zone} if isinstance(zone, str) else tagged


def _tag_timedelta(value: Any, _depth: int, _keep: Optional[Keep]) -> Any:
    return {TAG: "timedelta", "value": (value.days * 86400 + value.seconds) * 1000000 + value.microseconds}


def _base64(data: Any) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode("ascii")


_JSON_BASES: tuple[Any, ...] = (str, int, float, list)
_TAGGERS: dict[type, Callable[[Any, int, Optional[Keep]], Any]] = {
    bytes: lambda value, *_: {TAG: "bytes", "value": _base64(value)},
    bytearray: lambda value, *_: {TAG: "bytes", "value": _base64(value)},
    memoryview: lambda value, *_: {TAG: "bytes", "value": _base64(value.tobytes())},
    tuple: lambda value, depth, keep: {TAG: "tuple", "value": _tag_items(list(value), depth, keep)},
    set: lambda value, depth, keep: {TAG: "set", "value": _tag_set(value, depth, keep)},
    frozenset: lambda value, depth, keep: {TAG: "frozenset", "value": _tag_set(value, depth, keep)},
}


def _load_taggers() -> dict[type, Callable[[Any, int, Optional[Keep]], Any]]:
    """Adds the types of modules that a plain value never needs."""
    import datetime
    import decimal
    import uuid

    _TAGGERS[datetime.datetime] = _tag_datetime
    _TAGGERS[datetime.timedelta] = _tag_timedelta
    _TAGGERS[datetime.date] = lambda value, *_: {TAG: "date", "value": value.isoformat()}
    _TAGGERS[datetime.time] = lambda value, *_: {TAG: "time", "value": value.isoformat()}
    _TAGGERS[decimal.Decimal] = lambda value, *_: {TAG: "decimal", "value": str(value)}
    _TAGGERS[uuid.UUID] = lambda value, *_: {TAG: "uuid", "value": str(value)}
    return _TAGGERS


# ---------------------------------------------------------------------------------------------- from tagged


def _untag(tree: dict[str, Any], classes: bool, open_file: Optional[Open]) -> Any:
    tag = tree[TAG]
    if "value" not in tree:
        raise Undecodable(f"a tagged value of type {tag!r} has no 'value'")
    value = tree["value"]
    if tag in _RECORDS:
        fields = from_tagged(value, classes=classes, open_file=open_file)
        return _RECORDS[tag](_find_class(tree["class"]), fields) if classes else fields
    if tag == "dict":
        return _hashed(dict, from_tagged(value, classes=classes, open_file=open_file))
    if tag == "file":
        return _open(value, open_file)
    reader = _READERS.get(tag)
    if reader is None:
        raise Undecodable(f"no type is tagged {tag!r}; this value was written by a newer version")
    if tag == "datetime" and "zone" in tree:
        return _in_zone(reader(value), tree["zone"])
    return reader(from_tagged(value, classes=classes, open_file=open_file))


def _open(value: Any, open_file: Optional[Open]) -> Any:
    if type(value) is not dict or "codec" not in value:
        raise Undecodable("a kept file has no codec in its tag")
    if open_file is None:
        return {name: item for name, item in value.items() if name != "data"}
    try:
        return open_file(value)
    except file_codecs.UnknownCodec as problem:
        raise Undecodable(str(problem)) from problem


def _hashed(kind: Any, items: Any) -> Any:
    """`kind(items)`; the items themselves where a record among them reads as a dict, which cannot be
    hashed."""
    try:
        return kind(items)
    except TypeError:
        return items


def _find_class(name: str) -> Any:
    """Imports the class that `module:Qual.name` names; a class only, never another object."""
    import importlib

    module, _, qualname = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as problem:
        raise Undecodable(f"the class {name} of a kept value cannot be imported: {problem}") from problem
    if not isinstance(found, type):
        raise Undecodable(f"{name} of a kept value is not a class")
    return found


def _make_enum(kind: Any, value: Any) -> Any:
    import enum

    if not issubclass(kind, enum.Enum):
        raise Undecodable(f"{kind.__qualname__} of a kept value is not an Enum")
    return kind(value)


def _make_dataclass(kind: Any, fields: dict[str, Any]) -> Any:
    """The instance as it was: attributes are put back, `__init__` is not run."""
    if not hasattr(kind, "__dataclass_fields__"):
        raise Undecodable(f"{kind.__qualname__} of a kept value is not a dataclass")
    made = object.__new__(kind)
    for name, item in fields.items():
        object.__setattr__(made, name, item)
    return made


def _make_struct(kind: Any, fields: dict[str, Any]) -> Any:
    if not hasattr(kind, "__struct_fields__"):
        raise Undecodable(f"{kind.__qualname__} of a kept value is not a msgspec Struct")
    return kind(**fields)


def _make_model(kind: Any, fields: dict[str, Any]) -> Any:
    if not hasattr(kind, "__pydantic_fields__"):
        raise Undecodable(f"{kind.__qualname__} of a kept value is not a pydantic model")
    return kind.model_construct(**fields)


def _in_zone(moment: Any, zone: str) -> Any:
    import zoneinfo

    try:
        return moment.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return moment  # the instant is right; only the zone's name is unknown on this machine


def _bytes(value: str) -> bytes:
    import binascii

    return binascii.a2b_base64(value)


def _datetime_reader(name: str) -> Callable[[str], Any]:
    def read(value: str) -> Any:
        import datetime

        return getattr(datetime, name).fromisoformat(value)

    return read


def _timedelta(value: int) -> Any:
    import datetime

    return datetime.timedelta(microseconds=value)


def _path(value: str) -> Any:
    import pathlib

    return pathlib.Path(value)


def _decimal(value: str) -> Any:
    import decimal

    return decimal.Decimal(value)


def _uuid(value: str) -> Any:
    import uuid

    return uuid.UUID(value)


_RECORDS: dict[str, Callable[[Any, Any], Any]] = {
    "enum": _make_enum,
    "dataclass": _make_dataclass,
    "msgspec": _make_struct,
    "pydantic": _make_model,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "datetime": _datetime_reader("datetime"),
    "date": _datetime_reader("date"),
    "time": _datetime_reader("time"),
    "timedelta": _timedelta,
    "path": _path,
    "decimal": _decimal,
    "uuid": _uuid,
    "bytes": _bytes,
    "text": lambda value: _bytes(value).decode("utf-8", "surrogatepass"),
    "set": lambda value: _hashed(set, value),
    "frozenset": lambda value: _hashed(frozenset, value),
    "tuple": tuple,
    "float": float,
    "int": lambda value: int(value, 16),
}
