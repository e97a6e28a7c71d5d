"""When an engine that holds work may be taken for dead.

Layer: pure. On the host of a dead engine the kernel answers at once: the lock file that it held is
free. Across hosts nobody can ask the kernel, so the holder's row carries `lease_until`, which it renews
every `RENEW_EVERY_S`. The holder must stop before the others may begin:

    |-- renewed --------------|-- SELF_STOP_S: holder stops --|-- LEASE_S: others may take it --|--> t

so a holder that cannot renew gives up its work `LEASE_S - SELF_STOP_S` seconds before anybody takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

LEASE_S = 30.0
RENEW_EVERY_S = 10.0
SELF_STOP_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What the row of an engine says, and what this host can find out about it.

    `lock_is_free` is None where the lock file cannot be asked (another host, or another boot).
    """

    epoch: int
    same_boot: bool
    ended: bool
    lock_is_free: bool | None
    lease_until_us: int


def is_dead(holder: Holder, *, now_us: int) -> bool:
    """True when `holder` can hold nothing any more: it closed, its lock is free, its boot is over or its lease is."""
    if holder.ended:
        return True
    if holder.same_boot and holder.lock_is_free is not None:
        return holder.lock_is_free
    return now_us >= holder.lease_until_us


def must_stop(*, renewed_s: float, now_s: float) -> bool:
    """True when the holder could not renew for so long that it must stop working (monotonic seconds)."""
    return now_s - renewed_s >= SELF_STOP_S
