"""A run that follows a plan and lost its engine goes on in the order of that plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from clockwork_engine import START_US, step, workflow
from timed_workflows import clockwork

SECONDS = {"check": 4.0, "tell": 1.0, "draw": 1.0, "each": 4.0}
ORDER = ("check", "tell", "draw")
ITEMS = ("each[0]", "each[1]", "tell", "draw")


@pytest.mark.parametrize("order", [ORDER, ITEMS], ids=["a step", "items"])
def test_what_the_dead_engine_had_begun_is_waited_for(order: tuple[str, ...], tmp_path: Path) -> None:
    first = step("each", foreach=[1, 2]) if order is ITEMS else step("check")
    document = workflow([first, step("tell", first["name"]), step("draw")])
    engine = clockwork(SECONDS, state=tmp_path / "state")
    engine.start(document, follow=order)
    engine.go_until(2.0)
    before = engine.began()
    assert before == [*order[:-2]]
    engine.die()
    with clockwork(
        SECONDS,
        state=tmp_path / "state",
        recover=True,
        start_us=engine.clock.now_us(),
        began_us=START_US,
    ) as after:
        after.recover()
        after.finish()
        assert list(dict.fromkeys(name for name in after.began() if name in ORDER[1:])) == ["tell", "draw"]
