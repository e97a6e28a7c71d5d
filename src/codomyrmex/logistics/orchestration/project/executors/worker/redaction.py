"""Taking the values of secrets out of what a task writes, raises, tells and returns.

Layer: worker (standard library only, Python 3.9 syntax; the engine uses it for threads and coroutines); pure.
Wherever a value stands, in any form that `secret_forms` knows, `***NAME***` stands afterwards. Places that
overlap are hidden together.

Invariants: nothing of a place where a value stood comes out, however the text was cut into pieces; text in
which no value stands comes out as it was. A stream holds back only what might be the beginning of a value,
and until it is known not to be: never for a time, or a value written in two halves would pass.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import AnyStr, Generic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token
    from typing import Any, Optional

_TAG = "$type"
_BASE64_TAGS = ("bytes", "text")
_HOLDING_TAGS = ("dict", "tuple", "set", "frozenset", "path", "dataclass", "msgspec", "pydantic")
_PROBE = 8


class Redactor:
    """Hides the values of some secrets, given by name."""

    __slots__ = ("_bytes", "_numbers", "_text")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        from .secret_forms import forms_of

        forms: dict[str, str] = {}
        for name, value in secrets.items():
            for form in forms_of(value):
                forms.setdefault(form, f"***{name}***")
        self._text: _Masks[str] = _Masks(list(forms.items()), "")
        coded = [(form.encode("utf-8", "surrogatepass"), mask.encode()) for form, mask in forms.items()]
        self._bytes: _Masks[bytes] = _Masks(coded, b"")
        self._numbers = {form: mask for form, mask in forms.items() if form[-1:].isdigit()}

    def text(self, text: str) -> str:
        """The text without values; the same object where there is none in it."""
        return self._text.hide(text)

    def data(self, data: bytes) -> bytes:
        """The same for bytes, taken as UTF-8."""
        return self._bytes.hide(data)

    def text_stream(self) -> Stream[str]:
        """For text that comes in pieces."""
        return Stream(self._text)

    def stream(self) -> Stream[bytes]:
        """For bytes that come in pieces."""
        return Stream(self._bytes)

    def tree(self, tree: Any) -> Any:
        """A tree of tagged JSON without values in texts, keys and tagged bytes; nothing is changed in place.

        A number that is written like a value becomes text, as do a date, a decimal and the like that hold
        one. Files of values are left alone: their formats are those of their codecs.
        """
        kind = type(tree)
        if kind is str:
            return self._text.hide(tree)
        if kind is dict:
            return self._tagged(tree) if _TAG in tree else self._fields(tree)
        if kind is list:
            return [self.tree(item) for item in tree]
        if self._numbers and (kind is int or kind is float):
            return self._numbers.get(repr(tree), tree)
        return tree

    def note(self, note: Mapping[str, Any]) -> dict[str, Any]:
        """A note of a task without values; its kind stays."""
        return {**self.tree({**note, "kind": ""}), "kind": note["kind"]}

    def _fields(self, tree: dict[Any, Any]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, item in tree.items():
            shown = self._text.hide(key) if type(key) is str else key
            name, number = shown, 2
            while shown is not key and name in found:
                name, number = f"{shown} ({number})", number + 1
            found[name] = self.tree(item)
        return found

    def _tagged(self, tree: dict[str, Any]) -> Any:
        tag, value = tree[_TAG], tree.get("value")
        if tag == "file":
            return tree
        if tag in _BASE64_TAGS:
            return {**tree, "value": self._base64(value)}
        shown = self.tree(value)
        if tag in _HOLDING_TAGS or shown == value:
            return {**tree, "value": shown}
        return shown  # what is left would be no value of that type

    def _base64(self, value: Any) -> Any:
        import binascii

        data = binascii.a2b_base64(value)
        shown = self._bytes.hide(data)
        return value if shown is data else binascii.b2a_base64(shown, newline=False).decode("ascii")


class _Masks(Generic[AnyStr]):
    """What is looked for in texts of one kind, and what stands there afterwards."""

    __slots__ = ("empty", "pairs")

    def __init__(self, pairs: list[tuple[AnyStr, AnyStr]], empty: AnyStr) -> None:
        self.pairs: list[tuple[AnyStr, AnyStr]] = pairs
        self.empty: AnyStr = empty

    def hide(self, text: AnyStr) -> AnyStr:
        """The whole text without values."""
        for form, _ in self.pairs:
            if form in text:
                return Stream(self).feed(text, final=True)
        return text

    def places(self, text: AnyStr) -> list[tuple[int, int, AnyStr]]:
        """(start, end, mask) of every place where a value stands, in order; the longest first at the same start."""
        found = []
        for form, mask in self.pairs:
            at = text.find(form)
            while at >= 0:
                found.append((at, at + len(form), mask))
                at = text.find(form, at + 1)
        found.sort(key=_by_start)
        return found

    def open_at(self, text: AnyStr) -> int:
        """Where the first value might stand that has begun but not ended; the text's length if none has."""
        end = len(text)
        return min((_begun_at(text, form) for form, _ in self.pairs), default=end)


def _by_start(place: tuple[int, int, Any]) -> tuple[int, int]:
    return place[0], -place[1]


def _begun_at(text: AnyStr, form: AnyStr) -> int:
    """Where the longest beginning of `form` stands that reaches to the end of `text`, without being all of it."""
    end = len(text)
    first = max(0, end - len(form) + 1)
    probe = form[:_PROBE]
    at = text.find(probe, first)
    while at >= 0:
        if form.startswith(text[at:]):
            return at
        at = text.find(probe, at + 1)
    for at in range(max(first, end - len(probe) + 1), end):
        if form.startswith(text[at:]):
            return at
    return end


class Stream(Generic[AnyStr]):
    """AnyStr that comes in pieces; at most the longest form of a value is held back."""

    __slots__ = ("_held", "_hidden", "_masks")

    def __init__(self, masks: _Masks[AnyStr]) -> None:
        self._masks: _Masks[AnyStr] = masks
        self._held: AnyStr = masks.empty
        self._hidden = 0
        """So much of the beginning of `_held` belongs to a value whose mask has come out already."""

    def feed(self, piece: AnyStr, *, final: bool = False) -> AnyStr:
        """What can come out now; with `final` all of it."""
        text = self._held + piece
        stop = len(text) if final else self._masks.open_at(text)
        out: list[AnyStr] = []
        done = self._hidden
        for start, end, mask in self._masks.places(text):
            if start >= stop:
                break
            if start >= done:
                out += (text[done:start], mask)
            done = max(done, end)
        if done < stop:
            out.append(text[done:stop])
            done = stop
        self._held, self._hidden = text[stop:], done - stop
        return self._masks.empty.join(out)


# --------------------------------------------------------------------------- the attempt of this context

_active: ContextVar[Optional[Redactor]] = ContextVar("codomyrmex_redactor", default=None)


def enter(redactor: Optional[Redactor]) -> Token[Optional[Redactor]]:
    """Lets `hide` use this redactor in this context; for `leave`."""
    return _active.set(redactor)


def leave(token: Token[Optional[Redactor]]) -> None:
    """Undoes `enter`."""
    _active.reset(token)


def active() -> Optional[Redactor]:
    """The redactor of the attempt that runs here; None for one without secrets."""
    return _active.get()


def hide(text: str) -> str:
    """`text` without the secrets of the attempt that runs here; to be called before anything is cut off."""
    redactor = _active.get()
    return text if redactor is None else redactor.text(text)


def hide_data(data: bytes) -> bytes:
    """The same for bytes."""
    redactor = _active.get()
    return data if redactor is None else redactor.data(data)
