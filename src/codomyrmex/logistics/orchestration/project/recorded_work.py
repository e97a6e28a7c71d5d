"""The action of imported recordings: it holds its slot and its resources for as long as the task once took.

Layer: beside the actions; imports nothing of ours but `current_task`. It computes nothing and says so: what
it stands for is the time and the resources of a recorded task, so that a schedule can be tried. With 0 seconds
it returns at once. It looks every 50 ms whether its task was cancelled, and then ends as cancelled.
"""

from __future__ import annotations

from time import monotonic, sleep

from codomyrmex.current_task import TaskCancelled, action, current_task

LOOK_EVERY_S = 0.05


@action(effects="idempotent")
def hold(seconds: float = 0.0) -> None:
    """Waits for as many seconds and returns nothing; ends early, as cancelled, when it is asked to stop."""
    if seconds <= 0:
        return
    task = current_task()
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        if task.cancelled:
            raise TaskCancelled
        sleep(min(left, LOOK_EVERY_S))
