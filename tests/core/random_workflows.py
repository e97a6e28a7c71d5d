"""Small workflows made at random, run on real engines and checked against the reference interpreter.

Steps call `scripted_steps.act`, found by module and name, so a run can go on in another engine. `steps` makes
workflows of actions alone, `workflows` those with everything: kinds, compensation, handlers, a time limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from hypothesis import strategies as st
from reference_interpreter import Interpreter
from reference_rules import approval, plain
from scripted_steps import scripted, total

from codomyrmex.logistics.orchestration.project.states import TriggerRule
from codomyrmex.testing import FinishedRun

Step = dict[str, Any]
Steps = list[Step]
NAMES = {"ValueError": {"ValueError"}, "KeyError": {"KeyError", "LookupError"}}
SCRIPTS = st.lists(st.sampled_from(["ok", "ok", "ok", "ValueError", "KeyError"]), min_size=1, max_size=3)
RULES = st.sampled_from(["all_success", "all_success", *(rule.value for rule in TriggerRule)])
SIGNALS = ("go", "stop")
ANSWER = 4
"""The data of every answer."""
CHILD = "child"
ENDS = {"completed", "failed", "cancelled", "retry_set", "returned"}


def signal_data(count: int) -> int:
    """The data of the n-th signal that a run is sent."""
    return 10 * count


def child_steps(script: list[str]) -> Steps:
    """The steps of the workflow `child`, which fails where the first of `script` does."""
    return [plain("inner", script=script), plain("rest", kind="sleep", parents=["inner"])]


def expected(
    step: Step, task: str, number: int, item: Any, output: Mapping[str, Any]
) -> tuple[set[str] | None, Any]:
    """What `scripted_steps.act` does, for the interpreter."""
    used = output.get(step["uses"])
    if used is None and step["uses"] is not None:
        used = step["otherwise"]
    if step["uses"] is not None and used is None and step["uses"] not in output:
        return set(), None  # its parameter cannot be resolved
    script, item = scripted(step["script"], item)
    said = script[min(number, len(script)) - 1]
    return (None, 1 + total(used) + total(item)) if said == "ok" else (NAMES[said], None)


# -- made at random ----------------------------------------------------------------------------------------


@st.composite
def steps(draw: st.DrawFn, *, at_most: int = 7, broken: bool = True) -> Steps:
    """The steps of a workflow, all of them actions; with `broken`, conditions and fan-outs may be faulty."""
    names = [f"s{number}" for number in range(draw(st.integers(1, at_most)))]
    return [draw(_step(name, names[:number], broken)) for number, name in enumerate(names)]


@st.composite
def workflows(draw: st.DrawFn, *, at_most: int = 6) -> dict[str, Any]:
    """A workflow with everything: its lists of steps and its options.

    Where the first failure stops the rest, none comes from working a step out: then it would depend on the
    order in which steps are judged, and nothing says which that is.
    """
    fail_fast = draw(st.sampled_from([False, False, False, True]))
    main: Steps = []
    for number in range(draw(st.integers(1, at_most))):
        main.append(draw(_any_step(f"s{number}", main, main, broken=not fail_fast)))
    found: dict[str, Any] = {"steps": main, "on_failure": [], "finally": []}
    for phase, letter in (("on_failure", "h"), ("finally", "f")):
        for number in range(draw(st.sampled_from([0, 0, 1, 2]))):
            step = draw(_any_step(f"{letter}{number}", found[phase], main))
            found[phase].append({**step, "compensate": None})
    found["fail_fast"] = fail_fast
    found["timeout_s"] = draw(st.sampled_from([None, None, None, 0.7, 3.0]))
    found["result"] = draw(st.sampled_from([None, None, main[-1]["name"]]))
    return found


@st.composite
def _any_step(draw: st.DrawFn, name: str, before: Steps, main: Steps, *, broken: bool = True) -> Step:
    """A step that depends on those before it in its list and may read those of main."""
    step = draw(_step(name, [each["name"] for each in before], broken))
    readable = [each["name"] for each in main if each["name"] != name]
    if readable and before is not main:
        step["uses"] = draw(st.sampled_from([None, *readable]))
    step["otherwise"] = draw(st.sampled_from([None, None, 7]))
    step["kind"] = draw(st.sampled_from([None, None, None, "approval", "wait_for", "sleep", "workflow"]))
    if step["kind"] == "wait_for":
        step["signal"] = draw(st.sampled_from(SIGNALS))
    if step["kind"] in ("approval", "wait_for"):
        step["timed"] = draw(st.booleans())
        step["default"] = draw(st.sampled_from([None, (True,), (False,)])) if step["timed"] else None
    if step["kind"] == "workflow":
        step["script"] = step["script"][:1]
    elif step["kind"] is not None:
        step["max_attempts"] = 1
    if step["kind"] is not None:
        step["parents"] = _without(step, step["uses"])
        step["uses"] = None
    step["on_item_failure"] = draw(st.sampled_from(["fail", "fail", "stop", "continue"]))
    if draw(st.sampled_from([False, False, True])):
        step["compensate"] = {"script": draw(SCRIPTS), "max_attempts": draw(st.integers(1, 3))}
    fan_outs = [each["name"] for each in before if each["over"] is not None]
    if fan_outs and step["condition"][0] == "always" and draw(st.booleans()):
        step["condition"] = ("errors", draw(st.sampled_from(fan_outs)), draw(st.integers(0, 2)))
        step["parents"] = sorted({*step["parents"], step["condition"][1]})
    return step


def _without(step: Step, parent: str | None) -> list[str]:
    """Its parents but this one, unless something else of it needs that."""
    other = {step["condition"][1], step["over"][1] if step["over"] and step["over"][0] == "output" else None}
    return [each for each in step["parents"] if each != parent or each in other]


@st.composite
def _step(draw: st.DrawFn, name: str, before: list[str], broken: bool) -> Step:
    earlier = st.sampled_from(before) if before else st.none()
    parents = set(draw(st.lists(earlier, max_size=3))) - {None}
    uses = draw(st.one_of(st.none(), earlier))
    condition = draw(_conditions(earlier) if before else st.just(("always", None, None)))
    over = draw(_fan_outs(earlier, broken))
    parents |= {uses, condition[1], over[1] if over is not None and over[0] == "output" else None} - {None}
    return plain(
        name,
        parents=sorted(parents),
        uses=uses,
        condition=condition,
        over=over,
        rule=draw(RULES),
        required=draw(st.sampled_from([True, True, False])),
        priority=draw(st.sampled_from(["low", "normal", "high"])),
        script=draw(SCRIPTS),
        max_attempts=draw(st.integers(1, 3)),
        delay_s=draw(st.sampled_from([0, 0, 0.5])),
        on=draw(st.sampled_from([[], [], ["ValueError"], ["LookupError"]])),
        never=draw(st.sampled_from([[], [], [], ["KeyError"]])),
        max_parallel=draw(st.sampled_from([None, None, 1])),
    )


def _conditions(earlier: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = [
        st.just(("always", None, None)),
        st.just(("always", None, None)),
        st.tuples(st.just("status"), earlier, st.sampled_from(["completed", "failed", "skipped"])),
        st.tuples(st.just("output"), earlier, st.integers(1, 3)),
    ]
    return st.one_of(*kinds)


def _fan_outs(earlier: st.SearchStrategy[Any], broken: bool) -> st.SearchStrategy[Any]:
    items = st.lists(st.fixed_dictionaries({"value": st.integers(0, 3), "script": SCRIPTS}), max_size=3)
    kinds = [st.none(), st.none(), st.tuples(st.just("items"), items)]
    if broken:  # a condition that cannot be worked out, and a reference to what may be no list, or nothing
        kinds += [st.just(("condition", None)), earlier.map(lambda name: ("output", name) if name else None)]
    return st.one_of(*kinds)


# -- as a document -----------------------------------------------------------------------------------------


def document(chosen: Iterable[Step], **more: Any) -> dict[str, Any]:
    """The workflow as a document."""
    parameters = {"number": {"type": "integer", "default": 5}}
    head = {"codomyrmex": 1, "name": "random", "isolation": "thread", "parameters": parameters}
    return {**head, "steps": [entry(step) for step in chosen], **more}


def whole_document(made: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What `workflows` has made, as a document."""
    for phase in ("on_failure", "finally"):
        if made[phase]:
            more[phase] = [entry(step) for step in made[phase]]
    if made["fail_fast"]:
        more["fail_fast"] = True
    if made["timeout_s"] is not None:
        more["timeout_s"] = made["timeout_s"]
    if made["result"] is not None:
        more["outputs"] = {"result": f"${{steps.{made['result']}.output}}"}
    return document(made["steps"], **more)


