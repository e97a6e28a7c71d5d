"""Numbers as people read them: durations, sizes, instants, counts. Pure."""

from __future__ import annotations

from datetime import datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration_text(seconds: float | None) -> str:
    """`<1 ms`, `0.25 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`, `3 d 04 h`; empty where unknown."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if 0 < seconds < 0.001:
        return "<1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 0.995 else f"{seconds:.1f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def age_text(seconds: float) -> str:
    """A coarse distance: `5 s`, `3 min`, `2 h`, `4 d`."""
    whole = max(0, round(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def instant_text(instant: datetime | None, now: datetime) -> str:
    """Local time: `15:02:11` of today, `Nov 21 15:02` of this year, `2025-11-21` before it."""
    if instant is None:
        return ""
    local, today = instant.astimezone(), now.astimezone()
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    if local.year == today.year:
        return f"{local:%b %d %H:%M}"
    return f"{local:%Y-%m-%d}"


def left_text(seconds: float | None) -> str:
    """`a few seconds left`, `about 40 s left`, `about 3 min left`, `about 1 h 20 min left`.

    Empty where unknown, and of less than a second: that is over before it is read.
    """
    if not seconds or seconds < 1:
        return ""
    if seconds < 10:
        return "a few seconds left"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10} s left"
    minutes = max(1, round(seconds / 60))
    if minutes >= 60:
        minutes = round(minutes / 10) * 10
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"about {rest} min left"
    if hours >= 48:
        return f"about {round(hours / 24)} d left"
    return f"about {hours} h {rest:02d} min left" if rest and hours < 10 else f"about {hours} h left"


def percent_text(percent: float | None) -> str:
    """`42 %`, never more than was reached; empty where unknown."""
    return "" if percent is None else f"{int(percent)} %"


def bar_text(percent: float, width: int, *, unicode: bool = True) -> str:
    """A bar of `width` columns."""
    full, empty = ("━", "─") if unicode else ("#", "-")
    done = max(0, min(width, int(width * percent / 100)))
    return full * done + empty * (width - done)


def size_text(count_bytes: int) -> str:
    """`512 B`, `4.0 KiB`, `12.3 GiB`."""
    size = float(count_bytes)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{count_bytes} B" if unit == "B" else f"{size:.1f} {unit}"


def count_text(count: int, noun: str, plural: str | None = None) -> str:
    """`1 task`, `1,204 tasks`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
