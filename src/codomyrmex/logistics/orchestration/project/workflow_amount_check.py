"""Faults of amounts in a workflow tree, and of keys that stand in two spellings.

Layer: pure. What the schema cannot see: texts that are durations or sizes, but of nothing or of too much.
Of `resources` everything is told here, since a name that the schema must allow may still be a slip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.amounts import (
    DURATION_PATTERN,
    MAX_DURATION_S,
    read_duration_s,
)
from codomyrmex.logistics.orchestration.project.resource_request import DEFAULT_QUOTA, UNIT
from codomyrmex.logistics.orchestration.project.schema_rules import NAME_PATTERN
from codomyrmex.logistics.orchestration.project.step_resources import (
    MACHINE_AMOUNTS,
    MACHINE_WORDS,
    NAMED_AMOUNT,
    QUOTA_WORD,
    Amount,
    is_device,
)
from codomyrmex.logistics.orchestration.project.workflow_faults import (
    Path,
    Placed,
    advice_on_text,
    clean_name,
    fault,
)
from codomyrmex.logistics.orchestration.project.workflow_words import RESOURCE_WORDS

# The same thing in two spellings: only one may stand.
_SPELLINGS = (
    ("needs", "dependencies"),
    ("with", "parameters"),
    ("timeout", "timeout_s"),
    ("retry", "max_retries"),
    ("delay", "delay_s"),
    ("max_delay", "max_delay_s"),
    ("ttl", "ttl_s"),
)


def spelling_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    """One fault for each pair of keys that say the same."""
    faults: list[Placed] = []
    for short, long in _SPELLINGS:
        if short in holder and long in holder:
            message = f"`{short}` and `{long}` say the same; keep one"
            faults.append(((*path, long), fault((*path, long), tree, message, code="twice")))
    return faults


def resource_faults(path: Path, resources: Mapping[Any, Any], tree: Any) -> list[Placed]:
    """Every fault of what stands in `resources`: of its names, and of amounts that cannot be had or held."""
    faults: list[Placed] = []
    for name, amount in resources.items():
        if isinstance(name, str) and not name.startswith("x-"):
            found = _resource_fault((*path, name), name, amount, tree)
            if found is not None:
                faults.append(((*path, name), found))
    if QUOTA_WORD in resources and DEFAULT_QUOTA in resources:
        message = f"`{QUOTA_WORD}` and `{DEFAULT_QUOTA}` say the same; keep one"
        faults.append(((*path, QUOTA_WORD), fault((*path, QUOTA_WORD), tree, message, code="twice")))
    return faults


def _resource_fault(path: Path, name: str, amount: Any, tree: Any) -> Fault | None:
    kind = MACHINE_AMOUNTS.get(name)
    if kind is None and (found := _name_fault(path, name, tree)) is not None:
        return found
    kind = kind or NAMED_AMOUNT
    is_number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
    if not is_number and not (isinstance(amount, str) and kind.pattern):
        if amount is not None and not isinstance(amount, (bool, str, list, tuple, dict)):
            return None  # a value of Python: said of all places where only JSON may stand
        advice = f"write {name}: 1" if amount is True and not kind.pattern else None
        message = kind.wanted
        if isinstance(amount, str) and _is_too_fine(kind, amount):
            message = kind.counted
        elif isinstance(amount, str):
            advice = advice_on_text(name, amount, {"number"})
        return fault(path, tree, message, value=amount, code="wrong_type", advice=advice)
    return _amount_fault(path, name, kind, amount, tree)


def _is_too_fine(kind: Amount, text: str) -> bool:
    """Whether a text is a number, which files keep as text where it would not be written back the same."""
    try:
        number = float(text)
    except ValueError:
        return False
    try:
        kind.read(number)
    except ValueError:
        return number > 0
    return False


def _amount_fault(path: Path, name: str, kind: Amount, amount: float | str, tree: Any) -> Fault | None:
    """What is wrong with an amount of the right type."""
    advice: str | None = None
    message = kind.wanted
    if isinstance(amount, str) and re.fullmatch(kind.pattern, amount, re.ASCII) is None:
        advice = advice_on_text(name, amount, {"string"})
        return fault(path, tree, message, value=amount, code="wrong_value", advice=advice)
    try:
        held = kind.read(amount)
        if held <= 0 and kind is NAMED_AMOUNT:
            advice = f"to claim none of it, take {name!r} out"
        elif held > kind.most:
            message = "this is more than any machine has"
        elif name == "gpu" and held > UNIT and held % UNIT:
            message = "a fraction of a GPU is a share of one device"
            more = -(-held // UNIT)
            advice = f"write gpu: {more} for {more} whole ones, or at most 1 for a share of one"
        else:
            return None
    except ValueError:
        if isinstance(amount, str) or (amount >= 0 and amount - amount == 0):
            message = kind.counted
    return fault(path, tree, message, value=amount, code="wrong_value", advice=advice)


def _name_fault(path: Path, name: str, tree: Any) -> Fault | None:
    """A name that is nearly a word for what every machine has, or that nothing can have."""
    if is_device(name):
        advice = "which devices a step gets is chosen when it starts: write gpu: 1"
        return fault(path, tree, f"{name!r} is one device", code="wrong_value", advice=advice)
    near = machine_word(name)
    if near is not None:
        is_slip = name.lower() not in RESOURCE_WORDS and name.lower() != near
        return fault(
            path,
            tree,
            f"unknown resource {name[:80]!r}",
            code="unknown_key",
            nearest=near,
            advice="a resource of your own needs a name less like it" if is_slip else None,
        )
    if re.fullmatch(NAME_PATTERN, name, re.ASCII) is None:
        message = "a resource is named with up to 128 letters, digits, _ . and -"
        return fault(path, tree, message, value=name, code="bad_name", nearest=clean_name(name))
    return None


@lru_cache(maxsize=1024)
def machine_word(name: str) -> str | None:
    """The word that was meant by another name of it, or by a slip of the keyboard; None for a name of its own."""
    from difflib import SequenceMatcher

    plain = name.lower()
    known = RESOURCE_WORDS.get(plain)
    if known is not None:
        return known
    if len(plain) > 8:
        return None
    letters = sorted(plain)
    for word in MACHINE_WORDS:
        if letters == sorted(word) or SequenceMatcher(None, plain, word).ratio() > _NEAR:
            return word
    return None


_NEAR = 0.8


def duration_faults(path: Path, holder: dict[str, Any], tree: Any) -> list[Placed]:
    """Texts that are durations, but of nothing or of more than ten years; numbers are the schema's."""
    faults: list[Placed] = []
    for key, least in _LEAST_S:
        text = holder.get(key)
        if not isinstance(text, str) or not text or re.match(DURATION_PATTERN, text, re.ASCII) is None:
            continue
        if not least < read_duration_s(text) <= MAX_DURATION_S:
            place = (*path, key)
            message = "a duration is above 0" if read_duration_s(text) <= 0 else "a duration is at most 3650d"
            advice = None if key == "sleep" else "to have no limit, leave it out"
            faults.append((place, fault(place, tree, message, value=text, code="wrong_value", advice=advice)))
    return faults


_LEAST_S = (("timeout", 0.0), ("ttl", 0.0), ("delay", -1.0), ("max_delay", -1.0), ("sleep", -1.0))
