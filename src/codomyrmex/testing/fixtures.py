"""The pytest plugin: a fixture with an engine that is gone after the test.

Layer: testing; the only module of this package that imports pytest. Installing the package registers it
(entry point `pytest11`), so it is imported at the start of every pytest run: nothing of the engine is
imported before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine


@pytest.fixture
def codomyrmex_engine() -> Iterator[OrchestrationEngine]:
    """An engine in memory and in virtual time, shut down after the test."""
    from codomyrmex.clock import VirtualClock
    from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine as Engine

    with Engine(state=":memory:", clock=VirtualClock()) as engine:
        yield engine
