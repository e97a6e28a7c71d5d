"""What ids of runs and of tasks submitted alone look like.

Layer: pure. Ten letters and digits without those that look alike and without vowels, so that an id spells
nothing and is never misread: 47 bits.
"""

from __future__ import annotations

LETTERS = "bcdfghjkmnpqrstvwxz23456789"
ID_LENGTH = 10


def id_of(number: int) -> str:
    """The id that a number of at least 48 bits gives; its higher digits do not count."""
    letters = []
    for _ in range(ID_LENGTH):
        number, letter = divmod(number, len(LETTERS))
        letters.append(LETTERS[letter])
    return "".join(letters)
