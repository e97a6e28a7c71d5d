"""What one step means, in plain Python: the rules that `reference_interpreter` applies. No state of its own.

A step is a mapping with the keys of `PLAIN`; parents are steps of the same phase.
"""

TERMINAL = {"completed", "failed", "cancelled", "skipped"}
NOT_BEGUN = {"blocked", "pending"}

PLAIN = {
    "parents": (),
    "rule": "all_success",
    "condition": ("always", None, None),  # or (status | output | errors, step, what it has to be)
    "uses": None,  # the step whose output its action adds up
    "otherwise": None,  # what stands in for an output that is not there: `?? 7`
    "over": None,  # ("items", list), ("output", step), or ("condition", None) for one that cannot be worked out
    "on_item_failure": "fail",
    "max_parallel": None,
    "required": True,
    "kind": None,  # approval, wait_for, sleep or workflow in place of an action
    "signal": None,
    "timed": False,  # an approval or a signal with a time limit
    "default": None,  # what holds when that has passed: (value,)
    "script": ("ok",),
    "max_attempts": 1,
    "on": (),
    "never": (),
    "compensate": None,  # keys of the step that undoes it
}  # fmt: skip


def plain(name, **more):
    """A step in which everything that is not given is as usual."""
    return {**PLAIN, "name": name, **more}


def verdict(step, parents, found):
    """What becomes of a step whose parents ended as `parents` says, as (state, the parent's step)."""
    good = [state for state, _ in parents if state == "completed"]
    fired = [state for state, _ in parents if state in ("failed", "cancelled")]
    allowed = [state for state, parent in parents if state == "failed" and not parent["required"]]
    if step["rule"] in ("all_success", "none_failed") and len(fired) > len(allowed):
        return "cancelled"
    enough = {"all_success": len(good) == len(parents), "one_success": good, "one_failed": fired}
    kind, _name, wanted = step["condition"]
    return (
        "pending" if enough.get(step["rule"], True) and (kind == "always" or found == wanted) else "skipped"
    )


def item_list(over, output):
    """The items of a fan-out, or None where there is no list."""
    items = output.get(over[1]) if over[0] == "output" else over[1]
    return items if isinstance(items, list) else None


def tried_again(step, names, tries):
    """Whether an attempt that failed with an error of these names is followed by another."""
    refused = (step["on"] and not names & set(step["on"])) or names & set(step["never"])
    return not refused and tries < step["max_attempts"]


def group_verdict(step, states):
    """The state of a fan-out whose items ended so."""
    if "failed" in states and step["on_item_failure"] != "continue":
        return "failed"
    return "cancelled" if "cancelled" in states else "completed"


def when_due(step):
    """The output of a kind whose time has passed, as (value,), or None where that is a failure."""
    if step["kind"] == "sleep":
        return (None,)
    if step["kind"] == "approval" and step["default"] is not None:
        return (approval(step["default"][0]),) if step["default"][0] else None
    return step["default"]


def approval(approved, data=None):
    """What an approval returns, as far as it does not depend on who and when."""
    return {"approved": approved, "data": data}


def undoing(done):
    """The steps that undo what is `done` (task: step, the last to complete first), each after the one before it."""
    chain = []
    for task, step in done.items():
        parents = [chain[-1]["name"]] if chain else []
        chain.append(plain(undoing_name(task), **step["compensate"], parents=parents, rule="all_done"))
    return chain


def undoing_name(task):
    """What undoes `ship[3]` is called `ship.compensate[3]`."""
    name, bracket, item = task.partition("[")
    return f"{name}.compensate{bracket}{item}"
