"""Another process that holds something: `holder_script.py STATE RESOURCE AMOUNT`.

Prints `held`, or `refused`; gives it back and ends when its standard input is closed.
"""

from __future__ import annotations

import sys

from codomyrmex.logistics.orchestration.project.resource_manager import ResourceManager


def main(state: str, resource: str, amount: str) -> int:
    with ResourceManager(state=state) as manager:
        found = manager.allocate(resource, "the other process", float(amount))
        print("held" if found is not None else "refused", flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
