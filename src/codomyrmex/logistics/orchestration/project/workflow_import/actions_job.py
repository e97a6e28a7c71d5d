"""One job of GitHub Actions as steps: a chain of its commands, once for each combination of its matrix.

Layer: pure. The steps of a job run one after the other, each after the ends of what stands before it. Only
what runs a command becomes a step; everything else is reported. A command keeps the shell it had there:
`bash -e`, without `-u`, and without `pipefail` unless `shell: bash` was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from codomyrmex.logistics.orchestration.project.expressions import ExpressionError, compile_condition
from codomyrmex.logistics.orchestration.project.workflow_faults import Path, clean_name
from codomyrmex.logistics.orchestration.project.workflow_import.actions_gate import (
    Gate,
    earlier_failed,
    job_gate,
    read_condition,
    split_status,
)
from codomyrmex.logistics.orchestration.project.workflow_import.actions_matrix import (
    Combination,
    combinations,
)
from codomyrmex.logistics.orchestration.project.workflow_import.actions_syntax import text_of
from codomyrmex.logistics.orchestration.project.workflow_import.actions_text import (
    Context,
    JobEnd,
    NotCarried,
    Report,
    any_failed,
    status_of,
)
from codomyrmex.logistics.orchestration.project.workflow_import.import_report import StepNames

MAX_LABEL = 40
_FILES = re.compile(r"\bGITHUB_(?:ENV|OUTPUT|PATH|STATE|STEP_SUMMARY)\b")
_THEIRS = re.compile(r"\$\{?((?:GITHUB|RUNNER)_[A-Z_]+)\b")
_ASSIGNED = re.compile(r"\b([A-Za-z_]\w*)(?:=|<<)")
_ENV_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_JOB_KEYS = frozenset(
    ["name", "needs", "if", "env", "defaults", "strategy", "steps", "timeout-minutes", "continue-on-error",
     "runs-on", "uses", "with"]
)  # fmt: skip
_STEP_KEYS = frozenset(
    ["name", "id", "if", "run", "uses", "with", "env", "shell", "working-directory", "timeout-minutes",
     "continue-on-error"]
)  # fmt: skip
ADVICE: Mapping[str, str] = {
    "services": "start them yourself before the run, or in a step",
    "container": "the commands run on this machine; start the container in the command",
    "permissions": "a run has the rights of whoever starts it",
    "environment": "put an approval or a parameter in its place",
    "concurrency": "limit it where you start the runs",
    "outputs": "a step's output is what it prints: ${steps.NAME.output.stdout}",
    "secrets": 'a step names the secrets that it needs: `env: {X: "${secrets.X}"}`',
    "on": "a workflow here is started by `codomyrmex run`",
    "run-name": "",
}
_ACTION_ADVICE = (
    ("actions/checkout", "steps start in the project's root, where the files are"),
    ("actions/upload-artifact", "files stay where the steps wrote them"),
    ("actions/download-artifact", "files stay where the steps wrote them"),
    ("actions/cache", "files stay where the steps wrote them"),
    ("actions/setup-", "have it installed, or install it in a step"),
)
_SYSTEMS = (("ubuntu", "Linux"), ("linux", "Linux"), ("windows", "Windows"), ("macos", "macOS"))


@dataclass(slots=True, kw_only=True)
class Facts:
    """What all jobs of a file share."""

    report: Report
    names: StepNames
    env: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    workflow: str = ""


@dataclass(slots=True, kw_only=True)
class Job:
    """A job of the file, and the jobs it needs."""

    name: str
    path: Path
    said: Mapping[str, Any]
    needs: list[str]


def job_steps(job: Job, facts: Facts, results: Mapping[str, JobEnd]) -> tuple[list[dict[str, Any]], JobEnd]:
    """The steps of a job, and what later jobs need to know of it."""
    report = facts.report
    values = {"github.job": job.name, "github.workflow": facts.workflow}
    context = Context(report=report, path=job.path, job=job.name, values=values, results=results)
    gate = job_gate(job.said.get("if"), job.needs, results, context)
    through = JobEnd(kept=False, ends=gate.ends, gates=gate.conditions)
    for key in job.said:
        if key not in _JOB_KEYS:
            report.leave_out((*job.path, key), f"`{key}` of the job {job.name}", ADVICE.get(key, ""))
    if gate.never:
        report.leave_out((*job.path, "if"), f"the job {job.name}: its condition is never true")
        return [], JobEnd(kept=False, ends=gate.ends, gates=["false"])
    if "uses" in job.said:
        what = f"the job {job.name}: it calls the workflow {job.said['uses']}"
        report.leave_out((*job.path, "uses"), what, _UNKEPT)
        return [], through
    chains = []
    made = _combinations(job, report)
    for index, combination in enumerate(made):
        strategy = {"strategy.job-index": index, "strategy.job-total": len(made)}
        matrix = {} if combination is None else {"matrix": combination}
        chain = _Chain(
            job=job, facts=facts, gate=gate, label=_label(combination, index, made),
            context=Context(
                report=report, path=job.path, job=job.name, values={**values, **strategy, **matrix},
                results=results,
            ),
        )  # fmt: skip
        chain.build()
        if chain.steps:
            chains.append(chain)
    if not chains:
        report.leave_out(job.path, f"the job {job.name}: none of its steps runs a command", _UNKEPT)
        return [], through
    return [step for chain in chains for step in chain.steps], _job_end(gate, chains)


_UNKEPT = "what needs it waits for what it needed; write a step for it where it matters"


def _job_end(gate: Gate, chains: list[_Chain]) -> JobEnd:
    required = [name for chain in chains for name, must in chain.ends if must]
    started = [f"({each})" for each in gate.conditions]
    if gate.ends and gate.rule == "none_failed":
        started.append(f"{status_of(chains[0].all[0])} != 'cancelled'")
    return JobEnd(
        kept=True,
        ends=[name for chain in chains for name, _ in chain.ends],
        gates=gate.conditions,
        started=" and ".join(started) or None,
        failed=any_failed(required) if required else None,
    )


def _combinations(job: Job, report: Report) -> list[Combination | None]:
    """The combinations of the matrix; one None for a job without."""
    strategy = job.said.get("strategy")
    path = (*job.path, "strategy")
    if not isinstance(strategy, dict) or not strategy.get("matrix"):
        return [None]
    matrix = strategy["matrix"]
    try:
        if not isinstance(matrix, dict):
            raise ValueError("it is worked out at run time")
        found = combinations(matrix)
    except ValueError as error:
        report.leave_out((*path, "matrix"), f"the matrix of {job.name}: {error}", "its values are parameters")
        return [None]
    if len(found) > 1 and strategy.get("fail-fast") is not False:
        what = f"`fail-fast` of {job.name}: after a failure its other combinations go on"
        report.leave_out(path, what, "`fail_fast: true` beside `steps` stops the whole run")
    if "max-parallel" in strategy:
        what = f"`max-parallel: {strategy['max-parallel']}` of {job.name}"
        report.leave_out((*path, "max-parallel"), what, "`max_parallel` beside `steps` bounds the whole run")
    return list(found) or [None]


def _label(combination: Combination | None, index: int, made: list[Combination | None]) -> str:
    """The part of the names that tells a combination: its values where they are short, else its number."""
    if combination is None:
        return ""
    label = _value_label(combination)
    labels = [_value_label(each) for each in made if each is not None]
    return label if len(label) <= MAX_LABEL and labels.count(label) == 1 and label else str(index + 1)


def _value_label(combination: Combination) -> str:
    values = (text_of(each) for each in combination.values() if not isinstance(each, (dict, list)))
    return "-".join(
        value.strip("_") for each in values if (value := re.sub(r"[^\w.]+", "_", each, flags=re.A))
    )


@dataclass(slots=True, kw_only=True)
class _Chain:
    """The steps of one combination of a job, as they are made one after the other."""

    job: Job
    facts: Facts
    gate: Gate
    label: str
    context: Context
    steps: list[dict[str, Any]] = field(default_factory=list)
    all: list[str] = field(default_factory=list)
    ends: list[tuple[str, bool]] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    optional: bool = False
    system: str = "Linux"

    def build(self) -> None:
        said = self.job.said
        self.system = self._system()
        self.context.values = {**self.context.values, "runner.os": self.system}
        self.optional = self._truth(said, self.job.path, "continue-on-error")
        raw = said.get("steps")
        steps = [each for each in raw if isinstance(each, dict)] if isinstance(raw, list) else []
        written = {
            name for each in steps if _FILES.search(text_of(each.get("run")))
            for name in _ASSIGNED.findall(text_of(each.get("run")))
        }  # fmt: skip
        for index, step in enumerate(raw if isinstance(raw, list) else []):
            path = (*self.job.path, "steps", index)
            self.context.path = path
            self.context.outcomes = self.outcomes
            if not isinstance(step, dict):
                self.facts.report.leave_out(path, "a step that is no mapping")
                continue
            try:
                self._take(step, path, index, written)
            except NotCarried as error:
                what = f"the step {_shown(step, index)} of {self.job.name}: {error}"
                self.facts.report.leave_out(path, what, "write a step for it where it matters")

    def _system(self) -> str:
        runner = self.job.said.get("runs-on")
        labels = runner if isinstance(runner, list) else [runner]
        text = " ".join(self.context.plain(each) for each in labels if not isinstance(each, dict)).lower()
        system = next((name for part, name in _SYSTEMS if part in text), "Linux")
        if system != "Linux":
            what = f"`runs-on: {text}` of {self.job.name}"
            self.facts.report.leave_out((*self.job.path, "runs-on"), what, "the commands run on this machine")
        return system

    def _truth(self, said: Mapping[str, Any], path: Path, key: str) -> bool:
        """A flag whose value is known, also as an expression; others are reported and taken as false."""
        value = said.get(key, False)
        if isinstance(value, str):
            try:
                pieces = self.context.cut(value)
            except NotCarried:
                pieces = []
            if len(pieces) != 1 or isinstance(pieces[0], str) or not pieces[0].known:
                self.facts.report.leave_out((*path, key), f"`{key}: {value}`", "it is taken as false")
                return False
            value = pieces[0].value
        return bool(value)

    # -- one step

    def _take(self, said: Mapping[str, Any], path: Path, index: int, written: set[str]) -> None:
        report = self.facts.report
        for key in said:
            if key not in _STEP_KEYS:
                report.leave_out((*path, key), f"`{key}` of a step")
        if "run" not in said:
            action = text_of(said.get("uses"))
            advice = next((text for start, text in _ACTION_ADVICE if action.startswith(start)), None)
            what = (
                f"`uses: {action}` of {self.job.name}"
                if action
                else f"a step of {self.job.name} without `run`"
            )
            report.leave_out(path, what, advice or "write a step with its command in its place")
            return
        env = self._env(said, written)
        conditions, rule, needs = self._start(said, path)
        if "false" in conditions:
            report.leave_out(path, f"the step {_shown(said, index)} of {self.job.name}: it is never reached")
            return
        step = self._command(said, env)
        self._note_variables(said, path, index)
        name = self.facts.names.take(".".join(filter(None, (
            clean_name(self.job.name, dots=False), self.label, _step_label(said, index)))))  # fmt: skip
        required = not (self.optional or self._truth(said, path, "continue-on-error"))
        self.steps.append(
            {
                "name": name,
                **self._description(said, name),
                **step,
                **({"needs": needs} if needs else {}),
                **self._condition(conditions, path),
                **({"trigger_rule": rule} if needs and rule != "all_success" else {}),
                **({} if required else {"required": False}),
                **self._limits(said, path),
            }
        )
        self._passed(name, said, required, rule)

    def _note_variables(self, said: Mapping[str, Any], path: Path, index: int) -> None:
        """What a command expects of the environment that only GitHub Actions sets."""
        for name in dict.fromkeys(_THEIRS.findall(text_of(said["run"]))):
            if name in self.context.env:
                continue
            advice = f"set {name} in the environment where you run the workflow"
            if _FILES.fullmatch(name):
                advice = "there is no such file: print the value, or write it to a file that later steps read"
            what = f"{name} in {_shown(said, index)} of {self.job.name} is set by GitHub Actions"
            self.facts.report.leave_out((*path, "run"), what, advice)

    def _passed(self, name: str, said: Mapping[str, Any], required: bool, rule: str) -> None:
        plain = not said.get("if") or not re.search(
            r"\b(?:always|failure|cancelled)\s*\(", text_of(said["if"])
        )
        self.ends = [(name, True)] if required and plain else [*self.ends, (name, required)]
        self.all.append(name)
        if isinstance(said.get("id"), str):
            self.outcomes[said["id"]] = name

    def _start(self, said: Mapping[str, Any], path: Path) -> tuple[list[str], str, list[str]]:
        """The conditions of a step, its trigger rule, and the steps it waits for."""
        gate, conditions = self.gate, list(self.gate.conditions)
        required = [name for name, must in self.ends if must]
        waited = self.all if self.optional else required
        self.context.failed = earlier_failed(waited)
        mode, rest = split_status(read_condition(said.get("if"), self.context))
        if rest is not None:
            conditions.append(self.context.condition(rest) if not rest.known else _literal_truth(rest.value))
            conditions = [each for each in conditions if each != "true"]
        if not self.all:
            return [*conditions, *(["false"] if mode == "failure" else [])], gate.rule, gate.ends
        needs = [name for name, _ in self.ends]
        started = gate.ends and gate.rule == "none_failed" and mode != "success"
        if started:
            conditions.append(f"{status_of(self.all[0])} != 'cancelled'")
        if mode == "success":
            if not (gate.asks_statuses or self.optional):
                return conditions, "none_failed", needs
            return [*conditions, *([f"not ({earlier_failed(waited)})"] if waited else [])], "all_done", needs
        if mode == "failure":
            if gate.asks_statuses or self.optional:
                return [*conditions, earlier_failed(waited)], "all_done", needs
            return conditions, "one_failed", list(self.all)
        return conditions, "all_done", needs

    def _condition(self, conditions: list[str], path: Path) -> dict[str, str]:
        if not conditions:
            return {}
        text = conditions[0] if len(conditions) == 1 else " and ".join(f"({each})" for each in conditions)
        try:
            compile_condition(text)
        except ExpressionError:
            name = self.facts.report.parameter(f"{self.job.name} starts", path, default=False)
            text = f"parameters.{name}"
        return {"run_if": text}

    def _description(self, said: Mapping[str, Any], name: str) -> dict[str, str]:
        text = self.context.plain(said["name"]) if said.get("name") else ""
        if self.label and text:
            text += f" ({self.label})"
        return {"description": text} if text and text != name else {}

    def _env(self, said: Mapping[str, Any], written: set[str]) -> dict[str, str]:
        """The variables of job and step, and into the context those of all layers whose value is known."""
        found: dict[str, str] = {}
        static: dict[str, str] = {}
        layers = ((self.facts.env, False), (self.job.said.get("env"), True), (said.get("env"), True))
        for layer, own in layers:
            for name, value in layer.items() if isinstance(layer, Mapping) else ():
                text = self._variable(name, value) if own or not _is_literal(value) else text_of(value)
                if text is None:
                    continue
                if own:
                    found[name] = text
                if "${" not in text and name not in written:
                    static[name] = text
        self.context.env = static
        return found

    def _variable(self, name: str, value: Any) -> str | None:
        if not _ENV_NAME.fullmatch(str(name)):
            self.facts.report.leave_out(self.context.path, f"the variable {name!r}: no name of a variable")
            return None
        try:
            return self.context.variable(value)
        except NotCarried as error:
            advice = f"set {name} in the environment where you run the workflow"
            self.facts.report.leave_out(self.context.path, f"the variable {name}: {error}", advice)
            return None

    def _command(self, said: Mapping[str, Any], env: dict[str, str]) -> dict[str, Any]:
        """What the step runs, with its environment and its folder."""
        run = {**self.facts.run, **_run_defaults(self.job.said)}
        shell = self.context.plain(said.get("shell") or run.get("shell") or "").strip()
        if not shell:
            shell = "pwsh" if self.system == "Windows" else "default"
        text, brought = self.context.shell(text_of(said["run"]))
        step = _in_shell(shell, text, brought)
        if brought or env:
            step["env"] = {**env, **brought}
        folder = said.get("working-directory") or run.get("working-directory")
        if folder:
            step["working_dir"] = self.context.template(folder)
        return step

    def _limits(self, said: Mapping[str, Any], path: Path) -> dict[str, str]:
        minutes = []
        for holder, place in ((self.job.said, self.job.path), (said, path)):
            if "timeout-minutes" not in holder:
                continue
            text = self.context.template(holder["timeout-minutes"])
            if re.fullmatch(r"\d{1,6}(?:\.\d{1,3})?", text) and float(text) > 0:
                minutes.append(float(text))
                if holder is self.job.said and len(self.job.said["steps"]) > 1:
                    what = f"`timeout-minutes` of {self.job.name} bounds each of its steps, not all together"
                    self.facts.report.leave_out((*place, "timeout-minutes"), what)
            else:
                self.facts.report.leave_out(
                    (*place, "timeout-minutes"), "`timeout-minutes` that is no number"
                )
        return {"timeout": f"{min(minutes):g}m"} if minutes else {}


def _run_defaults(said: Mapping[str, Any]) -> Mapping[str, Any]:
    defaults = said.get("defaults")
    run = defaults.get("run") if isinstance(defaults, dict) else None
    return run if isinstance(run, dict) else {}


def _is_literal(value: Any) -> bool:
    return "${{" not in text_of(value)


def _literal_truth(value: Any) -> str:
    return "true" if value else "false"


def _in_shell(shell: str, text: str, brought: Mapping[str, str]) -> dict[str, Any]:
    """A step that runs a text as the named shell of GitHub Actions would."""
    if shell == "default":
        return {"run": f"set +u +o pipefail\n{text}"}
    if shell in ("bash", "bash -l {0}"):
        return {"run": f"set +u\n{text}"}
    plain = text.replace("$${", "${").replace("${", "$${")
    if shell == "sh":
        return {"run": ["sh", "-e", "-c", plain]}
    if shell == "python" and not brought:
        return {"call": "python.run", "with": {"code": plain}}
    if shell == "python":
        raise NotCarried("a value of a `${{ }}` would become Python code: read it from os.environ")
    raise NotCarried(f"its shell is {shell!r}")


def _step_label(said: Mapping[str, Any], index: int) -> str:
    words: Iterator[Any] = (said.get(key) for key in ("id", "name"))
    for word in words:
        label = clean_name(re.sub(r"\$\{\{.*?\}\}", "", text_of(word)), dots=False) if word else None
        if label:
            return label[:MAX_LABEL].rstrip("_")
    return f"step{index + 1}"


def _shown(said: Mapping[str, Any], index: int) -> str:
    return repr(text_of(said.get("name") or said.get("id") or index + 1))
