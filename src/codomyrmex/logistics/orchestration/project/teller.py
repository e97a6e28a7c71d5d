"""Events to those who listen, in the order of their commits.

Layer: the engine's shell. One thread hands every committed event to the handlers registered for its kind, and
between them what is only said (`tell`, `ask`): how far tasks and runs are, which stands in no journal.
A handler that raises is logged and harms nobody; a slow one only delays other handlers, never the drain:
the queue holds references to what was committed anyway, and beyond `QUEUE_LIMIT` batches the oldest are
dropped for handlers (`dropped` counts them), because the journal in the store has them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition, Thread
from typing import Any

from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.run_plan import RunPlan
from codomyrmex.logistics.orchestration.project.run_state import RunState

QUEUE_LIMIT = 10_000
EVERY_KIND = "*"
Handler = Callable[[str, dict[str, Any]], object]
Said = tuple[RunState, str, dict[str, Any]]
"""A run, a kind of event, and what is told of it."""

logger = get_logger(__name__)


class Teller:
    """See the module. Its thread begins with the first handler."""

    def __init__(self, *, on_silence: Callable[[], None] = lambda: None) -> None:
        self._on_silence = on_silence
        self._telling = False
        self.dropped = 0
        self._handlers: dict[str, list[Handler]] = {}
        self._queue: deque[tuple[RunState, int, list[Any]] | Callable[[], Iterable[Said]]] = deque(
            maxlen=QUEUE_LIMIT
        )
        self._wake = Condition()
        self._stopping = False
        self._thread: Thread | None = None

    def register(self, event: str, handler: Handler) -> None:
        """Calls `handler(event, data)` for every event of this kind; `*` means every kind."""
        with self._wake:
            self._handlers.setdefault(event, []).append(handler)
            if self._thread is None:
                self._thread = Thread(target=self._tell, name="codomyrmex-teller", daemon=True)
                self._thread.start()

    def committed(self, plans: Iterable[RunPlan]) -> None:
        """Queues what a commit said; costs nothing while nobody listens."""
        if self._thread is None:
            return
        with self._wake:
            for plan in plans:
                self.dropped += len(self._queue) == QUEUE_LIMIT
                self._queue.append((plan.run, plan.now_us, plan.events))
            self._wake.notify()

    def hears(self, event: str) -> bool:
        """Whether anybody listens to events of this kind."""
        return event in self._handlers or EVERY_KIND in self._handlers

    def tell(self, run: RunState, event: str, data: dict[str, Any]) -> None:
        """Queues something that is said and not committed; costs nothing while nobody listens to it."""
        if self.hears(event):
            self.ask(lambda: ((run, event, data),))

    def ask(self, say: Callable[[], Iterable[Said]]) -> bool:
        """Calls `say` in the thread that tells, after all that is queued, and tells what it returns.

        False where handlers are so far behind that what is committed would have to give way to it: then it is not
        told.
        """
        with self._wake:
            if len(self._queue) >= QUEUE_LIMIT // 2:
                return False
            self._queue.append(say)
            self._wake.notify()
        return True

    @property
    def silent(self) -> bool:
        """True while there is nothing that a handler has not heard to its end."""
        return not self._queue and not self._telling

    def stop(self) -> None:
        """Tells what is queued, then ends. Idempotent."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _tell(self) -> None:
        while True:
            with self._wake:
                while not self._queue:
                    if self._stopping:
                        return
                    self._wake.wait()
                self._telling = True
                told = self._queue.popleft()
            if callable(told):
                self._say(told)
            else:
                run, now_us, events = told
                for event in events:
                    self._tell_one(run, now_us, event)
            self._telling = False
            if not self._queue:
                self._on_silence()

    def _tell_one(self, run: RunState, now_us: int, event: tuple[Any, ...]) -> None:
        kind, position = event[0], event[1]
        if not self.hears(kind):
            return
        data: dict[str, Any] = {"run_id": run.id, "workflow": run.workflow.name, "at_us": now_us}
        if position is not None:
            data["task"] = run.name_of(position)
        if len(event) > 2:
            data["details"] = list(event[2:])
        self._hand_on(kind, data)

    def _say(self, say: Callable[[], Iterable[Said]]) -> None:
        try:
            found = list(say())
        except Exception:
            logger.exception("what was to be told of runs could not be worked out")
            return
        for run, kind, said in found:
            self._hand_on(kind, {"run_id": run.id, "workflow": run.workflow.name, **said})

    def _hand_on(self, kind: str, data: dict[str, Any]) -> None:
        for handler in [*self._handlers.get(kind, ()), *self._handlers.get(EVERY_KIND, ())]:
            try:
                handler(kind, data)
            except Exception:
                logger.exception("an event handler failed", extra={"event": kind})
