"""The threads of this process that wait for resources, in the order in which they came.

Layer: above nothing; no store, no clock. Who came first is served first of all who want the same resource:
nobody takes what an earlier one asked for, unless enough is free for both. Nothing is held in line.

A place is woken when something was given back here, and when somebody before it has left. What others do is
looked for by whoever waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event, Lock


class Place:
    """One who waits, and for how much of what."""

    __slots__ = ("_event", "wants")

    def __init__(self, wants: Mapping[str, int]) -> None:
        self.wants = wants
        self._event = Event()

    def look_again(self) -> None:
        """From here on a wake-up counts: called before one looks at what is free."""
        self._event.clear()

    def wait(self, timeout_s: float) -> bool:
        """True when woken since `look_again`."""
        return self._event.wait(timeout_s)

    def wake(self) -> None:
        """Makes it look again."""
        self._event.set()


class WaitingLine:
    """See the module. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places: tuple[Place, ...] = ()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, wants: Mapping[str, int]) -> Place:
        """A place at the end."""
        place = Place(wants)
        with self._lock:
            self._places = (*self._places, place)
        return place

    def leave(self, place: Place) -> None:
        """Gives a place up; those behind look again."""
        with self._lock:
            self._places = tuple(each for each in self._places if each is not place)
        self.wake()

    def wake(self) -> None:
        """Something was given back: everybody looks again."""
        for place in self._places:
            place.wake()

    def ahead(self, wants: Mapping[str, int], place: Place | None = None) -> dict[str, int]:
        """{id: how much of it those before `place` ask for}, of what `wants` has too; None stands at the end."""
        found: dict[str, int] = {}
        for other in self._places:
            if other is place:
                break
            for id, amount in other.wants.items():
                if id in wants:
                    found[id] = found.get(id, 0) + amount
        return found
