"""What a run means, in plain Python: the oracle of the random tests.

It is told in which order attempts began and ended (as the journal has it, commit by commit) and works out
everything else: what becomes ready, skipped, cancelled, expanded, tried again; results and the run's end.
`act(step, task, number, item, output)` says what an attempt does: (names of its error or None, value).
"""

TERMINAL = {"completed", "failed", "cancelled", "skipped"}


class Interpreter:
    def __init__(self, steps, act, *, fail_fast=False, result=None):
        self.steps = {step["name"]: step for step in steps}
        self.act, self.fail_fast, self.result = act, fail_fast, result
        self.state, self.stopped, self.failed = dict.fromkeys(self.steps, "blocked"), False, False
        self.items, self.output, self.tries = {}, {}, {}
        self.settle()

    def commit(self, moves):
        """One commit: (what, task, attempt number) with what = ended, given_back, started."""
        for what, task, number in moves:
            if what == "started":
                self.settle()
                assert self.state[task] == "pending", f"{task} began while it was {self.state[task]}"
                self.state[task] = "running"
                continue
            assert self.state[task] == "running", f"{task} {what} while it was {self.state[task]}"
            if what == "ended":
                self.end(self.steps[task.partition("[")[0]], task, number)
            else:
                self.again(task)
        self.settle()

    def end(self, step, task, number):
        self.tries[task] = self.tries.get(task, 0) + 1
        names, value = self.act(step, task, number, self.items.get(task), self.output)
        if names is None:
            self.state[task], self.output[task] = "completed", value
        elif (step["on"] and not names & set(step["on"])) or names & set(step["never"]):
            self.fail(step, task)
        elif self.tries[task] < step["max_attempts"] and not self.stopped:
            self.again(task)
        else:
            self.fail(step, task)

    def again(self, task):
        self.state[task] = "cancelled" if self.stopped else "pending"

    def fail(self, step, task):
        self.state[task] = "failed"
        self.failed |= step["required"]
        if step["required"] and self.fail_fast:
            self.stopped = True
            begun = {name: state for name, state in self.state.items() if state in TERMINAL | {"running"}}
            self.state = dict.fromkeys(self.state, "cancelled") | begun

    def settle(self):
        before = None
        while before != self.state:
            before = dict(self.state)
            for name, step in self.steps.items():
                parents = [(self.state[parent], self.steps[parent]) for parent in step["parents"]]
                if self.state[name] == "blocked" and all(state in TERMINAL for state, _ in parents):
                    self.state[name] = self.verdict(step, parents)
                if step["over"] and self.state[name] == "pending":
                    self.expand(name, step)
                elif step["over"] and self.state[name] == "running":
                    self.close_group(name, step)

    def verdict(self, step, parents):
        good = [state for state, _ in parents if state == "completed"]
        fired = [state for state, _ in parents if state in ("failed", "cancelled")]
        allowed = [state for state, parent in parents if state == "failed" and not parent["required"]]
        if step["rule"] in ("all_success", "none_failed") and len(fired) > len(allowed):
            return "cancelled"
        kind, name, wanted = step["condition"]
        found = wanted if kind == "always" else (self.state if kind == "status" else self.output).get(name)
        enough = {"all_success": len(good) == len(parents), "one_success": good, "one_failed": fired}
        return "pending" if enough.get(step["rule"], True) and found == wanted else "skipped"

    def expand(self, name, step):
        kind, over = step["over"]
        items = self.output.get(over) if kind == "output" else over
        if isinstance(items, list):
            self.items |= (tasks := {f"{name}[{number}]": item for number, item in enumerate(items)})
            self.state |= {name: "running"} | dict.fromkeys(tasks, "pending")
        else:
            self.fail(step, name)

    def close_group(self, name, step):
        tasks = [task for task in self.state if task.startswith(f"{name}[")]
        states = {self.state[task] for task in tasks}
        if states <= {"completed"}:
            self.state[name], self.output[name] = "completed", [self.output[task] for task in tasks]
        elif states <= TERMINAL:
            self.fail(step, name) if "failed" in states else self.state.update({name: "cancelled"})

    def status(self):
        lacking = self.result is not None and self.result not in self.output
        return "failed" if self.failed or lacking else "completed"
