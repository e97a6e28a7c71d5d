"""A workflow made in Python, its file, and what is made from the file say the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from random_documents import workflows

from codomyrmex.logistics.orchestration.project.workflow import Workflow
from codomyrmex.logistics.orchestration.project.workflow_file import load_text, write_text


def round_trip(workflow: Workflow) -> None:
    document = workflow.to_document()
    isolation = document.pop("isolation", None)
    again = Workflow.from_document(document)

    assert isolation == "thread"
    assert json.loads(json.dumps(document)) == document
    assert again.to_document() == document
    for format in ("yaml", "json"):
        loaded = load_text(write_text(document, format), format=format).document
        assert loaded == document
        read = Workflow.from_document(loaded)
        assert read.all_steps == again.all_steps
        assert read.to_dict() == again.to_dict()
        assert read.to_document() == document


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(workflows())
def test_any_workflow_survives_its_file(workflow: Workflow) -> None:
    round_trip(workflow)


@pytest.mark.reliability
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(workflows())
def test_a_thousand_workflows_survive_their_files(workflow: Workflow) -> None:
    round_trip(workflow)
