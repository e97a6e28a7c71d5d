"""Why a run stands still: what its tasks wait for while none of them runs.

Asking costs a look at the whole run, so it is asked only after a second without work, then every other second,
and less often where the answer takes long.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from codomyrmex.exceptions import CodomyrmexError
from codomyrmex.logistics.orchestration.project.explanations import RunExplanation

FIRST_S = 1.0
EVERY_S = 2.0
_SHARE = 20
_TOLD = frozenset({"resource", "quota", "other_engines", "concurrency"})


class Standstill:
    """Remembers since when nothing runs, and what was answered last; `now_s` is a clock that never goes back."""

    def __init__(
        self, explain: Callable[[], RunExplanation], *, now_s: Callable[[], float] = monotonic
    ) -> None:
        self._explain = explain
        self._now_s = now_s
        self._ask_at_s: float | None = None
        self._text = ""

    def text(self, *, idle: bool) -> str:
        """`parse waits for database, ...`; empty while something runs, and where nothing short is the reason."""
        now_s = self._now_s()
        if not idle:
            self._ask_at_s, self._text = None, ""
        elif self._ask_at_s is None:
            self._ask_at_s = now_s + FIRST_S
        elif now_s >= self._ask_at_s:
            self._text = self._answer()
            ended_s = self._now_s()
            self._ask_at_s = ended_s + max(EVERY_S, _SHARE * (ended_s - now_s))
        return self._text

    def _answer(self) -> str:
        try:
            found = self._explain()
        except CodomyrmexError:
            return ""  # the state is busy, or the run is not stored yet: there is a next time
        now = datetime.now(UTC)
        for reason in found.holds:
            if reason.kind in _TOLD:
                return reason.sentence(now)
        for each in found.reasons:
            for reason in each.reasons:
                if reason.kind in _TOLD:
                    return f"{each.task} {reason.sentence(now)}"
        return ""
