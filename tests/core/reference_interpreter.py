"""What a run means, in plain Python: the oracle of the random tests.

It is told in which order attempts began and ended (as the journal has it, commit by commit) and works out
everything else: what becomes ready, skipped, cancelled, expanded, tried again; results and the run's end.
`act(step, task, number, item, output)` says what an attempt does: (names of its error or None, value).
"""

TERMINAL = ("completed", "failed", "cancelled", "skipped")


class Interpreter:
    def __init__(self, steps, act, *, fail_fast=False, result=None):
        self.steps, self.act, self.fail_fast, self.result = {s["name"]: s for s in steps}, act, fail_fast, result
        self.state = dict.fromkeys(self.steps, "blocked")
        self.items, self.output, self.tries = {}, {}, {}
        self.stopped = self.failed = False
        self.settle()

    def commit(self, moves):
        """One commit: (what, task, attempt number) with what = ended, given_back, started."""
        for what, task, number in moves:
            if what == "started":
                self.settle()
            wanted = "pending" if what == "started" else "running"
            assert self.state[task] == wanted, f"{task} {what} while it was {self.state[task]}"
            if what == "started":
                self.state[task] = "running"
            elif what == "ended":
                self.end(self.steps[task.partition("[")[0]], task, number)
            else:
                self.again(task)
        self.settle()

    def end(self, step, task, number):
        self.tries[task] = self.tries.get(task, 0) + 1
        names, value = self.act(step, task, number, self.items.get(task), self.output)
        if names is None:
            self.state[task], self.output[task] = "completed", value
            return
        wanted = not names & set(step["never"]) and (not step["on"] or names & set(step["on"]))
        if wanted and self.tries[task] < step["max_attempts"] and not self.stopped:
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
            begun = {name: state for name, state in self.state.items() if state in ("running", *TERMINAL)}
            self.state = dict.fromkeys(self.state, "cancelled") | begun

    def settle(self):
        before = None
        while before != self.state:
            before = dict(self.state)
            for name, step in self.steps.items():
                if self.state[name] == "blocked" and all(self.state[p] in TERMINAL for p in step["parents"]):
                    self.judge(name, step)
                elif self.state[name] == "running" and step["over"]:
                    self.close_group(name, step)

    def judge(self, name, step):
        parents = [(self.state[p], self.steps[p]["required"]) for p in step["parents"]]
        bad = [s for s, required in parents if s == "cancelled" or (s == "failed" and required)]
        soft = [s for s, required in parents if s == "skipped" or (s == "failed" and not required)]
        fired, good = ({s for s, _ in parents} & set(states) for states in (("failed", "cancelled"), ("completed",)))
        if step["rule"] in ("all_success", "none_failed") and bad:
            self.state[name] = "cancelled"
        elif (soft, not good, not fired, 0, 0)[RULES.index(step["rule"])] or not self.condition(*step["condition"]):
            self.state[name] = "skipped"
        else:
            self.state[name] = "pending"
        if self.state[name] == "pending" and (step["condition"][0] == "broken" or step["over"]):
            self.expand(name, step)

    def condition(self, kind, parent, wanted):
        return kind in ("always", "broken") or (self.state if kind == "status" else self.output).get(parent) == wanted

    def expand(self, name, step):
        kind, over = step["over"] or ("", "")
        items = self.output.get(over) if kind == "output" else over
        if not isinstance(items, list) or step["condition"][0] == "broken":
            self.fail(step, name)
            return
        self.items |= {f"{name}[{number}]": item for number, item in enumerate(items)}
        self.state |= {name: "running"} | {f"{name}[{number}]": "pending" for number in range(len(items))}

    def close_group(self, name, step):
        tasks = [task for task in self.state if task.startswith(f"{name}[")]
        states = {self.state[task] for task in tasks}
        if "failed" in states and states <= set(TERMINAL):
            self.fail(step, name)
        elif states <= set(TERMINAL):
            self.state[name] = "cancelled" if "cancelled" in states else "completed"
            if self.state[name] == "completed":
                self.output[name] = [self.output[task] for task in tasks]

    @property
    def status(self):
        lacking = self.result is not None and self.result not in self.output
        return "failed" if self.failed or lacking else "completed"


RULES = ("all_success", "one_success", "one_failed", "none_failed", "all_done")
