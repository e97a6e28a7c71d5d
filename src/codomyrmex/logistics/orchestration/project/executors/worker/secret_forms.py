"""How the value of a secret looks in what a program writes: as it is, and as the usual encoders leave it.

Layer: worker (standard library only, Python 3.9 syntax); pure. Known are percent-encoding as the libraries of
Python and browsers do it, base64 in both alphabets and at any place inside of a longer text, JSON, `repr`
and shell quoting, and single lines of a value that has several. Not known: other encodings than UTF-8,
base64 that is broken into lines, hexadecimal, compression, encryption.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 4
"""Values of fewer characters are not looked for: they would blot out half of every text."""
SHORTEST_LINE = 8
"""A line of a longer value has to have so many characters to be looked for by itself."""
_UNTOUCHED = ("", "/", "!'()*~", "!#$&'()*+,/:;=?@[]~")
"""What `quote_plus`, `quote`, JavaScript's `encodeURIComponent`, and HTTP clients with a whole URL leave as it is."""


def forms_of(value: str) -> list[str]:
    """Every text that stands for this value, longest first; empty for a value that is too short."""
    if len(value) < SHORTEST:
        return []
    found = {value, value.strip(), *_written(value), *_base64(value)}
    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        for line in lines:
            if len(line) >= SHORTEST_LINE:
                found.update((line, *_written(line)))
    return sorted((form for form in found if len(form) >= SHORTEST), key=len, reverse=True)


def _written(value: str) -> Iterator[str]:
    """The value inside of texts that programs, shells and formats made."""
    import json

    yield from _percent_encoded(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    raw = value.encode("utf-8", "surrogatepass")
    yield repr(value)[1:-1]
    yield ascii(value)[1:-1]
    yield repr(raw)[2:-1]
    # Beside both kinds of quotes `repr` escapes the single ones.
    yield repr("'\"" + value)[4:-1]
    yield repr(b"'\"" + raw)[5:-1]
    if "'" in value:
        yield value.replace("'", "'\\''")
        yield value.replace("'", "'\"'\"'")


def _percent_encoded(value: str) -> Iterator[str]:
    import re
    from urllib.parse import quote

    for untouched in _UNTOUCHED:
        coded = quote(value, safe=untouched, errors="surrogatepass")
        for form in (coded, coded.replace("%20", "+")):
            yield form
            yield re.sub("%[0-9A-F]{2}", lambda found: found.group().lower(), form)


def _base64(value: str) -> Iterator[str]:
    """What of the code depends on this value alone, at each of the three places where it can begin."""
    import binascii

    raw = value.encode("utf-8", "surrogatepass")
    for shift, mixed in ((0, 0), (1, 2), (2, 3)):
        coded = binascii.b2a_base64(b"\0" * shift + raw, newline=False).decode("ascii")
        bare = coded.rstrip("=")
        for form in (bare[mixed : (shift + len(raw)) * 8 // 6], bare[mixed:], coded[mixed:]):
            yield form
            yield form.replace("+", "-").replace("/", "_")
