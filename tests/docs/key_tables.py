"""The tables of docs/reference/workflow-file.md, made from the schema that files are checked against.

`python tests/docs/key_tables.py` writes them into the page; a test holds the page to them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from codomyrmex.logistics.orchestration.project.workflow_schema import schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "workflow-file.md"
MARKED = re.compile(r"(<!-- keys: ([\w.]+) -->\n).*?(<!-- end keys -->)", re.DOTALL)
TYPES = {"object": "mapping", "array": "list", "string": "text", "boolean": "true or false"}


def tables() -> dict[str, dict[str, Any]]:
    """The mappings of the format by the names that the page marks them with."""
    whole = schema()
    step = whole["$defs"]["step"]["properties"]
    return {
        "workflow": whole["properties"],
        "step": step,
        "compensate": whole["$defs"]["compensation"]["properties"],
        "approval": step["approval"]["properties"],
        "wait_for": step["wait_for"]["properties"],
        "cache": step["cache"]["properties"],
        "concurrency": whole["properties"]["concurrency"]["properties"],
        "retry": whole["$defs"]["retry"]["properties"],
        "resources": step["resources"]["properties"],
        "defaults": whole["$defs"]["defaults"]["properties"],
        "declaration": whole["$defs"]["declaration"]["properties"],
    }


def written(page: str) -> str:
    """The page with every table as the schema has it."""
    found = tables()
    return MARKED.sub(lambda match: match[1] + "\n" + table(found[match[2]]) + "\n\n" + match[3], page)


def table(keys: dict[str, Any]) -> str:
    """One row for each key."""
    rows = [
        f"| `{key}` | {form(rule)} | {meaning(key, rule)} |" for key, rule in keys.items() if rule is not True
    ]
    return "\n".join(["| key | written as | meaning |", "| --- | --- | --- |", *rows])


def form(rule: dict[str, Any]) -> str:
    """What may stand there, in words."""
    rule = resolved(rule)
    if "enum" in rule:
        return ", ".join(f"`{choice}`" for choice in rule["enum"])
    if "const" in rule:
        return f"`{rule['const']}`"
    kinds = rule.get("type", [])
    names = [TYPES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return ", ".join(names) or "any value"


def meaning(key: str, rule: dict[str, Any]) -> str:
    text = rule.get("description") or resolved(rule).get("description") or OWN[key]
    return str(text).replace("|", "\\|")


def resolved(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule, or the one that it refers to."""
    target: Any = schema()
    if "$ref" not in rule:
        return rule
    for part in rule["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return resolved(target)


OWN = {
    "env": "Variables of the environment; references are filled in.",
    "defaults": "What holds for every step that does not say otherwise.",
    "compensate": "What undoes the step when the run fails or is cancelled.",
}
"""For keys whose rule has no description of its own."""

if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
