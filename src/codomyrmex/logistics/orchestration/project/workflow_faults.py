"""What is wrong with a workflow file, in words that help: from a schema error to a `Fault`.

Layer: pure. A fault says the place as people point at it (`steps[2] 'parse'.retry.delay`), what was got,
what is allowed, the nearest name, and what to write instead where that can be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from codomyrmex.exceptions import Fault
from codomyrmex.logistics.orchestration.project.workflow_kinds import COMPENSATION, STEP_LISTS, WAITING_KINDS
from codomyrmex.logistics.orchestration.project.workflow_parameters import PARAMETER_TYPES, describe
from codomyrmex.logistics.orchestration.project.workflow_words import (
    LATER_STEP_KEYS,
    LATER_WORKFLOW_KEYS,
    PART_WORDS,
    STEP_WORDS,
    VALUE_WORDS,
    WORKFLOW_WORDS,
)

Path = tuple[str | int, ...]
Placed = tuple[Path, Fault]

STEP_KINDS = ("run", "call", "module", *WAITING_KINDS)

_TEXT_KEYS = frozenset(
    {"description", "working_dir", "python", "module", "action", "message", "signal", "key", "workflow"}
)
_PLAIN_NUMBER = re.compile(r"[-+]?[\d_]+(?:\.\d*)?(?:[eE][-+]?\d+)?", re.ASCII)
_TAKES_REFERENCES = "`with`, `run`, `foreach`, `env`, `working_dir`, `sleep`, `labels` and `outputs`"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one was most likely meant to be."""
    from difflib import get_close_matches

    names = list(known)
    plain = {each.lower().replace("-", "_"): each for each in reversed(names)}
    found = get_close_matches(name.lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def path_text(path: Path, tree: Any = None) -> str:
    """A place as people point at it: `steps[2] 'parse'.retry.max_attempts`."""
    text = ""
    here = tree
    shown = path if len(path) <= 12 else path[:8]
    for part in shown:
        if isinstance(part, int):
            text += f"[{part}]"
            here = here[part] if isinstance(here, list) and 0 <= part < len(here) else None
            name = here.get("name") if isinstance(here, dict) else None
            if "." not in text and text.startswith(_LISTS) and isinstance(name, str):
                text += f" {name[:80]!r}"
        else:
            text += f".{part[:80]}" if text else part[:80]
            here = here.get(part) if isinstance(here, dict) else None
    return text if shown is path else f"{text}..."


_LISTS = tuple(f"{name}[" for name in STEP_LISTS)


def explain(
    error: Any, place: Path, tree: Any, root_schema: Mapping[str, Any], *, limit: int
) -> list[Placed]:
    """The faults that one schema error stands for: an error of unknown keys for one each, `limit` at most.

    `place` is where in the tree the value stands that was checked.
    """
    path: Path = (*place, *error.instance_path)
    keyword: str = error.kind.name
    if keyword in ("oneOf", "anyOf") or _is_of_resources(path, keyword):
        return []  # told in better words by workflow_check
    value = at(tree, path)
    rule = at(root_schema, error.schema_path[:-1])
    if keyword == "additionalProperties":
        known = tuple(rule["properties"])
        unknown = error.kind.unexpected[:limit]
        return [((*path, key), _unknown_key(path, key, known, tree)) for key in unknown]
    if keyword == "falseSchema":
        return [(path, _unknown_key(path[:-1], str(path[-1]), (), tree))]
    if keyword == "required":
        missing = _missing_key(path, error.kind.property, value, tree)
        return [] if missing is None else [(path, missing)]
    if keyword == "enum":
        return [(path, _wrong_word(path, value, tuple(map(str, error.kind.options)), tree))]
    if keyword == "propertyNames":
        return [_wrong_key_name(path, str(error.kind.error.instance), rule, tree)]
    return [(path, _wrong_value(path, value, keyword, rule, tree))]


def at(tree: Any, path: Iterable[str | int]) -> Any:
    """What stands at a place of a tree."""
    for part in path:
        tree = tree[part]
    return tree


def fault(path: Path, tree: Any, message: str, *, value: Any = ..., **more: Any) -> Fault:
    """A fault at a place; with a `value` the message says what was got."""
    if value is not ...:
        more["got"] = describe(value)
        message = f"{message}; got {more['got']}"
    return Fault(message=message, path=path_text(path, tree), **more)


def _unknown_key(path: Path, key: str, known: tuple[str, ...], tree: Any) -> Fault:
    place = (*path, key)
    if key in _later_keys(path):
        return fault(place, tree, f"`{key}` is not supported by this version", code="unsupported")
    advice = _belongs_elsewhere(path, key)
    if advice is not None:
        return fault(place, tree, f"unknown key {key[:80]!r}", code="unknown_key", advice=advice)
    absent = [name for name in known if name not in at(tree, path)]
    close = _words_for(path).get(key.lower()) or nearest(key, absent)
    shown = tuple(name for name in known if name not in ("max_retries", "retry_count"))
    if close is not None and len(shown) < 12:
        advice = f"allowed: {', '.join(shown)}"
    message = f"unknown key {key[:80]!r}"
    return fault(place, tree, message, code="unknown_key", allowed=shown, nearest=close, advice=advice)


def _is_step(path: Path) -> bool:
    return (len(path) == 2 and path[0] in STEP_LISTS) or _is_compensation(path)


def _is_compensation(path: Path) -> bool:
    return len(path) == 3 and path[2] == COMPENSATION


def _is_of_resources(path: Path, keyword: str) -> bool:
    """Whether a fault is of an amount of `resources`, or of the name of one."""
    holder = path if keyword == "propertyNames" else path[:-1]
    return holder[-1:] == ("resources",) and (holder[:-1] == ("defaults",) or _is_step(holder[:-1]))


def _later_keys(path: Path) -> frozenset[str]:
    if not path:
        return LATER_WORKFLOW_KEYS
    return LATER_STEP_KEYS if _is_step(path) else frozenset()


def _words_for(path: Path) -> Mapping[str, str]:
    """What the keys at this place are called elsewhere."""
    if not path:
        return WORKFLOW_WORDS
    if _is_step(path):
        return STEP_WORDS
    return PART_WORDS.get(str(path[-1]), {})


_STEP_ONLY = frozenset(
    [
        *("run", "call", "module", "action", "with", "needs", "dependencies", "run_if", "foreach"),
        *("approval", "wait_for", "sleep", "cache", "compensate", "on_item_failure"),
    ]
)
_DEFAULTS = frozenset({"retry", "isolation", "resources"})
_WORKFLOW_ONLY = frozenset(
    ["steps", "fail_fast", "outputs", "defaults", "labels", "version", "on_failure", "finally", "concurrency"]
)


def _belongs_elsewhere(path: Path, key: str) -> str | None:
    if not path and key in _DEFAULTS:
        return f"it is a key of steps; for all of them write `defaults: {{{key}: ...}}`"
    if path in ((), ("defaults",)) and key in _STEP_ONLY:
        return "it is a key of a step: put it into an item of `steps`"
    if not _is_step(path):
        return None
    if _is_compensation(path):
        return _not_in_compensation(key)
    if key == COMPENSATION:
        return f"a step of `{path[0]}` is the clean-up itself; only `steps` are compensated"
    if key in _WORKFLOW_ONLY:
        return "it is a key of the workflow: put it beside `steps`"
    if key in ("delay", "delay_s", "backoff", "jitter"):
        return f"it goes into retry: `retry: {{max_attempts: 3, {key}: ...}}`"
    return None


def _not_in_compensation(key: str) -> str | None:
    if key in WAITING_KINDS:
        return "a compensation calls an action: `run`, `call`, or `module` and `action`"
    if key in _STEP_ONLY or key in (
        "name",
        "required",
        "trigger_rule",
        "max_parallel",
        "effects",
        "priority",
    ):
        return "a compensation runs once for each result of its step, newest first: take the key out"
    return None


_MISSING_ADVICE: Mapping[str, str] = {
    "steps": "write at least one: `steps:` and below it `  - {name: hello, run: [echo, hello]}`",
    "max_attempts": "write how often to try in all: `max_attempts: 3`",
    "message": "write what is asked: `approval: {message: Deploy?}`",
    "signal": "write the name of the signal: `wait_for: {signal: ready}`",
    "key": "write what may not go on at once: `concurrency: {key: deploy}`",
}


def _missing_key(path: Path, key: str, value: Any, tree: Any) -> Fault | None:
    """None where the key stands there under another name: that name is a fault already."""
    words = _words_for(path)
    if isinstance(value, Mapping) and any(words.get(str(said).lower()) == key for said in value):
        return None
    advice = _MISSING_ADVICE.get(key)
    if key == "name":
        advice = (
            "every step has a name of its own: `name: build`" if path else "write `name: nightly` at the top"
        )
    noun = "a name" if key == "name" else f"`{key}`"
    return fault(path, tree, f"{noun} is missing", code="missing_key", advice=advice)


def _wrong_word(path: Path, value: Any, options: tuple[str, ...], tree: Any) -> Fault:
    key = str(path[-1])
    close = None
    message = f"{key} is a word"
    if isinstance(value, str):
        message = f"unknown {key.replace('_', ' ')}"
        close = VALUE_WORDS.get(key, {}).get(value.lower()) or nearest(value, options)
    advice = f"allowed: {', '.join(options)}" if close is not None else None
    return fault(
        path, tree, message, value=value, code="wrong_value", allowed=options, nearest=close, advice=advice
    )


def _wrong_key_name(path: Path, name: str, rule: Mapping[str, Any], tree: Any) -> Placed:
    place = (*path, name)
    message = rule["errorMessage"]
    close = clean_name(name, dots="env" not in path)
    return place, fault(place, tree, message, value=name, code="bad_name", nearest=close)


def clean_name(name: str, *, dots: bool = True) -> str | None:
    """The name with what is not allowed in it replaced, or None when nothing is left."""
    from unicodedata import combining, normalize

    plain = normalize("NFKD", name[:300])
    plain = "".join(character for character in plain if not combining(character))
    clean = re.sub(r"[^A-Za-z0-9_.-]+" if dots else r"[^A-Za-z0-9_]+", "_", plain).strip("_")[:127]
    if clean and not re.match(r"[A-Za-z_]", clean):
        clean = f"_{clean}"
    return clean or None


def _wrong_value(path: Path, value: Any, keyword: str, rule: Mapping[str, Any], tree: Any) -> Fault:
    message = rule.get("errorMessage", "this is not allowed here")
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    advice = _advice(key, path, value, keyword, rule)
    close = None
    text = str(value).strip()
    if key in ("needs", "dependencies") and isinstance(value, str) and re.search(r"[,\s]", text):
        names = [each for each in re.split(r"[,\s]+", text.strip("[]")) if each]
        advice = f"several are a list: {key}: [{', '.join(names)}]"
    elif key == "name" or (key in ("needs", "dependencies") and isinstance(value, str)):
        close = clean_name(text) if isinstance(value, (str, int, float)) else None
        advice = None
    if key == "steps" and keyword == "minItems":
        message = "a workflow has at least one step"
    code = "wrong_type" if keyword == "type" else "wrong_value"
    return fault(path, tree, message, value=value, code=code, nearest=close, advice=advice)


def _advice(key: str, path: Path, value: Any, keyword: str, rule: Mapping[str, Any]) -> str | None:
    wanted = rule.get("type", ())
    wanted = {wanted} if isinstance(wanted, str) else set(wanted)
    if len(path) == 2 and path[0] == "parameters" and "object" in wanted:
        return _advice_on_declaration(key, value)
    if isinstance(value, str):
        return advice_on_text(key, value, wanted)
    if isinstance(value, Mapping):
        return _advice_on_mapping(key, value, wanted)
    if value is None and path and isinstance(path[-1], int):
        return "the item is empty: fill it in or take its dash away"
    if wanted == {"boolean"} and value in (0, 1):
        return f"write {key}: {'true' if value else 'false'}"
    if key in _TEXT_KEYS and isinstance(value, (int, float)) and keyword == "type":
        return f'put it in quotes to make it text: "{str(value).lower()}"'
    if key == "timeout" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return "to have no limit, leave it out"
    if key == "codomyrmex" and isinstance(value, int) and value > 1:
        return "the file was made for a newer codomyrmex"
    return None


def _advice_on_declaration(name: str, value: Any) -> str:
    if isinstance(value, str):
        kind = VALUE_WORDS["type"].get(value.lower(), value.lower())
        if kind in PARAMETER_TYPES:
            return f"write `{name}: {{type: {kind}}}`"
    written = str(value).lower() if isinstance(value, bool) else str(value)
    return f"write `{name}: {{default: {written}}}`"


def advice_on_text(key: str, value: str, wanted: set[str]) -> str | None:
    """What to write instead of a text, under this key, where values of the wanted types stand."""
    if key == "workflow" and "${" in value:
        return "which workflow runs is fixed when the file is written; choose between two steps with `run_if`"
    if key == "workflow" and value.strip().endswith((".yaml", ".yml", ".json", ".toml")):
        return f"write `workflow: ./{value.strip().lstrip('/')}`"
    if "${" in value and "string" not in wanted:
        return f"references are filled in only in {_TAKES_REFERENCES}"
    text = value.strip()
    if wanted & {"number", "integer"}:
        if key in ("timeout_s", "delay_s", "max_delay_s", "ttl_s") and re.fullmatch(
            r"[\d.]+ ?(ms|s|m|h|d)", text
        ):
            return f"with a unit it is `{key.removesuffix('_s')}: {text.replace(' ', '')}`"
        if key == "cpu" and re.fullmatch(r"\d+m", text):
            return f"write it in CPUs: {int(text[:-1]) / 1000:g}"
        if _PLAIN_NUMBER.fullmatch(text) and "string" not in wanted:
            number = float(text.replace("_", ""))
            return f"write the number plainly, without quotes: {key}: {number:.15g}"
    if wanted == {"boolean"} and text.lower() in ("yes", "no", "on", "off", "y", "n", "true", "false"):
        return f"write {key}: {'true' if text.lower() in ('yes', 'on', 'y', 'true') else 'false'}"
    if key in ("timeout", "delay", "max_delay", "ttl", "sleep"):
        return _duration_advice(key, text)
    if key in ("memory", "disk", "network") and "string" in wanted:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT])[iI]?[bB]?", text)
        return f"write {key}: {match[1]}{match[2].upper()}iB" if match else _SIZES
    if "array" in wanted and "string" not in wanted and key != "steps":
        return f"write a list: {key}: [{text}]"
    return None


_SIZES = "units are B KiB MiB GiB TiB (powers of 1024) and KB MB GB TB (powers of 1000)"
_LONG_UNITS = {
    "millisecond": "ms", "msec": "ms", "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h",
    "hr": "h", "day": "d",
}  # fmt: skip


def _duration_advice(key: str, text: str) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+?)s?", text)
    unit = None
    if match is not None:
        unit = _LONG_UNITS.get(match[2].lower()) or (match[2].lower() if match[2].lower() in "smhd" else None)
    if match is not None and unit is not None:
        return f"write {key}: {match[1]}{unit}"
    return "units are ms, s, m, h and d, without spaces"


def _advice_on_mapping(key: str, value: Mapping[str, Any], wanted: set[str]) -> str | None:
    if key == "steps" and "array" in wanted:
        first = next(iter(value), "build")
        return f"give each item a dash and a name: `- name: {first}`"
    if key in STEP_LISTS and "array" in wanted:
        return "give each step a dash: `- name: ...`"
    if wanted & {"string", "number"} and len(value) == 1:
        inner = next(iter(value))
        if value[inner] is None:
            return f'if you meant text, put it in quotes: "{{{inner}}}"'
    return None
