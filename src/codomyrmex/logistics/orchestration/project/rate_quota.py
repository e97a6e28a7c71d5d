"""How often something may happen: the generic cell rate algorithm, in whole microseconds.

Layer: pure. A quota of N units per period lets one unit pass every period/N. All that it remembers is one
instant, the *theoretical arrival time*: when it would be idle again if everything so far had come evenly. A
claim passes when that instant, moved on by what the claim costs, lies no further ahead than the burst
allows; it is then moved on. So in any window of length W pass at most burst + W x N/period units, whoever asks, and
a crash can lose nothing but one instant.

Without a burst claims are spaced evenly: one passes, whatever its weight, once those before are paid for.

Source: ITU-T I.371, annex A (the virtual scheduling algorithm).
"""

from __future__ import annotations

from typing import NamedTuple


class Rate(NamedTuple):
    """`capacity` (ten-thousandths of a unit) per `per_us`; up to `burst` of it at once, None for evenly spaced."""

    capacity: int
    per_us: int
    burst: int | None = None

    def cost_us(self, amount: int) -> int:
        """How far a claim moves the instant on; rounded up, so that the quota is never exceeded."""
        return -(-amount * self.per_us // self.capacity)

    def allows(self, amount: int) -> bool:
        """False for a claim that can never pass."""
        return 0 < amount <= (self.capacity if self.burst is None else self.burst)


class Passage(NamedTuple):
    """Whether a claim passes now; `tat_us` is the new instant then, else it may be tried again at `retry_us`."""

    tat_us: int | None
    retry_us: int


def claim(rate: Rate, amount: int, *, tat_us: int, now_us: int) -> Passage:
    """Decides about a claim; nothing is changed."""
    cost_us = rate.cost_us(amount)
    ahead_us = cost_us if rate.burst is None else max(cost_us, rate.cost_us(rate.burst))
    # No claim moves the instant further ahead than this. Beyond it the clock was set back: nobody must wait for as
    # long as that was, so the quota counts as unused.
    furthest_us = now_us + max(rate.per_us, ahead_us)
    moved_us = (tat_us if now_us < tat_us <= furthest_us else now_us) + cost_us
    if moved_us - now_us <= ahead_us:
        return Passage(tat_us=moved_us, retry_us=now_us)
    return Passage(tat_us=None, retry_us=moved_us - ahead_us)


def refund(rate: Rate, amount: int, *, tat_us: int) -> int:
    """The instant after `amount` was given back: what was asked for and not used."""
    return tat_us - amount * rate.per_us // rate.capacity
