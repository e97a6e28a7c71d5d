"""Whether a failed attempt is followed by another, and when.

Layer: pure. The random part of a delay is an argument, so the same inputs give the same decision.
Delays grow geometrically (`delay_s * backoff ** retries`), are capped, and with `jitter` are spread over
the upper half of that value ("equal jitter": M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

NEVER_RETRIED = frozenset({"cancelled", "unserialisable"})
"""Outcomes that another attempt cannot change."""

KIND_NAMES = {"timed_out": "timeout"}
"""The word users write in `on` and `never` where it differs from the outcome's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a task is tried again; `max_attempts` counts the first one too."""

    max_attempts: int = 1
    delay_s: float = 0.0
    backoff: float = 2.0
    max_delay_s: float = 3600.0
    jitter: bool = False
    on: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    max_crashes: int = 2
    memory: float = 1.0
    """What the claim on memory is multiplied by after an attempt that ran out of it."""

    def delay_after(self, retries: int, fraction: float) -> float:
        """Seconds before the next attempt, `retries` having been made; `fraction` in [0, 1) is the jitter."""
        try:
            delay = min(self.max_delay_s, self.delay_s * self.backoff ** min(retries, 1000))
        except OverflowError:
            delay = self.max_delay_s if self.delay_s else 0.0
        return delay * (0.5 + fraction / 2) if self.jitter else delay


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """`again` after `delay_s` seconds, or not at all, and `why` in a few words."""

    again: bool
    why: str
    delay_s: float = 0.0


def decide(
    policy: RetryPolicy,
    *,
    attempts: int,
    crashes: int,
    kind: str,
    names: Collection[str],
    fraction: float,
) -> RetryDecision:
    """What follows an attempt that ended as `kind`.

    `attempts` are those that count (an engine's death uses up none), `crashes` the task's own, this one
    included; `names` are the names of the exception's classes, short and qualified.
    """
    if kind in NEVER_RETRIED:
        return RetryDecision(again=False, why=f"{kind} is never retried")
    if attempts >= policy.max_attempts:
        return RetryDecision(again=False, why=f"attempt {attempts} of {policy.max_attempts}")
    if kind == "crashed" and crashes >= policy.max_crashes:
        return RetryDecision(again=False, why=f"crashed {crashes} times")
    words = {KIND_NAMES.get(kind, kind), *names}
    if words.intersection(policy.never):
        return RetryDecision(again=False, why="named in `never`")
    if policy.on and not words.intersection(policy.on):
        return RetryDecision(again=False, why="not named in `on`")
    return RetryDecision(
        again=True,
        why=f"attempt {attempts} of {policy.max_attempts}",
        delay_s=policy.delay_after(attempts - 1, fraction),
    )
