"""The actions of codomyrmex.yaml. Any function can be one; what it prints goes to the log of its task."""

from __future__ import annotations

import csv
import os
from pathlib import Path

SUFFIXES = {".md", ".rst", ".txt", ".py", ".yaml"}
SKIPPED = {"node_modules", "__pycache__", "venv", "build", "dist"}


def find_texts(folder: Path, limit: int = 200) -> list[str]:
    """Up to `limit` texts below the folder, hidden folders left out."""
    found: list[str] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        found += [os.path.join(here, name) for name in sorted(names) if Path(name).suffix in SUFFIXES]
    print(f"{len(found)} texts in {folder}")
    return found[:limit]


def count_words(path: str) -> dict[str, object]:
    """How many words one file has."""
    words = len(Path(path).read_text(encoding="utf-8", errors="replace").split())
    print(f"{path}: {words} words")
    return {"path": path, "words": words}


def write_report(counts: list[dict[str, object]], path: str) -> dict[str, object]:
    """Writes one line for each file, and returns the sum of the words and where the report is."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "words"])
        writer.writerows([row["path"], row["words"]] for row in counts)
    return {"words": sum(int(str(row["words"])) for row in counts), "path": path}
