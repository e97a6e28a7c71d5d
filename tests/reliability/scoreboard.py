"""The figures of the full forms, and the document that shows them.

A full form adds one row; a row of the same name takes the place of the old one, so a single test may be run
again by itself. `docs/reliability.md` is written at the end of the session.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

HEAD = """# Reliability, measured

Written by `make reliability`; every row is a test that fails when one of its figures is not as it must be.
Seeds are drawn anew each time; `CODOMYRMEX_SEED=N` repeats one. `make test` runs a tenth of each on smaller
input.

"""
COLUMNS = "| what | count | seed | figures | command |\n| --- | --- | --- | --- | --- |\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured promise."""

    what: str
    count: str
    seed: str
    figures: str
    command: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.count} | {self.seed} | {self.figures} | `{self.command}` |"


def written(document: Path, rows: list[Row]) -> str:
    """The document with these rows in place of those of the same names."""
    kept = {}
    if document.exists():
        for line in document.read_text(encoding="utf-8").splitlines():
            if line.startswith("| ") and not line.startswith(("| what |", "| --- |")):
                kept[line.split(" | ")[0].removeprefix("| ")] = line
    kept |= {row.what: str(row) for row in rows}
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    machine = f"Python {platform.python_version()}, {os.cpu_count()} processors, {kernel}."
    return HEAD + COLUMNS + "\n".join(kept[what] for what in sorted(kept)) + f"\n\nLast run on {machine}\n"
