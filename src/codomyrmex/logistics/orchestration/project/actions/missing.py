"""Why an action was not found, in words that say which half of its name is wrong.

Layer: actions. Both are `ActionNotFound`; `reason` is the message without the guess, for places that show
the nearest name by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from codomyrmex.exceptions import ActionNotFound


class _Missing(ActionNotFound):
    """What both have in common: a reason instead of the general message."""

    def __init__(
        self, module: str, action: str, reason: str, *, nearest: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(f"{module}:{action}", nearest=nearest, hint=hint)
        self.module, self.action, self.reason = module, action, reason
        self.message = reason if nearest is None else f"{reason}; did you mean {nearest!r}?"
        self.args = (self.message,)


class ModuleMissing(_Missing):
    """Nothing has a module of this name, or it cannot be read; `looked_in` are the places, in order."""

    def __init__(
        self,
        module: str,
        action: str,
        reason: str,
        *,
        looked_in: Sequence[str] = (),
        nearest: str | None = None,
        hint: str | None = None,
    ) -> None:
        if looked_in:
            reason = f"{reason}; looked in {', '.join(looked_in)}"
        super().__init__(module, action, reason, nearest=nearest, hint=hint)
        self.looked_in = tuple(looked_in)


class FunctionMissing(_Missing):
    """The module is there, the function in it is not; `known` are those that it has."""

    def __init__(
        self,
        module: str,
        action: str,
        reason: str,
        *,
        known: Sequence[str] = (),
        nearest: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(module, action, reason, nearest=nearest, hint=hint)
        self.known = tuple(known)
