"""The canonical document of a workflow: what files become, what the store keeps, what the core compiles.

Layer: pure. A document is a plain dict in the long form. **A key that is missing has its default**, and a key
whose value is the default is left out, so equal workflows are equal documents and hash alike. It is JSON
throughout: template trees are *tagged* (`values.to_tagged`), so a Path given in Python stands as
{"$type": "path", "value": "..."}, in a file too.

Workflow
    codomyrmex    1, always there
    name          text `[A-Za-z_][A-Za-z0-9_.-]{0,127}`, always there
    steps         list of steps in the order of the file, always there, at least one
    on_failure    list of steps that run when the run fails          default []
    finally       list of steps that run at the end of every run     default []
                  Names are unique over the three lists; a handler has no `compensate`
    version       text                                              default none
    description   text                                              default ""
    labels        {text: text, may hold `${parameters.*}`}          default {}
    parameters    {name: declaration}                               default {}
    outputs       {name: template tree}                             default {}
    env           {NAME: text, may hold `${...}`}                   default {}
    working_dir   text, relative to the root, may hold `${...}`     default "." (the root)
    python        text, an interpreter                              default none
    max_parallel  int >= 1, tasks of the run at once                default none
    timeout_s     float > 0, of the whole run                       default none
    concurrency   {key: template text (always there), policy: skip cancel_old (default "queue")}   default none
    fail_fast     True                                              default False
    isolation     "thread" for a workflow made in Python: what steps run in that name none.
                  Not written to files                              default "process"
Declaration of a parameter
    type          string integer number boolean list object path date, always there
    default       a JSON value already read by the type (a path as written, a date as ISO text);
                  missing: a value must be given. None is allowed for every type
    description   text
    choices       list of allowed values, already read by the type
Step: module and action, or exactly one of the four kinds
    name          text as above, always there
    module        text: `pkg.mod`, `./file.py`, or built-in `shell http python files`
    action        text (a dotted qualified name for methods)
    workflow      text: the name of a workflow, or `./path.yaml` beside the file; a child run
    approval      {message: template text (always there), form: JSON Schema, who: [text],
                  timeout_s: float > 0, default: true, false, or data of the form}
    wait_for      {signal: template text (always there), timeout_s: float > 0, default: any JSON}
    sleep         seconds, float >= 0; or text with `${...}`, read as a duration when it is known
    parameters    {name: template tree}; of an action or a workflow                 default {}
    dependencies  [step name], no doubles; parents by reference are NOT added here   default []
    run_if        condition text                                    default none (always)
    foreach       template text `${...}`, a list of template trees, or a grid
                  {name: list of template trees, or template text}   default none
    on_item_failure  stop continue                                  default "fail"
    trigger_rule  all_done one_success one_failed none_failed       default "all_success"
    priority      low high critical                                 default "normal"
    resources     {"cpu": thousandths, "memory": bytes, "gpu": ten-thousandths, "disk": bytes,
                  "network": bytes per second, all int >= 0; NAME: ten-thousandths int > 0 of a
                  named resource}, each may be missing              default {}
    timeout_s     float > 0, of one attempt, or of a child run      default none
    retry         {max_attempts int >= 2 (always there), delay_s, backoff, max_delay_s, jitter, on, never,
                  memory}; missing inside: RETRY_DEFAULTS           default: one attempt
    required      False                                             default True
    isolation     process thread async                              default: the workflow's
    max_parallel  int >= 1, items of a foreach at once              default none
    env           {NAME: text}, over the workflow's                 default {}
    working_dir   text                                              default: the workflow's
    python        text                                              default: the workflow's
    effects       pure idempotent unsafe                            default: as the action declares
    cache         {inputs: [template text], outputs: [template text], key: template text,
                  also: [template tree], ttl_s: float > 0}, all may be missing; {} is a cache too   default none
    compensate    what undoes the step: {module, action (both always there), parameters, retry, timeout_s,
                  resources, isolation, env, working_dir, python, description}       default none
    description   text                                              default ""
    A kind has no slot, and so none of resources isolation env working_dir python effects cache;
    retry and timeout_s only with `workflow`

`run: TEXT` is module "shell", action "run", parameters {command: TEXT, shell: True}; `run: [..]` is
{command: [..]}. `defaults:` of a file have been merged into the steps, handlers and compensations that call
an action: a step's own key replaces the default as a whole. `memory` of a default `retry` goes to steps that
claim memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from codomyrmex.logistics.orchestration.project.amounts import read_duration_s
from codomyrmex.logistics.orchestration.project.step_resources import read_resources, write_resources
from codomyrmex.logistics.orchestration.project.workflow_kinds import (
    COMPENSATION,
    STEP_LISTS,
    kind_of,
    read_approval,
    read_cache,
    read_concurrency,
    read_sleep,
    read_wait_for,
)
from codomyrmex.logistics.orchestration.project.workflow_parameters import normalise_declaration

Document = dict[str, Any]

RETRY_DEFAULTS: Mapping[str, Any] = {
    "delay_s": 0.0, "backoff": 2.0, "max_delay_s": 3600.0, "jitter": False, "on": [], "never": [],
    "memory": 1.0,
}  # fmt: skip
BUILT_IN_MODULES = ("shell", "http", "python", "files")

# What a key means when it is missing; a value equal to it is left out.
_STEP_DEFAULTS: Mapping[str, Any] = {
    "parameters": {}, "dependencies": [], "trigger_rule": "all_success", "priority": "normal",
    "resources": {}, "required": True, "env": {}, "description": "", "retry": {}, "on_item_failure": "fail",
    "cache": None,
}  # fmt: skip
_WORKFLOW_DEFAULTS: Mapping[str, Any] = {
    "description": "", "labels": {}, "parameters": {}, "outputs": {}, "env": {}, "working_dir": ".",
    "fail_fast": False, "isolation": "process",
}  # fmt: skip


def normalise(tree: Mapping[str, Any]) -> Document:
    """The canonical document of a tree (long and short forms mixed) that has been found without fault.

    The document takes over values of the tree; equal policies and amounts of many steps become one object.
    """
    document: Document = {"codomyrmex": 1, "name": tree["name"]}
    for key, value in tree.items():
        if key in _NOT_KEPT or key.startswith("x-"):
            continue
        reader = _WORKFLOW_READERS.get(key)
        read = value if reader is None else reader(value)
        if read != _WORKFLOW_DEFAULTS.get(key, ...):
            document["timeout_s" if key == "timeout" else key] = read
    shared: dict[str, Any] = {}
    defaults = _read_step(tree.get("defaults", {}), shared)
    for name in STEP_LISTS:
        if tree.get(name):
            document[name] = [_normalise_step(step, defaults, shared) for step in tree[name]]
    return document


_NOT_KEPT = frozenset({"codomyrmex", "name", "defaults", *STEP_LISTS})


def _normalise_step(
    raw: Mapping[str, Any], defaults: dict[str, Any], shared: dict[str, Any]
) -> dict[str, Any]:
    read = _read_step(raw, shared)
    kind = kind_of(read)
    step: dict[str, Any]
    if kind is None:
        if defaults:
            read = _with_defaults(defaults, read, shared)
        step = {key: read[key] for key in ("name", "module", "action") if key in read}
    else:
        step = {"name": read["name"], kind: read[kind]}
    for key, value in read.items():
        if key not in _STEP_DEFAULTS or value != _STEP_DEFAULTS[key]:
            step[key] = value
    if COMPENSATION in step:
        step[COMPENSATION] = _normalise_step(step[COMPENSATION], defaults, shared)
    return step


def _with_defaults(defaults: dict[str, Any], read: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """What a step says over what holds for all; memory is raised where there is memory to raise."""
    merged = defaults | read
    inherits = "retry" not in read and "memory" in defaults.get("retry", ())
    if inherits and not merged.get("resources", {}).get("memory"):
        rest = {key: value for key, value in defaults["retry"].items() if key != "memory"}
        merged["retry"] = shared.setdefault("retry without memory", rest)
    return merged


def _read_step(raw: Mapping[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Long keys and canonical values.

    Values equal to a default still stand, so that they beat `defaults:`.
    """
    step: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _SHARED_READERS:
            long, read = _SHARED_READERS[key]
            text = f"{long}{value!r}"
            found = shared.get(text)
            if found is None:
                found = shared[text] = read(value)
            step[long] = found
        elif key in _STEP_READERS:
            _STEP_READERS[key](step, value)
        elif key in ("module", "action"):
            step[key] = shared.setdefault(value, value)
        elif key != "retry_count" and not key.startswith("x-"):
            step[key] = value
    return step


