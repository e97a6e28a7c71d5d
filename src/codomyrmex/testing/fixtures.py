"""The pytest fixture: an engine that is gone after the test.

Layer: testing; the only module of this package that imports pytest.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codomyrmex.clock import VirtualClock
from codomyrmex.logistics.orchestration.project.orchestration_engine import OrchestrationEngine


@pytest.fixture
def codomyrmex_engine() -> Iterator[OrchestrationEngine]:
    """An engine in memory and in virtual time, shut down after the test."""
    with OrchestrationEngine(state=":memory:", clock=VirtualClock()) as engine:
        yield engine
