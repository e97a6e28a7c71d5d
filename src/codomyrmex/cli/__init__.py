"""The command line: one file per noun, results on stdout, everything else on stderr.

Layer: the topmost; it calls the engine and the readers and is called by nobody. Command modules are
imported when their command is used (`command_table`), rich only by the live view, so that a quick
command stays quick. Every error leaves through `door`.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of `codomyrmex`: runs the command line of this process and exits with its code."""
    import sys

    from codomyrmex.cli.door import run

    sys.exit(run(sys.argv[1:]))
