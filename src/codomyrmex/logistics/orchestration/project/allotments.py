"""An engine's share of the machine: taken from the host's ledger when work waits, given back for others.

Layer: beside the drain, which calls it under its lock; above the ledger. As long as no other engine wants
anything, a drain costs one look at a number here. An engine asks when what waits does not fit its share and
the machine has more; it gives back what is free of its share as soon as another engine waits and the ledger's
rule says so, and all that is free when nothing has waited in it for a while.

    nothing fits ──> ledger.grow ──> granted: admit, and ask again
                                └──> refused: a wait is on record; asked again when the ledger has changed,
                                             and five times a second: a hold may just have expired
    others wait ──> ledger.surplus ──> ledger.give, and who waits is woken
"""

from __future__ import annotations

from codomyrmex.clock import Clock
from codomyrmex.exceptions import StoreError
from codomyrmex.logging_monitoring import get_logger
from codomyrmex.logistics.orchestration.project.admission import Admission, Shape
from codomyrmex.logistics.orchestration.project.host_ledger import HostLedger

LOOK_EVERY_S = 0.002
"""While it works an engine looks at most so often whether others want something."""
LINGER_S = 1.0
"""An engine in which nothing waits keeps what is free of its share for so long: it may need it again at once."""
ASK_AGAIN_S = 0.2
"""A refused engine asks again after so long even if nobody has written: a hold may have expired meanwhile."""

logger = get_logger(__name__)


class Allotments:
    """See the module; used by one thread at a time, except `due`."""

    def __init__(self, ledger: HostLedger, *, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._looked_s = -1.0
        self._crowded = True
        """Whether another engine waited when the ledger was last read."""
        self._refused = False
        self._unsure = False
        """True when it is not known whether a change of the ledger took effect."""
        self._told = ""
        """The last fault of the ledger: told once, not each time that it is asked in vain."""
        self._asked_s = -1.0
        self._queued_s = 0.0

    @property
    def refused(self) -> bool:
        """True while what this engine asked for last is not to be had."""
        return self._refused

    def review(self, admission: Admission) -> None:
        """Gives back what others wait for, or all that is free after a time in which nothing waited here."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < LOOK_EVERY_S and not self._crowded:
            return
        self._looked_s = now_s
        if admission.could_use_more:
            self._queued_s = now_s
        share = admission.share
        if self._unsure and not self._made_sure(admission):
            return
        if not any(share.allotted.values()):
            return
        try:
            if now_s - self._queued_s >= LINGER_S:
                self._give(admission, share.free())
                return
            if self._ledger.changed():
                self._crowded, self._refused = True, False
            if self._crowded:
                surplus = self._ledger.surplus(share.free(), capacity=share.capacities)
                self._crowded = bool(surplus) or self._ledger.others_wait
                self._give(admission, surplus)
        except StoreError as error:
            self.failed(error)

    def provide(self, admission: Admission) -> bool:
        """Asks for what the next in line lacks; True when something was allotted.

        Where that is not to be had now, this engine waits for it, and those behind are asked for that need
        nothing of what is scarce.
        """
        if self._unsure:
            return False
        if not self._refused and admission.lacking() is None:
            admission.hopeless = ()
            return False
        now_s = self._clock.monotonic_s()
        try:
            if self._refused and now_s - self._asked_s < ASK_AGAIN_S and not self._ledger.changed():
                return False
            self._asked_s = now_s
            return self._ask(admission)
        except StoreError as error:
            self.failed(error)
            return False

    def _ask(self, admission: Admission) -> bool:
        share = admission.share
        barred: set[str] = set()
        hopeless: set[Shape] = set()
        admission.hopeless = hopeless
        while (lacking := admission.lacking(barred, hopeless)) is not None:
            shape, head, want = lacking
            granted = self._ledger.grow(
                head, want, capacity=share.capacities, idle=share.free(), wait=not barred
            )
            self._crowded = True
            if granted:
                self._refused = bool(barred or hopeless)
                share.grow(granted)
                return True
            if self._ledger.hopeless:
                hopeless.add(shape)  # somebody keeps too much of it; nothing is kept for such a request
            else:
                barred |= self._ledger.scarce or set(head)
        if barred or hopeless:
            self._refused = True
        elif self._refused:
            self._refused = False
            self._ledger.stop_waiting()
        return False

    def ask_again(self) -> None:
        """Something in this process has changed what may be had: the next drain asks."""
        self._asked_s = -1.0

    def due(self, admission: Admission, *, busy: bool) -> bool:
        """Whether a drain is wanted although there is no news: this engine waits, or has a share and no work."""
        if self._refused:
            return True
        held = any(admission.share.allotted.values())
        return held and (not busy or bool(admission.share.free()))

    def refresh(self) -> None:
        """Says that this engine still waits; ends what dead engines of this host left behind."""
        try:
            if self._refused:
                self._ledger.renew_wait()
            if self._ledger.reap():
                self.ask_again()
        except StoreError as error:
            self.failed(error)

    def _give(self, admission: Admission, amounts: dict[str, int]) -> None:
        if amounts:
            self._ledger.give(amounts)
            admission.share.shrink(amounts)

    def _made_sure(self, admission: Admission) -> bool:
        """Takes what the ledger says for true after a change of which nobody knows whether it took effect."""
        share = admission.share
        try:
            mine = self._ledger.mine()
        except StoreError as error:
            self.failed(error)
            return False
        ids = mine.keys() | share.allotted.keys()
        share.grow({id: mine.get(id, 0) - share.allotted.get(id, 0) for id in ids})
        self._unsure = False
        return True

    def failed(self, error: StoreError) -> None:
        """The ledger could not be asked just now: work goes on with what this engine has, and it is asked again."""
        if str(error) != self._told:
            self._told = str(error)
            logger.warning("this engine has to do with its present share of the machine: %s", error)
        self._refused = self._unsure = True