def _read_run(step: dict[str, Any], value: Any) -> None:
    step["module"], step["action"] = "shell", "run"
    command = (
        {"command": value, "shell": True} if isinstance(value, str) else {"command": [*map(argument, value)]}
    )
    step["parameters"] = command | step.get("parameters", {})


def argument(value: Any) -> str:
    """An item of a command list as text: `5` and `true` need no quotes in a file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def split_call(value: str) -> tuple[str, str] | None:
    """Module and action of `mod:function`, or of `shell.run` and the other built-ins.

    None when it is neither.
    """
    module, colon, action = value.rpartition(":")
    if not colon:
        module, dot, action = value.partition(".")
        if not dot or module not in BUILT_IN_MODULES:
            return None
    return (module, action) if module and action else None


def _read_call(step: dict[str, Any], value: str) -> None:
    found = split_call(value)
    assert found is not None, value
    step["module"], step["action"] = found


def _read_parameters(step: dict[str, Any], value: dict[str, Any]) -> None:
    step["parameters"] = step["parameters"] | value if "parameters" in step else value


def _read_dependencies(step: dict[str, Any], value: Any) -> None:
    if isinstance(value, str):
        step["dependencies"] = [value]
    else:
        step["dependencies"] = value if len(value) < 2 else list(dict.fromkeys(value))


def _read_by(key: str, reader: Callable[[Any], Any]) -> Callable[[dict[str, Any], Any], None]:
    """What writes one key, each time anew: values inside are tagged in place."""

    def read(step: dict[str, Any], value: Any) -> None:
        step[key] = reader(value)

    return read


def _read_retry(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {"max_attempts": int(value) + 1} if value else {}
    tries = int(value["max_attempts"])
    policy: dict[str, Any] = {"max_attempts": tries}
    for key, default in RETRY_DEFAULTS.items():
        given = value.get(key, value.get(key.removesuffix("_s")))
        if given is None:
            continue
        if key.endswith("_s"):
            given = read_duration_s(given)
        elif key in ("backoff", "memory"):
            given = float(given)
        elif isinstance(default, list):
            given = [given] if isinstance(given, str) else list(given)
        if given != default:
            policy[key] = given
    return policy if tries > 1 else {}


def _read_env(value: Mapping[str, Any]) -> dict[str, str]:
    return {name: argument(text) for name, text in value.items()}


_STEP_READERS: Mapping[str, Callable[[dict[str, Any], Any], None]] = {
    "run": _read_run,
    "call": _read_call,
    "with": _read_parameters,
    "parameters": _read_parameters,
    "needs": _read_dependencies,
    "dependencies": _read_dependencies,
    "approval": _read_by("approval", read_approval),
    "wait_for": _read_by("wait_for", read_wait_for),
    "sleep": _read_by("sleep", read_sleep),
    "cache": _read_by("cache", read_cache),
}

# Read once for each text of them: thousands of steps have the same few.
_SHARED_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "timeout": ("timeout_s", read_duration_s),
    "timeout_s": ("timeout_s", read_duration_s),
    "retry": ("retry", _read_retry),
    "max_retries": ("retry", _read_retry),
    "resources": ("resources", read_resources),
    "env": ("env", _read_env),
    "max_parallel": ("max_parallel", int),
}

_WORKFLOW_READERS: Mapping[str, Callable[[Any], Any]] = {
    "version": argument,
    "labels": _read_env,
    "env": _read_env,
    "max_parallel": int,
    "timeout": read_duration_s,
    "timeout_s": read_duration_s,
    "concurrency": read_concurrency,
    "parameters": lambda value: {name: normalise_declaration(each) for name, each in value.items()},
}


def pruned(tree: Any) -> Any:
    """The tree without keys that have no value (`needs:` and nothing behind it): they mean the default."""
    if not isinstance(tree, dict):
        return tree
    for name in STEP_LISTS:
        steps = tree.get(name)
        if isinstance(steps, list):
            tree[name] = [_pruned_step(step) if type(step) is dict else step for step in steps]
    return {key: value for key, value in tree.items() if value is not None}


def _pruned_step(step: dict[str, Any]) -> dict[str, Any]:
    inner = step.get(COMPENSATION)
    if type(inner) is dict and None in inner.values():
        step[COMPENSATION] = _pruned_step(inner)
    if None not in step.values():
        return step
    return {key: value for key, value in step.items() if value is not None}


def modernise_document(document: Document) -> None:
    """Turn the `{{step.output}}` of files from before format 1 into `${steps.step.output}`, in place."""
    from codomyrmex.logistics.orchestration.project.references import modernise

    def modern(value: Any) -> Any:
        if isinstance(value, str):
            return modernise(value) if "{{" in value else value
        if isinstance(value, dict):
            return {key: modern(each) for key, each in value.items()}
        return [modern(each) for each in value] if isinstance(value, list) else value

    for holder in (document, *(step for _, step in steps_of(document))):
        for key in ("parameters", "outputs", "foreach", "run_if", "env"):
            if key in holder and not (holder is document and key == "parameters"):
                holder[key] = modern(holder[key])


def steps_of(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every step of the three lists, each with its place."""
    for name in STEP_LISTS:
        for number, step in enumerate(document.get(name, ())):
            yield (name, number), step


