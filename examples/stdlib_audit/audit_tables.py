"""The building blocks of the page: cards, tables of functions, tables whose rows are bars. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from audit_charts import bar, percent
from audit_facts import Findings

QUANTILES = (("median", "Median"), ("p90", "90% are at most"), ("p99", "99% are at most"), ("max", "Maximum"))


def number(value: int) -> str:
    """Write a number with its thousands apart."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """Write a number and its noun, in the plural unless it is one."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def card(title: str, *content: str) -> str:
    """Frame one chart or table under its title."""
    return f'<div class="card"><h3>{title}</h3>{"".join(content)}</div>'


def pair(*cards: str, stretched: bool = False) -> str:
    """Set two cards side by side where there is room; `stretched` makes them end on one line."""
    return f'<div class="pair{" stretched" if stretched else ""}">{"".join(cards)}</div>'


def section(anchor: str, title: str, lead: str, *content: str) -> str:
    """Write a part of the page: its title, one sentence on what it shows, then cards."""
    return f'<section id="{anchor}"><h2>{title}</h2><p class="lead">{lead}</p>{"".join(content)}</section>'


def function_table(rows: list[Findings], unit: str) -> str:
    """Rank functions: name above place, the value as number and bar."""
    if not rows:
        return '<p class="quiet">None.</p>'
    highest = max(row["value"] for row in rows) or 1
    body = "".join(
        f'<tr><td class="rank wide">{place}</td><td><div class="named"><code>{escape(row["name"])}</code>'
        f'<span class="path">{escape(row["path"])}:{row["line"]}</span></div></td>'
        f'<td class="chart wide">{bar(row["value"] / highest)}</td>'
        f'<td class="num">{number(row["value"])}</td></tr>'
        for place, row in enumerate(rows, 1)
    )
    return (
        '<table class="ranking"><thead><tr><th class="rank wide" scope="col">#</th>'
        '<th scope="col"><div class="named"><span>Function</span>'
        '<span class="wide">File and line</span></div></th>'
        '<th class="wide" scope="col"></th>'
        f'<th class="num" scope="col">{unit.capitalize()}</th></tr></thead><tbody>{body}</tbody></table>'
    )


def folded(summary: str, content: str) -> str:
    """Hide content behind a line that opens it."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def quantile_table(findings: Findings) -> str:
    """Compare library and tests by their quantiles."""
    head = "".join(f'<th class="num" scope="col">{name}</th>' for name in ("Library", "Tests"))
    rows = [("Functions", findings["library"]["functions"], findings["tests"]["functions"])]
    rows += [(title, findings["library"][key], findings["tests"][key]) for key, title in QUANTILES]
    body = "".join(
        f'<tr><th scope="row">{title}</th><td class="num">{number(library)}</td>'
        f'<td class="num">{number(tests)}</td></tr>'
        for title, library, tests in rows
    )
    return f'<table><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{body}</tbody></table>'


def bar_table(columns: Iterable[str], rows: Iterable[tuple[str, str, Iterable[str]]]) -> str:
    """Write rows of a name, a bar and some numbers; `columns` names the first and the last of these."""
    first, *others = columns
    head = f'<th scope="col">{first}</th><th scope="col"></th>'
    head += "".join(f'<th class="num" scope="col">{name}</th>' for name in others)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="chart">{drawn}</td>'
        + "".join(f'<td class="num">{text}</td>' for text in numbers)
        + "</tr>"
        for name, drawn, numbers in rows
    )
    return f'<table class="bars"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def coverage_table(noun: str, rows: list[Findings], key: str) -> str:
    """Show which share of the public things of each row has a docstring."""
    return bar_table(
        (noun, "Public", "Documented"),
        (
            (
                row[key],
                bar(row["documented"] / row["public"] if row["public"] else 0),
                (number(row["public"]), percent(row["documented"], row["public"])),
            )
            for row in rows
        ),
    )
