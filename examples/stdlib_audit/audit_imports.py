"""The import graph of the audited files, and its cycles.

An edge goes from a module to each module among the audited files that it names in an import statement; `a.b`
stands for itself and not for its parent `a`, which Python imports too. Cycles are the strongly connected
components of more than one module, found without recursion by Tarjan's algorithm ("Depth-first search and
linear graph algorithms", SIAM Journal on Computing, 1972). Of each component the shortest cycle is shown: the
first one to cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator

from audit_analysis import Batches, check_top, each_file
from audit_facts import Findings

Graph = dict[str, list[str]]


def import_graph(batches: Batches, top: int = 20) -> Findings:
    """Resolve all imports among the audited files.

    `graph` has the edges of imports that happen at import time (`load`) and of those inside functions
    (`deferred`); `summary` the counts, and the modules that most others import.
    """
    check_top(top)
    tests = {facts["module"]: facts["tests"] for facts in each_file(batches)}
    hidden = shadowed(batches)
    graph: dict[str, Graph] = {"load": {}, "deferred": {}}
    outside: set[str] = set()
    importers: dict[str, list[int]] = {}
    for facts in each_file(batches):
        targets: set[str] = set()
        for when, edges in graph.items():
            inside, unknown = _resolve_all(facts["imports"].get(when, []), tests, hidden)
            inside.discard(facts["module"])
            outside |= unknown
            if inside:
                edges[facts["module"]] = sorted(inside)
            targets |= inside
        for target in targets:
            importers.setdefault(target, [0, 0])[int(facts["tests"])] += 1
    ranked = sorted(importers.items(), key=lambda item: (-item[1][0], -item[1][1], item[0]))
    return {
        "graph": graph,
        "summary": {
            "modules": len(tests),
            "load_edges": sum(map(len, graph["load"].values())),
            "deferred_edges": sum(map(len, graph["deferred"].values())),
            "outside": len(outside),
            "most_imported": [
                {"module": name, "library": counts[0], "tests": counts[1]} for name, counts in ranked[:top]
            ],
        },
    }


def _resolve_all(
    names: Iterable[str], modules: Container[str], hidden: Container[str]
) -> tuple[set[str], set[str]]:
    inside, outside = set(), set()
    for name in names:
        target = resolve(name, modules, hidden)
        if target:
            inside.add(target)
        else:
            outside.add(name.replace(":", ".").split(".", 1)[0])
    return inside, outside


def shadowed(batches: Batches) -> set[str]:
    """Return each `a:b` where `a` binds the name `b` to something it imports, which hides a module `a.b`.

    `from unittest import main` gets a class, for `unittest` says `from .main import TestProgram, main`.
    """
    hidden = set()
    for facts in each_file(batches):
        for name in facts["imports"].get("load", ()):
            source, _, bound = name.partition(":")
            if bound and source != facts["module"]:
                hidden.add(f"{facts['module']}:{bound}")
    return hidden


def resolve(name: str, modules: Container[str], hidden: Container[str] = ()) -> str | None:
    """Return the audited module that `a.b` or `a:b` (`from a import b`) leads to; None when it is outside."""
    target = name.partition(":")[0] if name in hidden else name.replace(":", ".")
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target or None


def import_cycles(graph: dict[str, Graph]) -> Findings:
    """Find the groups of modules that import each other.

    `at_import` looks only at imports made while a module loads: such a group works or breaks by which module
    is imported first. `with_deferred` counts imports inside functions too: modules that cannot be understood
    one at a time.
    """
    loading = graph["load"]
    every = {
        module: sorted({*loading.get(module, ()), *graph["deferred"].get(module, ())})
        for module in sorted({*loading, *graph["deferred"]})
    }
    return {"at_import": _describe(loading), "with_deferred": _describe(every)}


def _describe(graph: Graph) -> Findings:
    groups: list[Findings] = []
    for members in components(graph):
        inside = set(members)
        edges = [
            [source, target] for source in members for target in graph.get(source, ()) if target in inside
        ]
        groups.append({"modules": members, "edges": edges, "shortest": shortest_cycle(graph, members)})
    groups.sort(key=lambda group: (-len(group["modules"]), group["modules"]))
    return {
        "count": len(groups),
        "modules": sum(len(group["modules"]) for group in groups),
        "largest": max((len(group["modules"]) for group in groups), default=0),
        "groups": groups,
    }


class _Search:
    """The state of one depth-first search: `low` is the earliest module on the path that each one reaches."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order: dict[str, int] = {}
        self.low: dict[str, int] = {}
        self.path: list[str] = []
        self.on_path: set[str] = set()
        self.targets: dict[str, Iterator[str]] = {}

    def enter(self, module: str) -> None:
        self.order[module] = self.low[module] = len(self.order)
        self.path.append(module)
        self.on_path.add(module)
        self.targets[module] = iter(self.graph.get(module, ()))

    def next_unseen(self, module: str) -> str | None:
        """Go on through the imports of `module` up to one that was not entered yet."""
        for target in self.targets[module]:
            if target not in self.order:
                return target
            if target in self.on_path:
                self.low[module] = min(self.low[module], self.order[target])
        return None

    def cut(self, root: str) -> list[str]:
        """Take the component that `root` closes off the path."""
        members = [self.path.pop()]
        while members[-1] != root:
            members.append(self.path.pop())
        self.on_path.difference_update(members)
        return sorted(members)


def components(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components of more than one module, each sorted."""
    search = _Search(graph)
    found: list[list[str]] = []
    for start in sorted(graph):
        waiting = [] if start in search.order else [start]
        while waiting:
            module = waiting[-1]
            if module not in search.order:
                search.enter(module)
            entered = search.next_unseen(module)
            if entered is not None:
                waiting.append(entered)
                continue
            waiting.pop()
            if waiting:
                above = waiting[-1]
                search.low[above] = min(search.low[above], search.low[module])
            if search.low[module] == search.order[module]:
                found.append(search.cut(module))
    return [members for members in found if len(members) > 1]


def shortest_cycle(graph: Graph, members: list[str]) -> list[str]:
    """Return the modules of a shortest cycle in the component `members`; the first of several by name."""
    inside = set(members)
    best: list[str] = []
    for start in members:
        before: dict[str, str | None] = {start: None}
        waiting = deque([start])
        while waiting:
            module = waiting.popleft()
            targets = graph.get(module, ())
            if start in targets:
                cycle = _trace(before, module)
                best = cycle if not best or len(cycle) < len(best) else best
                break
            for target in targets:
                if target in inside and target not in before:
                    before[target] = module
                    waiting.append(target)
    return best


def _trace(before: dict[str, str | None], last: str) -> list[str]:
    cycle: list[str] = []
    module: str | None = last
    while module is not None:
        cycle.append(module)
        module = before[module]
    return cycle[::-1]
