"""The promised figures, on cut-down input and at three times their value; `make bench` measures them whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def measured(script: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), "--json", *options]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_a_chain_and_a_fan_out_of_10_000_run_and_an_item_costs_at_most_400_bytes() -> None:
    figures = measured("scale.py", "--tasks", "10000")
    assert (figures["chain"]["status"], figures["chain"]["completed"]) == ("completed", 10_000)
    assert (figures["fan-out"]["status"], figures["fan-out"]["completed"]) == ("completed", 10_001)
    assert figures["fan-out"]["bytes_highest"] <= 400


def test_the_command_an_engine_and_a_worker_are_ready_in_time() -> None:
    figures = measured("cold_start.py", "--rounds", "3")
    limits = {"import": 60, "--version": 100, "engine, one task, close": 200, "worker ready": 120}
    late = {
        name: figures[name]["best"] for name, limit in limits.items() if figures[name]["best"] > 3 * limit
    }
    assert not late
