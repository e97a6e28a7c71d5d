"""Makes `.venv`: the package, editable, with the extra `all` and the group `dev`, as `constraints.txt` pins.

Every make target starts here. When nothing changed since the last time it only compares a stamp and ends,
in a few hundredths of a second and without a network. It needs Python 3.11 or later with `venv` and nothing
else; an older `python3` hands over to a later one on the PATH if there is one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "environment.stamp"
NEEDED = (3, 11)


def main() -> int:
    if sys.version_info < NEEDED:
        return hand_over()
    wanted = fingerprint()
    if is_ready(wanted):
        return 0
    VENV.mkdir(exist_ok=True)
    with open(VENV / "environment.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second finds the work done
        if is_ready(wanted):
            return 0
        return build(wanted)


def hand_over() -> int:
    """Starts again under a Python that is new enough."""
    for minor in range(20, NEEDED[1] - 1, -1):
        found = shutil.which("python3.%d" % minor)
        if found:
            os.execv(found, [found, *sys.argv])
    print("Python 3.11 or later is needed; this one is %s." % sys.version.split()[0], file=sys.stderr)
    print("Install one and run: make PYTHON=/path/to/python3.11 ...", file=sys.stderr)
    return 2


def fingerprint() -> str:
    """What the environment depends on: the place, the interpreter, the declarations, the pins, this file."""
    digest = hashlib.sha256()
    digest.update(("%s\n%s\n%s\n" % (ROOT, os.path.realpath(sys.executable), sys.version)).encode())
    for path in (ROOT / "pyproject.toml", ROOT / "constraints.txt", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_ready(wanted: str) -> bool:
    try:
        return STAMP.read_text() == wanted and os.access(PYTHON, os.X_OK)
    except OSError:
        return False


def build(wanted: str) -> int:
    print("setting up .venv (once; about a minute)", file=sys.stderr, flush=True)
    STAMP.unlink(missing_ok=True)
    steps = [
        [sys.executable, "-m", "venv", *(["--clear"] if is_foreign() else []), str(VENV)],
        [
            *(str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"),
            *(
                "--constraint",
                str(ROOT / "constraints.txt"),
                "--editable",
                f"{ROOT}[all]",
                *development_tools(),
            ),
        ],
    ]
    for step in steps:
        done = subprocess.run(step, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            print("failed: %s" % " ".join(step), file=sys.stderr)
            return done.returncode
    STAMP.write_text(wanted)
    return 0


def is_foreign() -> bool:
    """Whether what lies in `.venv` belongs to another interpreter, or to a folder that was moved."""
    if not PYTHON.exists():
        return True
    if os.path.realpath(PYTHON) != os.path.realpath(sys.executable):
        return True
    pip = VENV / "bin" / "pip"
    return not pip.exists() or str(VENV) not in pip.read_text(errors="replace").split("\n", 1)[0]


def development_tools() -> list[str]:
    """The requirements of the group `dev`: older pips cannot read groups by themselves."""
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(declared["dependency-groups"]["dev"])


if __name__ == "__main__":
    sys.exit(main())