def child_document() -> dict[str, Any]:
    """The workflow `child`, which the steps of kind `workflow` run."""
    inner = {**entry(plain("inner")), "parameters": {"script": "${parameters.script}"}}
    rest = {"name": "rest", "sleep": 0.25, "dependencies": ["inner"]}
    return {
        "codomyrmex": 1,
        "name": CHILD,
        "defaults": {"isolation": "thread"},
        "parameters": {"script": {"type": "list"}},
        "steps": [inner, rest],
        "outputs": {"n": "${steps.inner.output}"},
    }


def entry(step: Step) -> dict[str, Any]:
    """A step of the document."""
    kind, parent, wanted = step["condition"]
    found: dict[str, Any] = {
        "name": step["name"],
        "dependencies": list(step["parents"]),
        "trigger_rule": step["rule"],
        "required": step["required"],
    }
    found |= _kind(step) if step["kind"] is not None else _action(step)
    if kind == "errors":
        found["run_if"] = f"len(steps.{parent}.errors) == {wanted}"
    elif kind != "always":
        found["run_if"] = f"steps.{parent}.{kind} == {wanted!r}"
    if step["over"] == ("condition", None):
        found["run_if"] = f"({found.get('run_if', 'true')}) and len(parameters.number) > 0"
    elif step["over"] is not None:
        kind, over = step["over"]
        found["foreach"] = f"${{steps.{over}.output}}" if kind == "output" else over
        if step["on_item_failure"] != "fail":
            found["on_item_failure"] = step["on_item_failure"]
        if step["max_parallel"] is not None:
            found["max_parallel"] = step["max_parallel"]
    if step["compensate"] is not None:
        script = {"script": step["compensate"]["script"], "used": "${output}"}
        retry = {"max_attempts": step["compensate"]["max_attempts"], "delay_s": 0}
        found["compensate"] = {
            "module": "scripted_steps",
            "action": "act",
            "parameters": script,
            "retry": retry,
        }
    return found


