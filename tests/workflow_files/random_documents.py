"""Random workflows made in Python that use every key of the format, for round trips through files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from codomyrmex.logistics.orchestration.project.workflow import Workflow, WorkflowStep
from codomyrmex.logistics.orchestration.project.workflow_amount_check import machine_word

NAMES = st.from_regex(r"[a-z_][a-zA-Z0-9_.-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PLAIN = TEXTS.map(lambda text: text.replace("${", "$"))
REFERENCES = st.sampled_from(["${parameters.p}", "x ${env.HOME}", "${steps['a'].output.b[0] ?? 1}"])
TEMPLATES = PLAIN | REFERENCES
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = TEXTS.filter(lambda key: not key.startswith("$"))


def trees(*leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.one_of(SCALARS, TEMPLATES, *leaves),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=4,
    )


VALUES = trees(
    st.dates(min_value=date(1900, 1, 1)),
    st.just(Path("data/in.csv")),
    st.binary(max_size=5),
    st.just((1, "two")),
)
SECONDS = st.floats(0.001, 86400.0) | st.integers(1, 10**6)
DURATIONS = SECONDS | st.sampled_from(["90s", "10m", "1h30m", "500ms", "2d"])
COUNTS = st.integers(1, 1000)


def mappings(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


ENV = st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True), TEMPLATES, max_size=2)
RETRY = st.integers(0, 5) | mappings(
    {"max_attempts": st.integers(1, 9)},
    {
        "delay": DURATIONS,
        "max_delay_s": SECONDS,
        "backoff": st.floats(1, 10),
        "jitter": st.booleans(),
        "on": st.lists(st.sampled_from(["timeout", "ConnectionError"]), unique=True, max_size=2),
        "never": st.just("ValueError"),
        "memory": st.floats(1, 10, exclude_min=True),
    },
)
SIZES = st.sampled_from(["1GiB", "1.5GB", "0.5KiB", 1000]) | st.integers(0, 2**60)
UNITS = st.integers(1, 10**9) | st.integers(1, 10**12).map(lambda units: units / 10_000)
RESOURCES = st.builds(
    lambda machine, named: machine | named,
    mappings(
        {},
        {
            "cpu": st.sampled_from([0, 0.5, 2, 1.25]) | st.integers(0, 10**8).map(lambda milli: milli / 1000),
            "memory": SIZES,
            "gpu": st.integers(0, 16) | st.integers(1, 9999).map(lambda parts: parts / 10_000),
            "disk": SIZES,
            "network": SIZES | st.just("10MB/s"),
        },
    ),
    st.dictionaries(
        NAMES.filter(lambda name: machine_word(name) is None and name != "api_quota") | st.just("licence"),
        UNITS,
        max_size=2,
    )
    | st.just({"api_quota": 3}),
)
ATTEMPT: dict[str, Any] = {
    "timeout_s": DURATIONS,
    "retry": RETRY,
    "resources": RESOURCES,
    "isolation": st.sampled_from(["process", "thread", "async"]),
    "env": ENV,
    "working_dir": TEMPLATES,
    "python": st.just("python3"),
}
UNTIL: dict[str, Any] = {"timeout": DURATIONS}
FORM = {"type": "object", "properties": {"why": {"type": "string"}}, "required": ["why"]}
FILES = (".yaml", ".yml", ".json", ".toml")
CHILDREN = st.builds(
    lambda name, given: {"workflow": name, "parameters": given},
    NAMES.filter(lambda name: not name.endswith(FILES)),
    st.dictionaries(KEYS, VALUES, max_size=2),
)
APPROVALS = st.one_of(
    TEMPLATES,
    mappings(
        {"message": TEMPLATES, "timeout": DURATIONS},
        {"who": NAMES | st.lists(NAMES, min_size=1, max_size=2), "default": st.booleans()},
    ),
    st.just({"message": "why?", "form": FORM, "timeout_s": 3.5, "default": {"why": "late"}}),
)
SIGNALS = TEMPLATES | mappings({"signal": TEMPLATES, "timeout": DURATIONS}, {"default": VALUES})
WAITING = st.one_of(
    CHILDREN,
    st.just({"workflow": "./flows/child.yaml", "timeout_s": 5, "retry": 2}),
    st.fixed_dictionaries({"approval": APPROVALS}),
    st.fixed_dictionaries({"wait_for": SIGNALS}),
    st.fixed_dictionaries({"sleep": st.just(0) | DURATIONS | REFERENCES}),
)
CACHE = st.booleans() | mappings(
    {},
    {
        "inputs": TEMPLATES | st.lists(TEMPLATES, max_size=2),
        "outputs": st.lists(TEMPLATES, max_size=2),
        "key": TEMPLATES,
        "also": TEMPLATES | st.lists(VALUES, max_size=2),
        "ttl": DURATIONS,
    },
)
COMMANDS = st.fixed_dictionaries(
    {"command": st.lists(PLAIN, min_size=1, max_size=3) | st.just("ls -l\nmake\n")}
)


@st.composite
def actions(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.integers(0, 3)) == 0:
        command = draw(COMMANDS)
        shell = {"shell": True} if isinstance(command["command"], str) else {}
        return {"module": "shell", "action": "run", "parameters": command | shell}
    return {
        "module": "pkg.mod",
        "action": "Class.method",
        "parameters": draw(st.dictionaries(KEYS, VALUES, max_size=2)),
    }


@st.composite
def compensations(draw: st.DrawFn) -> dict[str, Any]:
    return draw(actions()) | draw(mappings({}, {**ATTEMPT, "timeout_s": SECONDS, "description": TEXTS}))


FAN_OUT = mappings(
    {
        "foreach": REFERENCES
        | st.lists(VALUES, max_size=3)
        | st.dictionaries(KEYS, st.lists(VALUES, max_size=2) | REFERENCES, min_size=1, max_size=2)
    },
    {"on_item_failure": st.sampled_from(["fail", "stop", "continue"]), "max_parallel": COUNTS},
)


@st.composite
def steps(draw: st.DrawFn, name: str, *, compensated: bool) -> WorkflowStep:
    waits = draw(st.integers(0, 2)) == 0
    step = draw(WAITING) if waits else draw(actions()) | draw(mappings({}, ATTEMPT))
    if not waits:
        step |= draw(
            mappings({}, {"cache": CACHE, "effects": st.sampled_from(["pure", "idempotent", "unsafe"])})
        )
    if draw(st.booleans()):
        step |= draw(FAN_OUT)
    shared: dict[str, Any] = {
        "dependencies": st.just(["a"]),
        "run_if": st.just("parameters.p > 1"),
        "trigger_rule": st.sampled_from(["all_success", "all_done", "one_failed"]),
        "priority": st.sampled_from(["normal", "high"]),
        "required": st.booleans(),
        "description": TEXTS,
    }
    if compensated:
        shared["compensate"] = compensations() | compensations().map(
            lambda undo: WorkflowStep("undo", **{key: each for key, each in undo.items() if key != "name"})
        )
    return WorkflowStep(name, **step, **draw(mappings({}, shared)))


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """A workflow without fault; names, expressions and parents are the compiler's and need not be right."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True).filter(_without_hidden_names))
    where = draw(
        st.lists(
            st.sampled_from(["steps", "on_failure", "finally_"]), min_size=len(names), max_size=len(names)
        )
    )
    where[0] = "steps"
    lists: dict[str, list[WorkflowStep]] = {"steps": [], "on_failure": [], "finally_": []}
    for name, key in zip(names, where, strict=True):
        lists[key].append(draw(steps(name, compensated=key == "steps")))
    options = draw(
        mappings(
            {},
            {
                "version": TEXTS,
                "description": TEXTS,
                "labels": st.dictionaries(
                    TEXTS.filter(lambda key: not key.startswith("x-")), TEMPLATES, max_size=2
                ),
                "parameters": st.just({"p": {"type": "integer", "default": 3}, "q": {"type": "path"}}),
                "outputs": st.dictionaries(KEYS, VALUES, max_size=2),
                "env": ENV,
                "working_dir": TEMPLATES,
                "python": st.just("python3"),
                "max_parallel": COUNTS,
                "timeout": DURATIONS,
                "concurrency": TEMPLATES
                | mappings({"key": TEMPLATES}, {"policy": st.sampled_from(["queue", "skip"])}),
                "fail_fast": st.booleans(),
            },
        )
    )
    return Workflow(draw(NAMES), **options, **lists)


def _without_hidden_names(names: list[str]) -> bool:
    return not any(f"{name}.compensate" in names for name in names)
