"""What the steps of random workflows do: as a script in their parameters says."""

from __future__ import annotations

from typing import Any

from codomyrmex.current_task import current_task

ERRORS: dict[str, type[Exception]] = {"ValueError": ValueError, "KeyError": KeyError}


def act(script: list[str], used: Any = None, item: Any = None) -> int:
    """What every step does: fail as the script says for this attempt, or add up what it was given."""
    script, item = scripted(script, item)
    said = script[min(current_task().attempt, len(script)) - 1]
    if said != "ok":
        raise ERRORS[said](said)
    return 1 + total(used) + total(item)


def scripted(script: list[str], item: Any) -> tuple[list[str], Any]:
    if isinstance(item, dict) and "script" in item:
        return item["script"], item["value"]
    return script, item


def total(value: Any) -> int:
    """The sum of all numbers in a value."""
    if isinstance(value, (list, dict)):
        return sum(map(total, value.values() if isinstance(value, dict) else value))
    return value if isinstance(value, int) else 0
