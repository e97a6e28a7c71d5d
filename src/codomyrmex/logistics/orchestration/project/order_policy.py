"""In what order ready tasks of one party go: the place of each in its queue, fixed when it becomes ready.

Layer: pure. A place never changes, so a queue is a heap that is never sorted again. Ageing is in it all the same,
because it is equal for all who wait: a task's *ageing class* is the span of `ageing_s` in which it became ready,
moved back or forward by its priority. Inside a class urgency decides. So nobody is overtaken by work that became
ready more than the difference of the boosts and one span later (`most_overtaken_s`).

Where the tasks of a run take long, ten minutes are no time: sorted by them the run would go by age alone, and end an
eighth later than it needs to (PSPLIB j120 with tasks of an hour). So its tasks are taken together in spans of
`SPAN_TASKS` times what one of them takes, and count from the end of their span.
"""

from __future__ import annotations

from dataclasses import dataclass

from codomyrmex.logistics.orchestration.project.states import OrchestrationMode, TaskPriority

AGEING_S = 600.0
RESERVE_AFTER_S = 300.0
SPAN_TASKS = 20
"""Tried on PSPLIB (j30, j60, j120; % above best known): spans of 10 tasks 4.5 5.0 11.3, of 20 tasks 4.5 4.8 10.4."""
BOOSTS_S = (-600.0, 0.0, 600.0, 6000.0)
"""By the rank of a priority: low, normal, high, critical."""
_LONG_S = 1e10
Place = tuple[int, float]
"""Where a task goes: what is smaller goes first, equals in the order in which they became ready."""


def span_of(task_s: float, step_count: int) -> int:
    """The span of a run of so many steps whose tasks take so many seconds, in microseconds; one step has none."""
    return round(min(SPAN_TASKS, step_count - 1) * task_s * 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPolicy:
    """How one party orders its work; times are seconds."""

    mode: OrchestrationMode = OrchestrationMode.RESOURCE_AWARE
    ageing_s: float = AGEING_S
    reserve_after_s: float = RESERVE_AFTER_S
    """How long a task waits at most before room is kept for it, whatever it asks for."""
    boosts_s: tuple[float, float, float, float] = BOOSTS_S

    @classmethod
    def of(cls, mode: str, reserve_after_s: float) -> OrderPolicy:
        """As the settings say it."""
        return cls(mode=OrchestrationMode(mode), reserve_after_s=float(reserve_after_s))

    @property
    def reserve_after_us(self) -> int:
        """The same in microseconds; a very long time where it is infinite."""
        return round(min(self.reserve_after_s, _LONG_S) * 1_000_000)

    @property
    def one_at_a_time(self) -> bool:
        """True where only one task of the party may run."""
        return self.mode is OrchestrationMode.SEQUENTIAL

    def place(self, rank: int, ready_us: int, urgency: float) -> Place:
        """The place of a task whose priority has that rank.

        It became ready at `ready_us`, microseconds from any instant that is the same for all that wait.
        """
        if self.mode is OrchestrationMode.RESOURCE_AWARE:
            return int((ready_us / 1_000_000 - self.boosts_s[rank]) // self.ageing_s), -urgency
        if self.mode is OrchestrationMode.PRIORITY:
            return -rank, 0.0
        return 0, 0.0

    def counted_from_us(self, ready_us: int, *, began_us: int, span_us: int) -> int:
        """The instant from which a task counts as waiting, of a run that began at `began_us` and has such spans."""
        if span_us <= self.ageing_s * 1_000_000:
            return ready_us
        return began_us + ((ready_us - began_us) // span_us + 1) * span_us

    def most_overtaken_s(self, priority: TaskPriority, other: TaskPriority) -> float:
        """A task is overtaken by none of `other` that became ready so much later; only of `resource_aware`."""
        return self.boosts_s[other.rank] - self.boosts_s[priority.rank] + self.ageing_s
