"""What a user sees for the likeliest mistakes in a workflow file: each file in `golden/` beside the text it
must give.

After a change of wording, `python tests/workflow_files/test_golden_faults.py` writes the texts anew; read
the diff as the user who made the mistake.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from codomyrmex.exceptions import ValidationError
from codomyrmex.logistics.orchestration.project.workflow_file import load_path

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path for path in GOLDEN.iterdir() if path.suffix != ".txt")


def fault_text(path: Path) -> str:
    try:
        load_path(path, shown_as=path.name)
    except ValidationError as error:
        return f"{error}\n"
    return "no fault\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_a_mistake_is_explained_as_the_golden_text_says(path: Path) -> None:
    expected = path.with_name(f"{path.name}.txt").read_text(encoding="utf-8")

    assert fault_text(path) == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_every_explanation_names_the_file_and_a_line_where_there_is_one(path: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        load_path(path, shown_as=path.name)

    for fault in caught.value.faults:
        assert fault.file == path.name
        assert fault.line is not None or fault.code in ("empty", "syntax", "too_deep")


def test_each_golden_text_belongs_to_a_file() -> None:
    texts = {path.name for path in GOLDEN.glob("*.txt")}

    assert texts == {f"{path.name}.txt" for path in CASES}


if __name__ == "__main__":
    for case in CASES:
        case.with_name(f"{case.name}.txt").write_text(fault_text(case), encoding="utf-8")
        sys.stdout.write(f"--- {case.name}\n{fault_text(case)}")
