"""Writes what the audit found as one page: the figures, what stands out, a section for each question. Pure.

The page stands alone (style and charts are in it, it asks for nothing and runs no script) and depends on the
findings only, so the same findings give the same bytes.
"""

from __future__ import annotations

from html import escape

from audit_charts import bar, histogram, percent, ring
from audit_facts import Findings
from audit_tables import (
    bar_table,
    card,
    counted,
    coverage_table,
    folded,
    function_table,
    number,
    pair,
    quantile_table,
    section,
)

_PACKAGES_SHOWN = 16
_RING_SIZES = range(3, 7)  # two modules need no picture, and the labels of more than six collide
_PLACES = (
    ("size", "Size"),
    ("length", "Function length"),
    ("nesting", "Nesting"),
    ("docstrings", "Docstrings"),
    ("imports", "Imports"),
    ("cycles", "Import cycles"),
    ("unparsed", "Not parsed"),
    ("method", "How it is counted"),
)
_METHOD = (
    (
        "Files",
        "All .py files below the folder, without installed packages, caches, and folders named data in test "
        "suites. A file belongs to the tests when a folder named test, tests or idle_test holds it, or its "
        "name begins with test_.",
    ),
    (
        "Lines",
        "Physical lines, blank ones and comments included. A function runs from its def to its last line; "
        "what it defines inside itself counts both there and apart.",
    ),
    (
        "Nesting",
        "Levels of if, for, while, try, with and match inside each other. An elif stays on the level of its "
        "if; an inner function starts at 0.",
    ),
    (
        "Docstrings",
        "Public means that no name on the way begins with an underscore. Dunder methods, setters and "
        "overloads are left out, and so are the tests.",
    ),
    (
        "Imports",
        "Import statements among the audited files; conditions around them are not evaluated. An import is "
        "deferred when a function makes it, or only the module run as a script. A cycle is a group of "
        "modules each of which leads to all others.",
    ),
)


def page(findings: Findings, style: str) -> str:
    """Return the whole HTML document."""
    about = findings["about"]
    title = escape(about["title"])
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Audit of {title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<link rel="icon" href="data:,"><style>{style}</style></head><body>',
        _head(about, title),
        "<main>",
        _figures(findings),
        _standing_out(findings),
        _size(findings["totals"]),
        _length(findings["longest"]),
        _nesting(findings["nesting"]),
        _docstrings(findings["docstrings"]),
        _imports(findings["imports"]),
        _cycles(findings["cycles"]),
        _unparsed(findings["totals"]),
        "</main>",
        _footer(),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _head(about: Findings, title: str) -> str:
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in _PLACES)
    audited = counted(about["files_audited"], "file")
    if about["files_audited"] < about["files_found"]:
        audited += f" of {number(about['files_found'])}, spread over the folder,"
    where = f'<span class="path">{escape(about["root"])}</span>'
    return (
        f'<header><h1>{title}</h1><p class="about">{audited} read from {where}</p>'
        f'<nav aria-label="Sections">{links}</nav></header>'
    )


def _figures(findings: Findings) -> str:
    totals, docstrings = findings["totals"], findings["docstrings"]
    tests, unparsed = totals["tests"], len(totals["unparsed"])
    tiles = (
        ("Files", number(totals["files"]), f"{number(tests['files'])} in tests"),
        ("Lines", number(totals["lines"]), f"{number(tests['lines'])} in tests"),
        ("Functions", number(totals["functions"]), f"and {counted(totals['classes'], 'class', 'classes')}"),
        ("Documented", percent(docstrings["documented"], docstrings["public"]), "of what is public"),
        ("Import cycles", number(findings["cycles"]["at_import"]["count"]), "at import time"),
        ("Not parsed", number(unparsed), "listed below" if unparsed else "every file is valid"),
    )
    body = "".join(
        f'<div><dt>{name}</dt><dd class="number">{value}</dd><dd class="note">{note}</dd></div>'
        for name, value, note in tiles
    )
    return f'<dl class="figures">{body}</dl>'