VALUES_INSIDE = ((COMPENSATION, "parameters"), ("cache", "also"), ("wait_for", "default"))
"""The keys of parts of a step that hold values of the user, which are tagged."""


class TaggedParameters(dict[str, Any]):
    """Values read from a document: a tree with tags in it, which is not to be tagged once more."""


class TaggedList(list[Any]):
    """The same for a list of them."""


def as_tagged(tree: Any) -> Any:
    """A tree of a document, marked so that its tags are kept; one without tags as it is."""
    if not has_tags(tree):
        return tree
    return TaggedParameters(tree) if isinstance(tree, dict) else TaggedList(tree)


def step_as_tagged(step: Mapping[str, Any]) -> dict[str, Any]:
    """The step of a document with its values marked, whose tags are not to be tagged once more."""
    marked = {
        key: as_tagged(each) if key in ("parameters", "foreach") else each for key, each in step.items()
    }
    for part, key in VALUES_INSIDE:
        if key in step.get(part, ()):
            marked[part] = {**step[part], key: as_tagged(step[part][key])}
    return marked


def has_tags(tree: Any) -> bool:
    """Whether a tagged value stands anywhere in a tree."""
    if isinstance(tree, dict):
        return "$type" in tree or any(map(has_tags, tree.values()))
    return isinstance(tree, list) and any(map(has_tags, tree))


