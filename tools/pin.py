"""Writes `constraints.txt` from what `.venv` holds: names and versions, not where they came from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
HEADER = "# The exact versions that `make` installs into .venv. Refresh with `make constraints`.\n"
PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+")


def main() -> int:
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    listed = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    odd = [line for line in listed if not PINNED.fullmatch(line)]
    if odd:
        print("not installed from a released version: " + ", ".join(odd), file=sys.stderr)
        return 1
    TARGET.write_text(HEADER + "".join(f"{line}\n" for line in sorted(listed, key=str.lower)))
    print(f"{len(listed)} versions pinned in {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
