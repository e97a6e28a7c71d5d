"""Seeds that are printed, and the scoreboard of the full forms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random, SystemRandom

import pytest
import scoreboard

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.fixture
def seed() -> int:
    """Of everything that this test draws; printed, and `CODOMYRMEX_SEED` sets it."""
    given = os.environ.get("CODOMYRMEX_SEED")
    found = int(given) if given else SystemRandom().randrange(1_000_000)
    print(f"CODOMYRMEX_SEED={found}")
    return found


@pytest.fixture
def chance(seed: int) -> Random:
    return Random(seed)


@pytest.fixture(scope="session")
def rows() -> Iterator[list[scoreboard.Row]]:
    """The rows of this session; the document is written when it ends."""
    found: list[scoreboard.Row] = []
    yield found
    if found:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(scoreboard.written(DOCUMENT, found), encoding="utf-8")


@pytest.fixture
def record(request: pytest.FixtureRequest, rows: list[scoreboard.Row], seed: int) -> Callable[..., None]:
    """`record(what, count, figures)`: a row of the scoreboard; a short form only prints it."""

    def add(what: str, count: object, figures: str) -> None:
        print(f"{what}: {count}; {figures}")
        if request.node.get_closest_marker("reliability") is not None:
            name = f"{request.node.path.name}::{request.node.originalname}"
            command = f"pytest -m reliability tests/reliability/{name}"
            rows.append(
                scoreboard.Row(what=what, count=str(count), seed=str(seed), figures=figures, command=command)
            )

    return add
