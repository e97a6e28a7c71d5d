"""Writes report.json and report.html: the last step of the audit.

Both depend on the findings only and hold no time and no place of their own, so a run that was interrupted
and resumed writes the same bytes as one that was not. Each file appears whole or not at all, and is on disk
before the step's result says so.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from audit_facts import Findings
from audit_page import page


def write_report(findings: Findings, output_dir: str = "build/stdlib_audit") -> dict[str, str]:
    """Write both reports into `output_dir`, made if missing, and return their absolute paths."""
    folder = Path(output_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    style = Path(__file__).with_name("audit_report.css").read_text(encoding="utf-8")
    told = json.dumps(findings, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return {
        "html": _write_whole(folder / "report.html", page(findings, style)),
        "json": _write_whole(folder / "report.json", told),
    }


def _write_whole(path: Path, text: str) -> str:
    """Replace the file in one step; a kill before it leaves a `.part`, which the next try writes anew."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return str(path)
