"""What a run means, in plain Python: the oracle of the random tests.

It is told, in the order of the journal, what comes from outside: attempts that began and ended, what was
asked of the run, answers, signals, times that passed, child runs that ended. It works out everything else:
what becomes ready, skipped, cancelled, expanded, tried again, undone; results, phases and the run's end.
`act(step, task, number, item, output)` says what an attempt does: (names of its error or None, value).

There are two files, so that each is read in one sitting: this one is about a run, `reference_rules` about a step.
"""

import reference_rules as rules
from reference_rules import NOT_BEGUN, TERMINAL

PHASES = ("main", "compensating", "on_failure", "finally", "ended")


class Interpreter:
    def __init__(self, workflow, act, ended):
        self.workflow, self.act, self.ended = workflow, act, ended  # ended: when each task ended, as recorded
        self.phase, self.outcome, self.intent = "main", "completed", "none"
        self.steps, self.state, self.output, self.items, self.tries, self.sent = {}, {}, {}, {}, {}, {}
        self.wished, self.halting, self.halted = False, set(), set()
        self.begin(workflow["steps"])
        self.settle()

    def commit(self, moves):
        """One commit: each move is the name of a method below with its arguments."""
        for what, *told in moves:
            if what in ("began", "opened"):
                self.settle()
            getattr(self, what)(*told)
        self.settle()

    # What is told

    def began(self, task):
        assert self.state[task] == "pending", f"{task} began while it was {self.state[task]}"
        assert self.intent != "pause", f"{task} began in a pause"
        self.state[task] = "running"

    def opened(self, task):
        self.began(task)
        step = self.step(task)
        self.state[task] = "running" if step["kind"] == "workflow" else "waiting"
        if step["kind"] == "wait_for" and step["signal"] in self.sent:
            self.complete(task, self.sent[step["signal"]])

    def finished(self, task, number):
        self.tried(task, *self.act(self.step(task), task, number, self.items.get(task), self.output))

    def given_back(self, task):
        assert self.state[task] == "running", f"{task} was given back while it was {self.state[task]}"
        self.again(task)

    def heeded(self, task):
        assert self.stopped, f"{task} was cancelled while nothing stopped"
        self.cancel(task)

    def child_ended(self, task, status, outputs):
        if status == "cancelled" and self.stopped:
            self.cancel(task)
        else:
            self.tried(task, None if status == "completed" else {f"Child{status.capitalize()}"}, outputs)

    def answered(self, task, approved, data):
        assert self.state[task] == "waiting", f"{task} was answered while it was {self.state[task]}"
        self.complete(task, rules.approval(True, data)) if approved else self.fail(task)

    def signalled(self, name, data):
        self.sent[name] = data
        for task in [task for task, state in self.state.items() if state == "waiting"]:
            if self.step(task)["signal"] == name:
                self.complete(task, data)

    def due(self, task):
        assert self.state[task] == "waiting", f"{task} was due while it was {self.state[task]}"
        assert self.intent != "pause", f"{task} was due in a pause"
        found = rules.when_due(self.step(task))
        self.complete(task, *found) if found else self.fail(task)

    def asked(self, intent):
        self.intent = intent
        if intent == "kill" or (intent == "cancel" and self.phase == "main"):
            self.stop("wish")

    def paused(self):
        attempts = [task for task in self.state if self.state[task] == "running" and self.is_attempt(task)]
        assert (self.intent, attempts) == ("pause", [])

    def timed_out(self):
        assert self.phase == "main", f"timed out in {self.phase}"
        assert self.intent != "pause", "timed out in a pause"
        self.failed = True
        self.stop("timeout")

    # What follows from it

    def step(self, task):
        return self.steps[task] if task in self.steps else self.steps[task.partition("[")[0]]

    def is_attempt(self, task):
        return self.step(task)["kind"] is None and (task not in self.steps or not self.step(task)["over"])

    def tried(self, task, names, value):
        assert self.state[task] == "running", f"{task} ended while it was {self.state[task]}"
        self.tries[task] = self.tries.get(task, 0) + 1
        if names is None:
            self.complete(task, value)
        elif not self.stops(task) and rules.tried_again(self.step(task), names, self.tries[task]):
            self.again(task)
        else:
            self.fail(task)

    def stops(self, task):
        return self.stopped or task.partition("[")[0] in self.halted

    def again(self, task):
        self.cancel(task) if self.stops(task) else self.state.update({task: "pending"})

    def complete(self, task, value):
        self.state[task], self.output[task] = "completed", value

    def fail(self, task):
        step, self.state[task] = self.step(task), "failed"
        if task not in self.steps and step["on_item_failure"] == "continue":
            return
        if task not in self.steps and step["on_item_failure"] == "stop":
            self.halting.add(step["name"])
        self.failed |= step["required"]
        if step["required"] and self.workflow["fail_fast"] and self.phase == "main":
            self.stop("fail_fast")

    def stop(self, why):
        self.stopped = self.stopped or why
        self.cancel_all("", {*NOT_BEGUN, "waiting"})

    def cancel_all(self, prefix, states):
        for task in [task for task in self.state if task.startswith(prefix)]:
            if self.state[task] in states:
                self.cancel(task)

    def cancel(self, task):
        self.state[task] = "cancelled"
        self.wished |= self.stopped == "wish"

    def settle(self):
        before = None
        while before != (self.phase, self.state):
            before = (self.phase, dict(self.state))
            for name in self.halting - self.halted:
                self.cancel_all(f"{name}[", NOT_BEGUN)
            self.halted |= self.halting
            for name, step in list(self.steps.items()):
                parents = [(self.state[parent], self.steps[parent]) for parent in step["parents"]]
                if self.state[name] == "blocked" and all(state in TERMINAL for state, _ in parents):
                    self.state[name] = rules.verdict(step, parents, self.seen(*step["condition"][:2]))
                if step["over"] and self.state[name] == "pending":
                    self.expand(name, step)
                elif step["over"] and self.state[name] == "running":
                    self.close_group(name, step)
            if self.intent != "pause" and self.phase != "ended" and TERMINAL.issuperset(self.state.values()):
                self.advance()

    def seen(self, kind, name):
        errors = [task for task in self.state if task.startswith(f"{name}[") and self.state[task] == "failed"]
        return {"status": self.state.get(name), "output": self.output.get(name), "errors": len(errors)}.get(
            kind
        )

    def expand(self, name, step):
        items = rules.item_list(step["over"], self.output)
        if items is None:
            self.fail(name)
            return
        tasks = {f"{name}[{number}]": item for number, item in enumerate(items)}
        self.items |= tasks
        self.state |= {name: "running"} | dict.fromkeys(tasks, "pending")

    def close_group(self, name, step):
        tasks = [task for task in self.state if task.startswith(f"{name}[")]
        states = {self.state[task] for task in tasks}
        if not states <= TERMINAL:
            return
        found = rules.group_verdict(step, states)
        if found == "completed":
            self.complete(name, [self.output.get(task) for task in tasks])
        else:
            self.fail(name) if found == "failed" else self.cancel(name)

    # Phases

    def begin(self, steps):
        self.steps |= {step["name"]: step for step in steps}
        self.state |= {step["name"]: "blocked" for step in steps}
        self.stopped, self.failed = False, False

    def advance(self):
        result = self.workflow["result"]
        if self.phase == "main" and self.wished:
            self.outcome = "cancelled"
        elif self.failed or (self.phase == "main" and result is not None and result not in self.output):
            self.outcome = "failed" if self.outcome == "completed" else self.outcome
        if self.intent == "kill":
            if self.phase != "main" and self.outcome == "completed":
                self.outcome = "cancelled"
            self.phase = "ended"
            return
        self.phase = PHASES[PHASES.index(self.phase) + 1]
        if self.phase == "compensating" and self.outcome != "completed":
            self.undo(self.undone())
        elif self.phase == "finally" or (self.phase == "on_failure" and self.outcome == "failed"):
            self.begin(self.workflow[self.phase])

    def undo(self, done):
        """The steps that undo what is `done`; the items of a fan-out with nothing to undo are skipped."""
        self.begin(rules.undoing(done))
        for name in dict.fromkeys(task.partition("[")[0] for task in done if task not in self.steps):
            self.steps[f"{name}.compensate"] = rules.plain(f"{name}.compensate", over=("items", None))
            self.state[f"{name}.compensate"] = "running"
            for task in [task for task in self.state if task.startswith(f"{name}[")]:
                self.state.setdefault(rules.undoing_name(task), "skipped")

    def undone(self):
        """What has completed and can be undone, the last first; of equal times the later position."""
        tasks = [task for task in self.state if task in self.output and self.step(task)["compensate"]]
        tasks = [task for task in tasks if task not in self.steps or not self.step(task)["over"]]
        tasks.reverse()
        latest = sorted(tasks, key=self.ended.__getitem__, reverse=True)
        return {task: self.step(task) for task in latest}
