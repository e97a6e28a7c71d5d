"""Whose turn it is among sessions: each gets a part of the machine by its weight, over time.

Layer: pure. A *party* is a session, or all the work that belongs to none. What a party's attempts hold is measured
by the largest share of any resource (dominant share, as in DRF, Ghodsi et al. 2011) and added up over time, divided
by the party's weight: its *virtual time*. Who has the least goes next. A party that had nothing to do does not save
up: whoever comes, or comes back, stands where the one was that went last (start-time fair queueing, Goyal, Vin and
Cheng 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from codomyrmex.logistics.orchestration.project.order_policy import OrderPolicy
from codomyrmex.logistics.orchestration.project.states import OrchestrationMode

LEARNING = 0.25
"""How much the newest duration counts in what a party's attempts are taken to last."""


class Account(NamedTuple):
    """What a party has had: virtual seconds up to an instant, and what it holds since then."""

    virtual_s: float = 0.0
    at_us: int = 0
    held: float = 0.0
    typical_s: float = 0.0


NOTHING_YET = Account()


class Told(NamedTuple):
    """How a session is to be served, and the number of the newest run that said so; None is not said."""

    mode: OrchestrationMode | None
    weight: float | None
    by: int


@dataclass(slots=True, eq=False)
class Party:
    """See the module."""

    id: str
    number: int
    policy: OrderPolicy
    weight: float = 1.0
    account: Account = NOTHING_YET
    shape_count: int = 0
    """How many shapes its work has."""

    def virtual_s(self, now_us: int) -> float:
        """What it has had until now, by its weight."""
        account = self.account
        return account.virtual_s + account.held * max(0, now_us - account.at_us) / 1_000_000 / self.weight

    def turn(self, now_us: int) -> tuple[float, float]:
        """Who has the smallest goes next; what is held already counts as much as it will before it ends."""
        ahead = self.account.held / self.weight
        return self.virtual_s(now_us) + ahead * self.account.typical_s, ahead

    def hold(self, share: float, now_us: int) -> None:
        """An attempt takes such a share of the machine."""
        account = self.account
        self.account = Account(self.virtual_s(now_us), now_us, account.held + share, account.typical_s)

    def give(self, share: float, now_us: int, lasted_s: float) -> None:
        """It has ended."""
        account = self.account
        known_s = account.typical_s
        typical_s = known_s + LEARNING * (lasted_s - known_s) if known_s else lasted_s
        held = max(0.0, account.held - share)
        self.account = Account(self.virtual_s(now_us), now_us, held if held > 1e-9 else 0.0, typical_s)

    def come_back(self, virtual_s: float, now_us: int) -> None:
        """It has work again after it had none: it has no claim on the time in between."""
        if virtual_s > self.virtual_s(now_us):
            self.account = self.account._replace(virtual_s=virtual_s, at_us=now_us)
