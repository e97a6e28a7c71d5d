"""An independent reader of allocations: `allocations_reader.py DATABASE`, until its standard input is closed.

It knows nothing of the package: the standard library's SQLite, read-only, in a process of its own. Each look is one
snapshot of all rows, added up here; no clock is asked, because rows whose time is over must be gone before
anybody takes their place. Prints one JSON document: looks, the most seen of each resource, faults.
"""

from __future__ import annotations

import json
import select
import sqlite3
import sys

EVERY_S = 0.002
ROWS = "SELECT id, resource, amount FROM allocation WHERE pool IS NULL"
CAPACITIES = "SELECT id, capacity FROM resource"


def look(connection: sqlite3.Connection, most: dict[str, int]) -> list[str]:
    """One snapshot; returns what is wrong with it."""
    connection.execute("BEGIN")
    try:
        rows = connection.execute(ROWS).fetchall()
        capacities = dict(connection.execute(CAPACITIES).fetchall())
    finally:
        connection.execute("COMMIT")
    used: dict[str, int] = {}
    faults = []
    for id, resource, amount in rows:
        if amount <= 0:
            faults.append(f"allocation {id} is of {amount}")
        used[resource] = used.get(resource, 0) + amount
    for resource, amount in used.items():
        most[resource] = max(most.get(resource, 0), amount)
        if not 0 <= amount <= capacities.get(resource, -1):
            faults.append(f"{amount} of {resource} are used; there are {capacities.get(resource)}")
    return faults


def main(path: str) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30)
    looks = 0
    most: dict[str, int] = {}
    faults: list[str] = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        faults += look(connection, most)
        looks += 1
    connection.close()
    print(json.dumps({"looks": looks, "most": most, "faults": faults[:20], "fault_count": len(faults)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
