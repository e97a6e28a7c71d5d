"""Actions that installed packages offer in the entry point group `codomyrmex.actions`.

Layer: actions. Three forms, told apart by what stands right of the `=`:

    slack = acme_slack.actions            module `slack`: every function of that module
    slack = acme_slack.actions:Client     module `slack`: the static methods of that class
    slack.post = acme_slack.api:post      action `post` of module `slack`

Reading package metadata properly costs tens of milliseconds of imports, so a first look asks only whether any
package mentions the group at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GROUP = "codomyrmex.actions"


@dataclass(frozen=True, slots=True)
class Offer:
    """One entry point: its name, the module behind it, what inside that ("" for all), and who offers it."""

    name: str
    module: str
    inside: str
    package: str

    def is_action(self, module: str, action: str) -> bool:
        """Whether this entry point is that one action."""
        return bool(self.inside) and self.name == f"{module}.{action}"

    def action_of(self, module: str) -> str | None:
        """The action of `module` that this entry point is; None where it is none of its."""
        owner, dot, action = self.name.rpartition(".")
        return action if dot and self.inside and owner == module else None


def offers(path: Sequence[str]) -> list[Offer]:
    """The entry points of the packages on a module search path, the first of equal names winning."""
    if not any(_mentions(folder) for folder in path):
        return []
    from importlib.metadata import distributions

    found: dict[str, Offer] = {}
    for distribution in distributions(path=list(path)):
        for point in distribution.entry_points.select(group=GROUP):
            offer = Offer(point.name, point.module, point.attr, distribution.metadata["Name"] or "")
            found.setdefault(point.name, offer)
    return list(found.values())


def _mentions(folder: str) -> bool:
    return any(GROUP.encode() in content for content in _entry_point_files(folder))


def _entry_point_files(folder: str) -> Iterator[bytes]:
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    yield file.read()
            except OSError:
                continue
