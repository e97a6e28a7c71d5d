"""Runs programs in one Jupyter kernel, cell by cell or each as one cell, and prints what came back as JSON.

A process of its own, because a client of a kernel holds threads and sockets that a test must not leave behind.

    python notebook_kernel.py FOLDER (cells | whole) FILE...
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

START_LIMIT_S = 30
CELL_LIMIT_S = 30


def cells_of(program: str) -> list[str]:
    """A program cut at its `# %%` lines, as editors do that show such a file as a notebook."""
    return [cell for cell in re.split(r"(?m)^(?=# %%)", program) if cell.strip()]


def run_cells(client: Any, cells: list[str]) -> dict[str, Any]:
    """What the cells printed, what their last expressions showed, and the errors they ended with."""
    told: dict[str, Any] = {"stdout": "", "stderr": "", "shown": [], "errors": []}

    def note(message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            told[content["name"]] += content["text"]
        elif kind in ("execute_result", "display_data"):
            told["shown"].append(content["data"])
        elif kind == "error":
            told["errors"].append(f"{content['ename']}: {content['evalue']}")

    for cell in cells:
        client.execute_interactive(cell, timeout=CELL_LIMIT_S, output_hook=note, store_history=False)
    return told


def main(folder: str, mode: str, *files: str) -> None:
    from jupyter_client.manager import KernelManager

    with tempfile.TemporaryDirectory(prefix="k") as sockets:
        manager = KernelManager(transport="ipc", connection_file=f"{sockets}/k.json")
        manager.start_kernel(cwd=folder)
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=START_LIMIT_S)
            programs = {file: Path(file).read_text(encoding="utf-8") for file in files}
            told = {
                Path(file).name: run_cells(client, cells_of(text) if mode == "cells" else [text])
                for file, text in programs.items()
            }
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
