"""What the names in a module's annotations mean, as its source tells.

Layer: actions. A name is a class or a type alias of the module itself, or comes from another module of the
project through a few imports; names of the standard library stand for themselves, and nothing is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from codomyrmex.logistics.orchestration.project.actions.named_types import NamedType, from_class
from codomyrmex.logistics.orchestration.project.actions.signature import Imported, Outline

Follow = Callable[[Outline, Imported], Outline | None]
"""The outline of the module that an import of another one names; None where it is not to be read."""
MAX_HOPS = 4


class OutlineNames:
    """The lookup for the annotations in a module; each name is looked up once.

    An object and no closure: one that calls itself would keep its catalogue, and with it the definition, alive
    until the next collection of cycles.
    """

    __slots__ = ("_follow", "_hops", "_known", "_outline")

    def __init__(self, outline: Outline, follow: Follow, hops: int = 0) -> None:
        self._outline = outline
        self._follow = follow
        self._hops = hops
        self._known: dict[str, NamedType | None] = {}

    def __call__(self, name: str) -> NamedType | None:
        if name not in self._known:
            self._known[name] = None  # a name that leads back to itself means nothing
            self._known[name] = self._meaning(name)
        return self._known[name]

    def _meaning(self, name: str) -> NamedType | None:
        outline = self._outline
        alias = outline.type_aliases.get(name)
        if alias is not None:
            return NamedType(name=name, alias=alias, lookup=self)
        defined = outline.classes.get(outline.aliases.get(name, name))
        if defined is not None and defined.name not in outline.unclear:
            return from_class(defined, self)
        found = outline.imported(name)
        if found is None:
            return None
        if found.level == 0 and found.module.partition(".")[0] in sys.stdlib_module_names:
            return NamedType(name=name, alias=f"{found.module}.{found.name}", lookup=self)
        other = self._follow(outline, found) if self._hops < MAX_HOPS else None
        return None if other is None else OutlineNames(other, self._follow, self._hops + 1)(found.name)