def _standing_out(findings: Findings) -> str:
    """Say in sentences what a reader would otherwise have to find in the tables."""
    totals = findings["totals"]
    sentences = []
    if totals["tests"]["lines"]:
        sentences.append(f"Tests make up {percent(totals['tests']['lines'], totals['lines'])} of all lines.")
    sentences += _extremes(findings["longest"], "is the longest function")
    sentences += _extremes(findings["nesting"], "nests deepest")
    kinds = [kind for kind in findings["docstrings"]["kinds"] if kind["public"]]
    if kinds:
        shares = [
            f"{percent(kind['documented'], kind['public'])} of the {_plural(kind['kind'])}" for kind in kinds
        ]
        sentences.append(f"Docstrings are there for {_listed(shares)} that are public.")
    cycles = findings["cycles"]
    if cycles["with_deferred"]["count"]:
        sentences.append(
            f"{counted(cycles['at_import']['modules'], 'module')} import each other while they load; with "
            "the imports inside functions, the largest group that hangs together has "
            f"{number(cycles['with_deferred']['largest'])}."
        )
    items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
    return f'<section><h2>What stands out</h2><ul class="findings">{items}</ul></section>'


def _extremes(findings: Findings, verb: str) -> list[str]:
    """Say which function of the library leads a ranking, and how far most others are from it."""
    library = findings["library"]
    if not library["top"]:
        return []
    first = library["top"][0]
    return [
        f"<code>{escape(first['name'])}</code> in <code>{escape(first['path'])}</code> {verb}, with "
        f"{counted(first['value'], findings['unit'][:-1])}; 99% of the library’s functions have at most "
        f"{number(library['p99'])}."
    ]


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _size(totals: Findings) -> str:
    shown, rest = totals["packages"][:_PACKAGES_SHOWN], totals["packages"][_PACKAGES_SHOWN:]
    highest = max((row["lines"] for row in shown), default=0) or 1
    rows = [
        (row["package"], bar(row["lines"] / highest), (number(row["files"]), number(row["lines"])))
        for row in shown
    ]
    lead = "The largest packages and single modules, without their tests."
    if rest:
        others = sum(row["lines"] for row in rest)
        lead += f" The other {number(len(rest))} have {counted(others, 'line')} together."
    return section(
        "size", "Size", lead, card("Lines by package", bar_table(("Package", "Files", "Lines"), rows))
    )


def _length(longest: Findings) -> str:
    library, tests = longest["library"], longest["tests"]
    return section(
        "length",
        "Function length",
        f"Half of the library’s functions have at most {counted(library['median'], 'line')}, and one in a "
        f"hundred has more than {library['p99']}.",
        _distribution(longest, "Functions of the library by length", "lines per function"),
        card(
            "Longest functions of the library",
            function_table(library["top"], "lines"),
            folded("Longest functions of the tests", function_table(tests["top"], "lines")),
        ),
    )


def _nesting(nesting: Findings) -> str:
    library, tests = nesting["library"], nesting["tests"]
    flat = percent(library["groups"][0]["count"], library["functions"])
    return section(
        "nesting",
        "Nesting",
        f"{flat} of the library’s functions have no control flow at all, and one in a hundred goes deeper "
        f"than {counted(library['p99'], 'level')}.",
        _distribution(nesting, "Functions of the library by nesting", "levels of control flow"),
        card(
            "Deepest functions of the library",
            function_table(library["top"], "levels"),
            folded("Deepest functions of the tests", function_table(tests["top"], "levels")),
        ),
    )


def _distribution(findings: Findings, title: str, unit: str) -> str:
    groups = findings["library"]["groups"]
    told = ", ".join(f"{group['label']}: {number(group['count'])}" for group in groups)
    return pair(
        card(title, histogram(groups, unit=unit, label=f"{title}, in {unit}. {told}")),
        card(unit.capitalize(), quantile_table(findings)),
        stretched=True,
    )