def _action(step: Step) -> dict[str, Any]:
    parameters: dict[str, Any] = {"script": list(step["script"])}
    if step["uses"] is not None:
        default = f" ?? {step['otherwise']}" if step["otherwise"] is not None else ""
        parameters["used"] = f"${{steps.{step['uses']}.output{default}}}"
    if step["over"] is not None and step["over"][0] != "condition":
        parameters["item"] = "${item}"
    return {
        "module": "scripted_steps",
        "action": "act",
        "priority": step.get("priority", "normal"),
        "parameters": parameters,
        "retry": _retry(step),
    }


def _kind(step: Step) -> dict[str, Any]:
    limits = {"timeout_s": 0.5} if step["timed"] else {}
    if step["default"] is not None:
        limits["default"] = step["default"][0]
    if step["kind"] == "approval":
        return {"approval": {"message": "Go on?", "form": {"type": "integer"}, **limits}}
    if step["kind"] == "wait_for":
        return {"wait_for": {"signal": step["signal"], **limits}}
    if step["kind"] == "sleep":
        return {"sleep": 0.25}
    return {"workflow": CHILD, "parameters": {"script": list(step["script"])}, "retry": _retry(step)}


def _retry(step: Step) -> dict[str, Any]:
    return {
        "max_attempts": step["max_attempts"],
        "delay_s": step.get("delay_s", 0),
        "on": list(step["on"]),
        "never": list(step["never"]),
    }


# -- checked -----------------------------------------------------------------------------------------------


def check(run: FinishedRun, chosen: Steps, *, fail_fast: bool = False, result: str | None = None) -> None:
    """Compares a run of steps that are all actions with what the interpreter makes of it."""
    made = {"steps": chosen, "on_failure": [], "finally": [], "fail_fast": fail_fast, "result": result}
    check_whole(run, made)


