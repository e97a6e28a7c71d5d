"""What somebody wants of a run, as news for the drain.

Layer: beside the news. The same wish comes from Python in the engine's own process, or as a row that another
process wrote (`intent_store`); both become the same news here.
"""

from __future__ import annotations

from typing import Any

from codomyrmex.logistics.orchestration.project.intent_store import Intent
from codomyrmex.logistics.orchestration.project.news import (
    Answered,
    Asked,
    PauseAsked,
    SignalSent,
    StopAsked,
)
from codomyrmex.logistics.orchestration.project.states import RunIntent
from codomyrmex.logistics.orchestration.project.values import encode_tree


def news_of(intent: Intent) -> Asked:
    """The news that an intent row stands for."""
    return asked(intent.run, intent.kind, intent.payload, by=intent.by, intents=(intent.sequence,))


def asked(run: int, kind: str, payload: dict[str, Any], *, by: str, intents: tuple[int, ...] = ()) -> Asked:
    """The news of a wish; `kind` and `payload` are those of an intent row."""
    if kind in ("pause", "resume"):
        return PauseAsked(run, kind == "pause", intents)
    if kind == "signal":
        return SignalSent(run, payload["name"], encode_tree(payload.get("data")), by, intents)
    if kind == "answer":
        return Answered(
            run_number=run,
            task=payload["task"],
            approved=payload["approved"],
            data=payload.get("data"),
            by=payload["by"],
            comment=payload.get("comment"),
            intents=intents,
        )
    return StopAsked(run, RunIntent(kind), intents)
