"""`codomyrmex workflows import`: a workflow of another tool written as a workflow file of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codomyrmex.cli.command_line import Command
from codomyrmex.cli.figures import count_text
from codomyrmex.cli.invocation import Invocation, pass_invocation
from codomyrmex.exceptions import Conflict, Fault, ValidationError

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.workflow_import.import_report import Imported, LeftOut

FORMATS = ("wfformat", "github-actions")
MAX_INPUT_BYTES = 256 * 2**20


@click.command("import", cls=Command)
@click.argument("file", metavar="FILE")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), required=True, help="What FILE is written in."
)
@click.option("-o", "--output", metavar="PATH", default="-", show_default=True,
              help="Where to write the workflow: .yaml or .json, or - for stdout.")  # fmt: skip
@click.option("--name", metavar="NAME", help="The name of the workflow.")
@click.option("--time-scale", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="wfformat: a recorded second is held for so many; 0 waits for nothing.")  # fmt: skip
@click.option("--max-cpu", type=click.FloatRange(min=0.001), metavar="N",
              help="wfformat: the most CPUs that a task may ask for.")  # fmt: skip
@click.option("--max-memory", metavar="SIZE", help="wfformat: the most memory that a task may ask for: 2GiB.")
@click.option("--isolation", type=click.Choice(("thread", "process")), default="thread", show_default=True,
              help="wfformat: where the tasks run; only in processes does memory count.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace PATH if it is there.")
@pass_invocation
def import_workflow(
    invocation: Invocation,
    /,
    file: str,
    format_: str,
    output: str,
    name: str | None,
    force: bool,
    **recording: Any,
) -> None:
    """Write a workflow of another tool as a workflow file.

    Nothing is run. wfformat reads recorded runs of scientific workflows (WfFormat JSON 1.5, also gzipped):
    every task becomes a step that holds its recorded time and resources. github-actions reads
    .github/workflows/*.yml. Everything that could not be carried over is listed on stderr, with --json under
    data.left_out.
    """
    _check_name(name)
    imported = _read(file, format_, name, recording)
    to_json = output.lower().endswith(".json")
    text = _checked_text(imported, as_json=to_json, shown_as=output)
    if output != "-":
        _write(Path(output), text, force=force)
    told = invocation.output
    workflow = imported.tree["name"]
    data = {
        "workflow": workflow,
        "file": None if output == "-" else os.path.abspath(output),
        "steps": imported.steps,
        "parameters": sorted(imported.tree.get("parameters", ())),
        "left_out": [{"file": file, **each.to_dict()} for each in imported.left_out],
        **({"text": text} if output == "-" else {}),
    }
    for each in () if told.json else imported.left_out:
        told.note(_line(file, each))
    told.answer(data, [text.rstrip("\n")] if output == "-" else [])
    if not told.json:
        where = "" if output == "-" else f", written to {output}"
        left = count_text(len(imported.left_out), "thing")
        told.note(f"{workflow}: {count_text(imported.steps, 'step')}{where}; {left} not carried over")


def _check_name(name: str | None) -> None:
    from codomyrmex.logistics.orchestration.project.workflow_import.import_report import is_name

    if name is not None and not is_name(name):
        raise click.UsageError(
            f"--name {name!r}: a name has letters, digits and _ . -, and begins with a letter or _"
        )


def _read(file: str, format_: str, name: str | None, recording: Mapping[str, Any]) -> Imported:
    text = _text(file)
    if format_ == "github-actions":
        from codomyrmex.logistics.orchestration.project.workflow_import.github_actions import (
            read_github_actions,
        )

        return read_github_actions(text, file=file, name=name)
    from codomyrmex.logistics.orchestration.project.amounts import read_size_bytes
    from codomyrmex.logistics.orchestration.project.workflow_import.wfformat import Recording, read_wfformat

    scale, size = recording["time_scale"], recording["max_memory"]
    if scale - scale != 0:
        raise click.UsageError("--time-scale is a number")
    try:
        max_memory_bytes = None if size is None else read_size_bytes(size)
    except ValueError:
        raise click.UsageError(f"--max-memory {size!r}: a size is written 512MiB or 2GiB") from None
    return read_wfformat(
        text,
        Recording(
            time_scale=scale,
            max_cpu=recording["max_cpu"],
            max_memory_bytes=max_memory_bytes,
            isolation=recording["isolation"],
            name=name,
            file=file,
        ),
    )


def _text(file: str) -> str:
    """What a file or stdin (`-`) holds, unpacked; never more than the limit is read."""
    import gzip
    import zlib

    try:
        with click.open_file(file, "rb") as stream:
            data: bytes = stream.read(MAX_INPUT_BYTES + 1)
        if data[:2] == b"\x1f\x8b":
            from io import BytesIO

            data = gzip.GzipFile(fileobj=BytesIO(data)).read(MAX_INPUT_BYTES + 1)
        if len(data) > MAX_INPUT_BYTES:
            raise _unreadable(file, f"it holds more than {MAX_INPUT_BYTES // 2**20} MiB", "too_big")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(file, f"the byte 0x{data[error.start]:02x} is not UTF-8", "encoding") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _unreadable(file, f"it cannot be unpacked: {error}", "encoding") from None
    except FileNotFoundError:
        raise _unreadable(file, "there is no such file", "not_found") from None
    except IsADirectoryError:
        raise _unreadable(file, "this is a folder: name the file", "not_found") from None


def _unreadable(file: str, message: str, code: str) -> ValidationError:
    return ValidationError([Fault(message=message, file=file, code=code)], subject=file)


def _checked_text(imported: Imported, *, as_json: bool, shown_as: str) -> str:
    """The text of the workflow, found without fault by reading it as `run` would."""
    import json

    from codomyrmex.logistics.orchestration.project.workflow_file import load_text
    from codomyrmex.logistics.orchestration.project.workflow_yaml import write_yaml

    tree = imported.tree
    text = json.dumps(tree, indent=1, ensure_ascii=False) + "\n" if as_json else write_yaml(tree)
    try:
        load_text(text, format="json" if as_json else "yaml", file=shown_as)
    except ValidationError as error:
        if not as_json and any(each.code == "too_big" for each in error.faults):
            error.hint = "write it as JSON, which may be larger: -o NAME.json"
        raise
    return text


def _write(path: Path, text: str, *, force: bool) -> None:
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise click.UsageError(f"-o {str(path)!r}: a workflow file ends in .yaml, .yml or .json")
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise Conflict(
            f"{path} is there already", hint="choose another -o, or --force to replace it"
        ) from None


def _line(file: str, left: LeftOut) -> str:
    where = f"{file}:{left.line}" if left.line else file
    advice = f"; {left.advice}" if left.advice else ""
    return f"{where}: {left.place}: {left.what}{advice}"