def check_whole(
    run: FinishedRun, made: Mapping[str, Any], children: Mapping[str, FinishedRun] | None = None
) -> None:
    """Compares a run with what the interpreter makes of it; `children` are its child runs by id."""
    ended = {name: task.ended_at for name, task in run.tasks.items()}
    oracle = Interpreter(made, expected, ended)
    for commit in moves(run, {each["name"]: each for each in all_steps(made)}, children or {}):
        oracle.commit(commit)
    assert run.statuses() == {name: oracle.state[name] for name in run.tasks}
    assert len(run.tasks) == len(oracle.state)
    assert (oracle.phase, run.status.value) == ("ended", oracle.outcome)
    names = [step["name"] for step in all_steps(made) if step["name"] in oracle.output]
    results = {name: _told(value) for name, value in run.results.items() if ".compensate" not in name}
    assert results == {name: oracle.output[name] for name in names}
    if made["result"] is not None and oracle.outcome == "completed":
        assert _told((run.outputs or {})[made.get("output", "result")]) == oracle.output[made["result"]]


def moves(
    run: FinishedRun, known: Mapping[str, Step], children: Mapping[str, FinishedRun]
) -> Iterable[list[tuple[Any, ...]]]:
    """The journal as the interpreter wants it: one list per commit."""
    reader = _Journal(known, children)
    for _sequence, events in groupby(run.events, key=lambda event: event["sequence"]):
        yield [
            move for event in events for move in reader.moves(event["event"], event["task"], event["details"])
        ]


class _Journal:
    """Which of the journal's lines tell something that does not follow from the others."""

    def __init__(self, known: Mapping[str, Step], children: Mapping[str, FinishedRun]) -> None:
        self._known = known
        self._runs = children
        self._child_of: dict[str, str] = {}
        self._fan_outs: set[str] = set()
        self._answered: set[str] = set()
        self._sent: list[str] = []

    def moves(self, event: str, task: str | None, details: list[Any]) -> Iterable[tuple[Any, ...]]:
        if task is None:
            return self._of_run(event, details)
        step = self._known.get(task) or self._known.get(task.partition("[")[0]) or plain(task)
        if event == "expanded":
            self._fan_outs.add(task)
        if task in self._fan_outs or (task in self._known and step["over"] is not None):
            return ()
        kind = step["kind"]
        if kind is not None:
            return self._of_kind(step, event, task, details)
        if not details or not isinstance(details[0], int):
            return ()
        if event == "returned" and details[1] in ("lost", "recalled"):
            return [("given_back", task)]
        if event in ("completed", "failed", "retry_set", "returned"):
            return [("finished", task, details[0])]
        if event == "cancelled":
            return [("heeded", task)]
        return [("began", task)] if event == "started" else ()

    def _of_run(self, event: str, details: list[Any]) -> Iterable[tuple[Any, ...]]:
        if event == "intent":
            return [("asked", "none" if details[0] == "resume" else details[0])]
        if event == "signalled":
            self._sent.append(details[0])
            return [("signalled", details[0], signal_data(len(self._sent)))]
        return {"run_paused": [("paused",)], "run_timed_out": [("timed_out",)]}.get(event, ())

    def _of_kind(self, step: Step, event: str, task: str, details: list[Any]) -> Iterable[tuple[Any, ...]]:
        if event == "waiting":
            return [("opened", task)]
        if event == "child_started":
            self._child_of[task] = details[0]
        elif event == "answered":
            self._answered.add(task)
            if details[0] == "default":
                return [("due", task)]
            return [("answered", task, details[1], ANSWER if details[1] else None)]
        elif event in ENDS and (task in self._child_of or (details and isinstance(details[0], int))):
            return self._end(step, event, task)
        return ()

    def _end(self, step: Step, event: str, task: str) -> Iterable[tuple[Any, ...]]:
        if step["kind"] == "workflow":
            child = self._runs[self._child_of.pop(task)]
            return [("child_ended", task, child.status.value, child.outputs or {})]
        told = task in self._answered or step["signal"] in self._sent
        return () if told or event == "cancelled" else [("due", task)]


def all_steps(made: Mapping[str, Any]) -> Steps:
    """The steps of all its lists."""
    return [*made["steps"], *made["on_failure"], *made["finally"]]


def _told(value: Any) -> Any:
    """A result without who answered an approval, and when."""
    if isinstance(value, list):
        return [_told(each) for each in value]
    if isinstance(value, dict) and {"approved", "by"} <= value.keys():
        return approval(value["approved"], value["data"])
    return value
