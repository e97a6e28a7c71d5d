"""`codomyrmex workflows test`: what workflows promise in files beside them, run in memory and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import count_text, duration_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.cli.terminal import Terminal, one_line
from codomyrmex.cli.text_table import Cell, Column, Row, table_lines

if TYPE_CHECKING:
    from codomyrmex.testing.case_file import CaseFile
    from codomyrmex.testing.case_runs import CaseResult


@click.command(cls=Command)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(exists=True, dir_okay=False))
@pass_invocation
def test(invocation: Invocation, files: tuple[str, ...]) -> int:
    """Run the tests of workflows: NAME.test.yaml beside NAME.yaml.

    Each case runs in memory and in virtual time; what it stubs is not run. Without a FILE all tests of the
    project are run: *.test.yaml (.json) in the root, in workflows/ and in tests/workflows/. Ends with 1
    when a case failed, and with 2 when a file of tests has faults; then nothing is run.
    """
    from codomyrmex.testing.case_file import case_files, read_case_file
    from codomyrmex.testing.case_runs import run_cases

    found = [Path(file) for file in files] or case_files(invocation.workspace().root)
    tests = _all_or_faults([(path, os.path.relpath(path)) for path in found], read_case_file)
    output = invocation.output
    results: list[CaseResult] = []
    for each in tests:
        for result in run_cases(each):
            results.append(result)
            output.detail(f"{result.file}: {result.case}: {'passed' if result.passed else 'failed'}")
    failed = [result for result in results if not result.passed]
    data = {
        "cases": [result.to_dict() for result in results],
        "next_cursor": None,
        "total": len(results),
        "passed": len(results) - len(failed),
        "failed": len(failed),
    }
    lines = result_lines(output.out, results)
    if failed:
        message = f"{len(failed)} of {count_text(len(results), 'case')} failed"
        output.failed(data, lines, code="tests_failed", message=message)
        output.note(message, "red")
        return 1
    output.answer(data, lines)
    if results:
        output.note(f"{count_text(len(results), 'case')} passed")
    else:
        output.note("no tests of workflows here; they stand in NAME.test.yaml beside NAME.yaml")
    return 0


def result_lines(terminal: Terminal, results: Sequence[CaseResult]) -> list[str]:
    """A table with a line for each case, and below it what was not as expected."""
    if not results:
        return []
    columns = [
        Column("RESULT"),
        Column("FILE", shrink_to=16),
        Column("CASE", shrink_to=20),
        Column("TOOK", right=True),
    ]
    rows: list[Row] = [
        [
            Cell("passed", "green") if result.passed else Cell("failed", "bold red"),
            result.file,
            result.case,
            duration_text(result.duration_s),
        ]
        for result in results
    ]
    lines = table_lines(terminal, columns, rows)
    for result in results:
        if not result.passed:
            lines += ["", terminal.paint(one_line(f"{result.file}: {result.case}"), "bold")]
            lines += [f"  {one_line(problem)}" for problem in result.problems]
    return lines


def _all_or_faults(found: Sequence[tuple[Path, str]], read: Any) -> list[CaseFile]:
    """The files, read; raises one `ValidationError` with the faults of all."""
    from codomyrmex.exceptions import Fault, ValidationError

    tests: list[CaseFile] = []
    faults: list[Fault] = []
    for path, shown in found:
        try:
            tests.append(read(path, shown_as=shown))
        except ValidationError as error:
            faults += error.faults
    if faults:
        subject = faults[0].file if len({fault.file for fault in faults}) == 1 else "the tests"
        raise ValidationError(faults, subject=subject or "the tests")
    return tests
