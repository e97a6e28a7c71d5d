"""Durations, sizes and shares of things as people write them, and back.

Layer: pure. A duration is a number with `ms s m h d`, or several in falling order (`1h30m`); a bare number
is seconds. A size is a number with `B KiB MiB GiB TiB` (powers of 1024) or `KB MB GB TB` (powers of 1000);
a bare whole number is bytes. Amounts are held as integers (thousandths of a CPU, bytes, ten-thousandths of
anything else), so nothing here rounds: what cannot be said exactly is refused.
"""

from __future__ import annotations

import re
from math import ulp

DURATION_PATTERN = (
    r"^(?:\d{1,12}(?:\.\d{1,9})?(?:ms|s|m|h|d)?"
    r"|(?:\d{1,9}d)?(?:\d{1,9}h)?(?:\d{1,9}m)?(?:\d{1,9}s)?(?:\d{1,9}ms)?)$"
)
SIZE_PATTERN = r"^\d{1,19}(?:\.\d{1,18})? ?(?:B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)?$"
RATE_PATTERN = SIZE_PATTERN.removesuffix("$") + "(?:/s)?$"
MAX_DURATION_S = 3650 * 86400
MAX_SIZE_BYTES = 2**60

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_UNIT_BYTES = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
_SIZE = re.compile(r"(\d+)(?:\.(\d+))? ?([A-Za-z]*)", re.ASCII)


def read_duration_s(value: float | str) -> float:
    """Seconds of `90`, `"90s"`, `"1.5m"` or `"1h30m"`; ValueError for anything else."""
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    if not text or re.match(DURATION_PATTERN, text, re.ASCII) is None:
        raise ValueError(f"not a duration: {value!r}")
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(text))


def read_size_bytes(value: float | str) -> int:
    """Bytes of `1024`, `"256MiB"` or `"1.5GB"`; ValueError for anything else or for a part of a byte."""
    match = _SIZE.fullmatch(str(value).strip())
    unit: int | None = None if match is None else _UNIT_BYTES.get(match[3])
    if match is None or unit is None:
        raise ValueError(f"not a size: {value!r}")
    fraction = match[2] or ""
    scale: int = 10 ** len(fraction)
    size, rest = divmod(int(match[1] + fraction) * unit, scale)
    if rest:
        raise ValueError(f"not a whole number of bytes: {value!r}")
    return size


def read_rate_bps(value: float | str) -> int:
    """Bytes per second of `"10MB"` or `"10MB/s"`; ValueError for anything else."""
    return read_size_bytes(value.strip().removesuffix("/s") if isinstance(value, str) else value)


def read_milli_cpu(value: float) -> int:
    """Thousandths of a CPU of `0.5` or `2`; ValueError when negative or finer than a thousandth."""
    milli = _whole(value, 1000)
    if milli is None:
        raise ValueError(f"not a number of CPUs in thousandths: {value!r}")
    return milli


def read_units(value: float) -> int:
    """Ten-thousandths of `0.5` or `2` of anything; ValueError when negative or finer than that."""
    units = _whole(value, 10_000)
    if units is None:
        raise ValueError(f"not a number in ten-thousandths: {value!r}")
    return units


def _whole(value: float, parts: int) -> int | None:
    """A number in so many parts of one; None where that is no whole number, or negative or endless."""
    if value < 0 or value - value != 0:
        return None
    if isinstance(value, int) or value.is_integer():
        return int(value) * parts
    scaled = value * parts
    # A decimal fraction is a float that is off by half a last digit at most, and so is the product.
    return round(scaled) if scaled < 2**51 and abs(round(scaled) - scaled) <= 4 * ulp(scaled) else None


def write_size(size_bytes: int) -> str:
    """The shortest exact way to write a size: `256MiB`, `10MB`, `1500B`."""
    exact = [(size_bytes // unit, name) for name, unit in _WRITTEN_UNITS if size_bytes % unit == 0]
    count, name = min(exact, key=lambda each: len(str(each[0])))
    return f"{count}{name}"


_WRITTEN_UNITS = [
    (name, _UNIT_BYTES[name]) for name in ["B", "TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB"]
]
"""Of equally short ones the first is taken."""


def write_cpu(milli: int) -> int | float:
    """CPUs as a person writes them: 1, 0.5."""
    return milli // 1000 if milli % 1000 == 0 else milli / 1000


def write_units(units: int) -> int | float:
    """A number of anything as a person writes it: 1, 0.5."""
    return units // 10_000 if units % 10_000 == 0 else units / 10_000