def file_form(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as a person writes it, with `run:` for commands; loading it gives the document back."""
    tree = long_form(document)
    for name in STEP_LISTS:
        if name in tree:
            tree[name] = [_with_run(step) for step in tree[name]]
    return tree


def long_form(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with amounts as people write them: `256MiB`, and CPUs rather than thousandths."""
    tree = {key: value for key, value in document.items() if key != "isolation"}
    for name in STEP_LISTS:
        if name in tree:
            tree[name] = [_with_written_amounts(step) for step in tree.pop(name)]
    return tree


def _with_written_amounts(step: Mapping[str, Any]) -> dict[str, Any]:
    form = dict(step)
    if "resources" in form:
        form["resources"] = write_resources(step["resources"])
    if COMPENSATION in form:
        form[COMPENSATION] = _with_written_amounts(form[COMPENSATION])
    return form


def _with_run(step: dict[str, Any]) -> dict[str, Any]:
    if COMPENSATION in step:
        step = {**step, COMPENSATION: _with_run(step[COMPENSATION])}
    parameters = step.get("parameters", {})
    command = parameters.get("command")
    is_text = isinstance(command, str) and parameters.get("shell") is True
    is_list = isinstance(command, list) and "shell" not in parameters
    if (step.get("module"), step.get("action")) != ("shell", "run") or not (is_text or is_list):
        return step
    rest = {key: value for key, value in parameters.items() if key not in ("command", "shell")}
    own = {key: value for key, value in step.items() if key not in ("name", "module", "action", "parameters")}
    name = {"name": step["name"]} if "name" in step else {}
    return {**name, "run": command, **({"with": rest} if rest else {}), **own}
