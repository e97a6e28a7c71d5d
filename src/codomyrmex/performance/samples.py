"""Small samples of measurements, and what follows from them: a median, a 90th percentile.

Layer: pure. A few are kept of many: `Decimated` keeps every k-th value and doubles k when it is full, so what
it keeps is spread over all that it saw, and the same values give the same sample each time. Quantiles are
nearest-rank: always a value that was measured, and right for a single one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Generic, TypeVar

WHATEVER_SIZE = -1
"""The size class that stands for parameters of every size."""
KEPT_OF_ONE_RUN = 32
"""So many values at most of one subject in one run."""
LARGE = 200
"""Of a workflow of more steps no profile is kept of those that are over at once: it would cost more than they do."""
AT_ONCE_S = 0.001
"""What takes less than this is over at once."""
_ROUNDING = 1e-9
"""0.9 x 10 is to be 9, however a machine multiplies."""

T = TypeVar("T")


def size_class(size_bytes: int) -> int:
    """The class of parameters so large: 0 below 4 bytes, one more for every factor of 4."""
    return (size_bytes.bit_length() - 1) >> 1 if size_bytes > 0 else 0


def quantile(ordered: Sequence[float], part: float) -> float:
    """The smallest value of an ascending, non-empty sequence that is not below `part` (0 to 1) of them."""
    rank = ceil(len(ordered) * part - _ROUNDING)
    return ordered[max(rank, 1) - 1]


def median(values: Sequence[float]) -> float:
    """The middle of a non-empty sequence in any order; of two middles, the lower one."""
    return quantile(sorted(values), 0.5)


class Decimated(Generic[T]):
    """A list that keeps every k-th of what comes and doubles k when it is full.

    `come` is the quick way to say that something came: it is kept only where the answer is true.
    """

    __slots__ = ("count", "due", "stride", "values")

    def __init__(self) -> None:
        self.values: list[T] = []
        self.count = 0
        """How many came."""
        self.due = 1
        """The count at which one is kept next."""
        self.stride = 1

    def come(self) -> bool:
        """Counts one; true where it is to be kept."""
        self.count += 1
        return self.count >= self.due

    def keep(self, value: T) -> None:
        """Keeps the one that came last."""
        self.values.append(value)
        if len(self.values) >= KEPT_OF_ONE_RUN:
            del self.values[1::2]
            self.stride *= 2
            self.due = 1 + len(self.values) * self.stride
        else:
            self.due += self.stride
