"""The outputs of a fan-out, in the order of its items, read when they are looked at.

Layer: above the run store. A sequence over committed rows: nothing is read before somebody asks, and then a
page at a time, so the outputs of 100,000 items can be gone through without all of them in memory. An item
without an output (it failed, and `on_item_failure` let the step go on) is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from codomyrmex.logistics.orchestration.project import run_store
from codomyrmex.logistics.storage.database import Database

PAGE = 1000


class ItemOutputs(Sequence[Any]):
    """See the module. Equal to a list of the same values; `list(...)` reads them all."""

    def __init__(
        self, database: Database, run: int, first: int, size: int, *, value: Callable[[bytes], Any]
    ) -> None:
        self._database = database
        self._run = run
        self._first = first
        self._size = size
        self._value = value

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            numbers = range(self._size)[index]
            if not numbers:
                return []
            low, high = min(numbers), max(numbers)
            read = self._read(low, high)
            return [read[number - low] for number in numbers]
        number = index + self._size if index < 0 else index
        if not 0 <= number < self._size:
            raise IndexError(f"the fan-out has {self._size} items, and there is none at {index}")
        return self._read(number, number)[0]

    def __iter__(self) -> Iterator[Any]:
        for low in range(0, self._size, PAGE):
            yield from self._read(low, min(low + PAGE, self._size) - 1)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, ItemOutputs)) or len(other) != self._size:
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list: what is equal to one cannot be hashed

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:10]))
        return f"[{shown}{', ...' if self._size > 10 else ''}]"

    def _read(self, low: int, high: int) -> list[Any]:
        """The outputs of the items `low` to `high`."""
        found: list[Any] = [None] * (high - low + 1)
        first = self._first + low
        for position, data in run_store.read_results(self._database, self._run, first, self._first + high):
            found[position - first] = self._value(data)
        return found
