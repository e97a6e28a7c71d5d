"""Counts and ranks what the parse tasks found: totals, long functions, deep nesting, missing docstrings.

Each public function that takes `batches` is one step. It gets the parse step's whole output (a list of
batches, each a list of `FileFacts`) and returns small sorted results. Pure: same facts, same answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from audit_facts import KEPT_PER_FILE, FileFacts, Findings, Ranked

LENGTH_BOUNDS = (5, 10, 20, 40, 80, 160)
"""Upper bounds, in lines, of the groups in which function lengths are shown; a last group is open."""
DEPTH_BOUNDS = (0, 1, 2, 3, 4, 5, 6)
"""Likewise for levels of control flow."""

_SIZES = ("files", "lines", "bytes", "functions", "classes")

Batches = list[list[FileFacts]]
Row = tuple[str, str, int, int]
"""Path, qualified name, line, value."""


def each_file(batches: Batches) -> Iterator[FileFacts]:
    """Yield the facts of all files in the order in which they were listed."""
    for batch in batches:
        yield from batch


def count_totals(batches: Batches) -> Findings:
    """Count files, lines, functions and classes, in all and by package; name what did not parse."""
    whole: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    packages: dict[str, Counter[str]] = {}
    unparsed = []
    for facts in each_file(batches):
        size = {
            "files": 1,
            "lines": facts["lines"],
            "bytes": facts["bytes"],
            "functions": facts["functions"],
            "classes": facts["classes"],
        }
        whole.update(size)
        part = tests if facts["tests"] else packages.setdefault(top_level(facts), Counter())
        part.update(size)
        if facts["error"]:
            unparsed.append({"path": facts["path"], **facts["error"]})
    largest = sorted(packages.items(), key=lambda item: (-item[1]["lines"], item[0]))
    return {
        **_sizes(whole),
        "tests": _sizes(tests),
        "packages": [{"package": name, **_sizes(size)} for name, size in largest],
        "unparsed": unparsed,
    }


def _sizes(counter: Counter[str]) -> dict[str, int]:
    return {name: counter[name] for name in _SIZES}


def top_level(facts: FileFacts) -> str:
    """Return the first part of the module's name: its package, or the module itself."""
    return facts["module"].split(".", 1)[0]


def longest_functions(batches: Batches, top: int = 20) -> Findings:
    """Rank functions by their lines and tell how lengths are distributed, apart for library and tests."""
    check_top(top)
    parts: Findings = {"unit": "lines"}
    for name, tests in (("library", False), ("tests", True)):
        files = [facts for facts in each_file(batches) if facts["tests"] is tests]
        tally = _added(facts["lengths"] for facts in files)
        rows = _rows((facts["path"], facts["longest"]) for facts in files)
        parts[name] = {**_distribution(tally, LENGTH_BOUNDS), "top": ranking(rows, top)}
    return parts


def deepest_nesting(batches: Batches, top: int = 20) -> Findings:
    """Rank functions by levels of control flow and tell how these are distributed, apart likewise."""
    check_top(top)
    parts: Findings = {"unit": "levels"}
    for name, tests in (("library", False), ("tests", True)):
        files = [facts for facts in each_file(batches) if facts["tests"] is tests]
        tally = _added(facts["depths"] for facts in files)
        rows = _rows((facts["path"], facts["deepest"]) for facts in files)
        parts[name] = {**_distribution(tally, DEPTH_BOUNDS), "top": ranking(rows, top)}
    return parts


def _added(tallies: Iterable[list[list[int]]]) -> Counter[int]:
    added: Counter[int] = Counter()
    for tally in tallies:
        for value, count in tally:
            added[value] += count
    return added


def _rows(ranked: Iterable[tuple[str, list[Ranked]]]) -> list[Row]:
    return [(path, name, line, value) for path, rows in ranked for name, line, value in rows]


def ranking(rows: list[Row], top: int) -> list[Findings]:
    """Return the `top` rows of the highest values, equal ones by path and line."""
    highest = sorted(rows, key=lambda row: (-row[3], row[0], row[2], row[1]))[:top]
    return [{"path": path, "name": name, "line": line, "value": value} for path, name, line, value in highest]


def check_top(top: int) -> None:
    """Refuse a length of ranking that the facts do not carry."""
    if not 1 <= top <= KEPT_PER_FILE:
        raise ValueError(
            f"top is {top}: it must be between 1 and {KEPT_PER_FILE}, which is what each file keeps"
        )


def _distribution(tally: Mapping[int, int], bounds: tuple[int, ...]) -> Findings:
    return {
        "functions": sum(tally.values()),
        "median": quantile(tally, 50),
        "p90": quantile(tally, 90),
        "p99": quantile(tally, 99),
        "max": max(tally, default=0),
        "groups": grouped(tally, bounds),
    }


def quantile(tally: Mapping[int, int], percent: int) -> int:
    """Return the least value that `percent` in a hundred do not exceed; 0 when nothing was counted."""
    needed = -(-sum(tally.values()) * percent // 100)
    seen = 0
    for value in sorted(tally):
        seen += tally[value]
        if seen >= needed:
            return value
    return 0


def grouped(tally: Mapping[int, int], bounds: tuple[int, ...]) -> list[Findings]:
    """Sum the counts into groups that end at each of `bounds`, and an open one above the last."""
    groups: list[Findings] = []
    low = min(1, bounds[0])
    for bound in bounds:
        count = sum(number for value, number in tally.items() if low <= value <= bound)
        groups.append({"label": str(bound) if low == bound else f"{low}–{bound}", "count": count})
        low = bound + 1
    groups.append({"label": f"{low}+", "count": sum(n for value, n in tally.items() if value >= low)})
    return groups


def missing_docstrings(batches: Batches, top: int = 20) -> Findings:
    """Count public modules, classes and functions with and without a docstring; tests are left out.

    `packages` holds the largest by public things, `longest` the longest public functions that say nothing.
    """
    check_top(top)
    library = [facts for facts in each_file(batches) if not facts["tests"]]
    public: Counter[str] = Counter()
    documented: Counter[str] = Counter()
    packages: dict[str, list[int]] = {}
    for facts in library:
        public.update(facts["public"])
        documented.update(facts["documented"])
        counts = packages.setdefault(top_level(facts), [0, 0])
        counts[0] += sum(facts["public"].values())
        counts[1] += sum(facts["documented"].values())
    largest = sorted(packages.items(), key=lambda item: (-item[1][0], item[0]))[:top]
    return {
        "public": sum(public.values()),
        "documented": sum(documented.values()),
        "kinds": [
            {"kind": kind, "public": public[kind], "documented": documented[kind]}
            for kind in ("module", "class", "function")
        ],
        "packages": [
            {"package": name, "public": counts[0], "documented": counts[1]}
            for name, counts in largest
            if counts[0]
        ],
        "longest": ranking(_rows((facts["path"], facts["undocumented"]) for facts in library), top),
    }
