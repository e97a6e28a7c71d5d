"""A claim of somebody who asks by hand: all of it in one transaction, or nothing.

Layer: above the stores. Decides about named resources only. A hold is a row that `resource_store.claim` adds
where it fits; a quota moves its instant on (`rate_quota`). Whatever does not pass raises `DoesNotFit`, which
rolls the transaction back, so nothing is ever held while one waits.

What can never pass is refused: more than there is, more than a limit allows, a resource that is not there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from codomyrmex.exceptions import ResourceRefused
from codomyrmex.logistics.orchestration.project import rate_quota, resource_register, resource_store
from codomyrmex.logistics.orchestration.project.resource_amounts import from_held
from codomyrmex.logistics.orchestration.project.resource_forms import at_once, quota_level
from codomyrmex.logistics.orchestration.project.resource_register import Holding, StoredResource
from codomyrmex.logistics.orchestration.project.resource_request import UNIT
from codomyrmex.logistics.orchestration.project.resource_store import ClaimRow
from codomyrmex.logistics.storage.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, since when, for how long; `ahead` is what those before it in line want of the same resources."""

    epoch: int
    requester: str
    now_us: int
    since_us: int
    ttl_us: int | None = None
    ahead: Mapping[str, int] = field(default_factory=dict)


class DoesNotFit(Exception):
    """A claim that does not pass now. `short` names what is lacking, `retry_us` when a quota lets it pass."""

    def __init__(self, short: tuple[str, ...], retry_us: int | None = None) -> None:
        super().__init__(", ".join(short))
        self.short, self.retry_us = short, retry_us


@dataclass(slots=True)
class _Shortage:
    """What is found to be lacking while a claim is looked at."""

    short: list[str] = field(default_factory=list)
    retry_us: int | None = None

    def add(self, id: str, retry_us: int | None = None) -> None:
        self.short.append(id)
        if retry_us is not None:
            self.retry_us = max(retry_us, self.retry_us or 0)


def claim_named(
    tx: Transaction, wants: Mapping[str, int], asker: Asker, refused: list[str] | None = None
) -> list[Holding]:
    """Makes the claim and returns its allocations in the order of `wants`; those of a quota are over at once.

    Raises `DoesNotFit`, or `ResourceRefused` with every reason, those in `refused` first.
    """
    found: list[StoredResource] = []
    reasons = list(refused or ())
    for id, amount in wants.items():
        stored = resource_register.find(tx.execute, id)
        if stored is None:
            reasons.append(f"there is no resource {id!r} any more")
            continue
        reasons += why_never(stored, amount, asker.ttl_us)
        found.append(stored)
    if reasons:
        raise refusal(reasons)
    shortage = _Shortage()
    for stored in found:
        _look_at(tx, stored, wants[stored.id], asker, shortage)
    if shortage.short:
        raise DoesNotFit(tuple(shortage.short), shortage.retry_us)
    return [_take(tx, stored, wants[stored.id], asker) for stored in found]


def refusal(reasons: list[str]) -> ResourceRefused:
    """The error for what no waiting can bring."""
    return ResourceRefused(
        "; ".join(reasons),
        hint="ask for less, or give a named one more: codomyrmex resources add NAME --capacity N --replace",
        details=reasons,
    )


def why_never(stored: StoredResource, amount: int, ttl_us: int | None = None) -> list[str]:
    """Why so much of a resource can never be had, whoever gives back."""
    there_is = at_once(stored)
    reasons = []
    if amount > there_is:
        reasons.append(f"{_text(amount)} of {stored.name!r} were asked for; there are {_text(there_is)}")
    for limit in ("max_per_request", "max_per_requester"):
        most = stored.limits.get(limit)
        if most is not None and amount > most:
            reasons.append(f"{_text(amount)} of {stored.name!r} were asked for; its {limit} is {_text(most)}")
    longest_us = stored.limits.get("max_ttl_us")
    if ttl_us is not None and longest_us is not None and ttl_us > longest_us:
        asked_s, longest_s = from_held(ttl_us, 1_000_000), from_held(longest_us, 1_000_000)
        reasons.append(f"{stored.name!r} was asked for {asked_s} s; its max_ttl_s is {longest_s}")
    return reasons


def _look_at(tx: Transaction, stored: StoredResource, amount: int, asker: Asker, shortage: _Shortage) -> None:
    """Notes what stands against a claim, as far as `claim` itself would not find out."""
    id = stored.id
    ahead = asker.ahead.get(id, 0)
    rate = stored.rate
    if stored.offline or (rate is not None and ahead):
        shortage.add(id)
    elif rate is not None:
        passage = rate_quota.claim(rate, amount, tat_us=stored.tat_us, now_us=asker.now_us)
        if passage.tat_us is None:
            shortage.add(id, passage.retry_us)
    elif _is_spoken_for(tx, stored, amount, ahead, asker) or _has_enough(tx, stored, amount, asker):
        shortage.add(id)


def _is_spoken_for(tx: Transaction, stored: StoredResource, amount: int, ahead: int, asker: Asker) -> bool:
    """Whether what is free is wanted by somebody who has waited for longer, here or in another process."""
    owed = ahead + resource_register.owed(
        tx.execute, stored.id, epoch=asker.epoch, since_us=asker.since_us, now_us=asker.now_us
    )
    if owed == 0:
        return False
    used, _count = resource_register.used(tx.execute, stored.id, now_us=asker.now_us)
    return used + amount + owed > stored.capacity


def _has_enough(tx: Transaction, stored: StoredResource, amount: int, asker: Asker) -> bool:
    most = stored.limits.get("max_per_requester")
    if most is None:
        return False
    held = resource_register.used_by(tx.execute, asker.requester, stored.id, now_us=asker.now_us)
    return held + amount > most


def _take(tx: Transaction, stored: StoredResource, amount: int, asker: Asker) -> Holding:
    id, now_us, rate = os.urandom(16).hex(), asker.now_us, stored.rate
    if rate is not None:
        passage = rate_quota.claim(rate, amount, tat_us=stored.tat_us, now_us=now_us)
        assert passage.tat_us is not None, stored.id
        level = quota_level(rate, tat_us=passage.tat_us, now_us=now_us)
        resource_register.spend(tx, stored.id, tat_us=passage.tat_us, level=level)
        return Holding(id, stored.id, asker.requester, amount, now_us, now_us)
    resource_register.clear_expired(tx, now_us=now_us, resource=stored.id)
    ttl_us = asker.ttl_us if asker.ttl_us is not None else stored.limits.get("max_ttl_us")
    row = ClaimRow(
        id=id,
        resource=stored.id,
        amount=amount,
        requester=asker.requester,
        epoch=asker.epoch,
        since_us=now_us,
        expires_us=now_us + ttl_us if ttl_us is not None else None,
    )
    if not resource_store.claim(tx, row):
        raise DoesNotFit((stored.id,))
    return Holding(id, stored.id, asker.requester, amount, now_us, row.expires_us)


def _text(amount: int) -> str:
    return str(from_held(amount, UNIT))