def _docstrings(docstrings: Findings) -> str:
    missing = docstrings["public"] - docstrings["documented"]
    kinds = [{**kind, "kind": _plural(kind["kind"])} for kind in docstrings["kinds"]]
    return section(
        "docstrings",
        "Docstrings",
        f"{number(missing)} of {number(docstrings['public'])} public modules, classes and functions have "
        "none. Tests are left out.",
        card("By kind", coverage_table("Kind", kinds, "kind")),
        card("By package, the largest first", coverage_table("Package", docstrings["packages"], "package")),
        card("Longest public functions without a docstring", function_table(docstrings["longest"], "lines")),
    )


def _imports(imports: Findings) -> str:
    rows = imports["most_imported"]
    highest = max((row["library"] + row["tests"] for row in rows), default=0) or 1
    table = bar_table(
        ("Module", '<span class="key first"></span>Library', '<span class="key second"></span>Tests'),
        [
            (
                row["module"],
                bar(row["library"] / highest, row["tests"] / highest),
                (number(row["library"]), number(row["tests"])),
            )
            for row in rows
        ],
    )
    return section(
        "imports",
        "Imports",
        f"{counted(imports['load_edges'], 'import')} happen while a module loads and "
        f"{number(imports['deferred_edges'])} later, among {counted(imports['modules'], 'module')}. "
        f"{counted(imports['outside'], 'other name')} lead outside: compiled, built in, or not there.",
        card(
            "Most imported",
            '<p class="note">Modules that import it, ordered by those of the library.</p>',
            table,
        ),
    )


def _cycles(cycles: Findings) -> str:
    at_import, deferred = cycles["at_import"], cycles["with_deferred"]
    return section(
        "cycles",
        "Import cycles",
        "Modules that import each other, each group with its shortest cycle. At import time such a group may "
        "work or break by which of its modules is imported first.",
        pair(
            card(f"At import time: {counted(at_import['count'], 'group')}", _cycle_list(at_import["groups"])),
            card(
                f"With deferred imports: {counted(deferred['count'], 'group')}",
                _cycle_list(deferred["groups"]),
            ),
        ),
    )


def _cycle_list(groups: list[Findings]) -> str:
    if not groups:
        return '<p class="quiet">None.</p>'
    return f'<ul class="cycles">{"".join(f"<li>{_cycle(group)}</li>" for group in groups)}</ul>'


def _cycle(group: Findings) -> str:
    names, cycle = group["modules"], group["shortest"]
    path = " →\u00a0".join([*cycle, cycle[0]])
    text = f"<code>{escape(path)}</code>"
    if len(names) in _RING_SIZES:
        text += ring(names, group["edges"], cycle)
    elif len(names) > len(cycle):
        summary = f"All {counted(len(names), 'module')} and {counted(len(group['edges']), 'import')}"
        text += folded(summary, f'<code class="modules">{escape(", ".join(names))}</code>')
    return text


def _unparsed(totals: Findings) -> str:
    rows = totals["unparsed"]
    if not rows:
        return section("unparsed", "Not parsed", "Every file is valid for this version of Python.")
    body = ""
    for row in rows:
        place = row["path"] + (f":{row['line']}" if row["line"] else "")
        fault = f'{escape(row["message"])} <span class="quiet">({escape(row["kind"])})</span>'
        body += f'<tr><td><div class="named"><code>{escape(place)}</code><span>{fault}</span></div></td></tr>'
    return section(
        "unparsed",
        "Not parsed",
        f"{counted(len(rows), 'file')} that this version of Python refuses. "
        "They count as files and lines only.",
        card(
            "Files and faults",
            f"<table><tbody>{body}</tbody></table>",
        ),
    )


def _footer() -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in _METHOD)
    return f'<footer id="method"><h2>How it is counted</h2><dl class="method">{rows}</dl></footer>'
