"""The one door through which every command leaves, in order or by an error.

An error made on purpose (`CodomyrmexError`, click's usage errors, an errno of the operating system) becomes
one message with what to do next and an exit code; with --json it becomes the error document. Ctrl-C is
130. What is left is a fault of this program: it says so, and shows its traceback only with -v.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from codomyrmex.cli.command_line import Program
from codomyrmex.cli.invocation import Invocation
from codomyrmex.cli.output import error_document
from codomyrmex.exceptions import CodomyrmexError

PROGRAM = "codomyrmex"
COMPLETION_VARIABLE = "_CODOMYRMEX_COMPLETE"
INTERRUPTED = 130
BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; never raises for a mistake of the user."""
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        return _complete(instruction)
    # A mistake in the line may stand before --json is reached, and is still to be told in JSON.
    words = list(arguments)
    head = words[: words.index("--")] if "--" in words else words
    invocation = Invocation(json="--json" in head)
    try:
        return _invoke(words, invocation)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return _told(invocation, "interrupted", "interrupted", INTERRUPTED)
    except click.UsageError as error:
        return _usage(invocation, error)
    except click.ClickException as error:
        return _told(invocation, "usage", error.format_message(), error.exit_code)
    except CodomyrmexError as error:
        return _told(
            invocation, error.code, error.message, error.exit_code, hint=error.hint, details=error.details
        )
    except KeyboardInterrupt:
        return _told(invocation, "interrupted", "interrupted", INTERRUPTED)
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        return _told(invocation, "os_error", _os_message(error), 1)
    except RecursionError:
        return _told(invocation, "internal", "the input is nested too deeply", 1)
    except Exception as error:  # noqa: BLE001 - the door handler: nothing may leave as a traceback
        return _internal(invocation, error)


def _invoke(words: list[str], invocation: Invocation) -> int:
    program = Program()
    with program.make_context(PROGRAM, words, obj=invocation) as context:
        code = program.invoke(context)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _complete(instruction: str) -> int:
    from click.shell_completion import shell_complete

    return shell_complete(Program(), {"obj": Invocation()}, PROGRAM, COMPLETION_VARIABLE, instruction)


def _usage(invocation: Invocation, error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx is not None else PROGRAM
    hint = f"{path} --help shows what it takes"
    return _told(invocation, "usage", _usage_message(error), error.exit_code, hint=hint)


def _usage_message(error: click.UsageError) -> str:
    """click's message in our form: no capital, no full stop, one nearest word."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        from difflib import get_close_matches

        known = [name for parameter in error.ctx.command.get_params(error.ctx) for name in parameter.opts]
        nearest = get_close_matches(error.option_name, known, n=1)
        advice = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return f"no option {error.option_name!r}{advice}"
    message = " ".join(error.format_message().split()).removesuffix(".")
    return message[:1].lower() + message[1:] if message else "this line cannot be read"


def _told(
    invocation: Invocation,
    code: str,
    message: str,
    exit_code: int,
    *,
    hint: str | None = None,
    details: object = None,
) -> int:
    output = invocation.output
    if output.json:
        output.document(error_document(code, message, hint, details))
        return exit_code
    sys.stdout.flush()
    output.err.line(f"{output.err.paint('error:', 'bold red')} {message}")
    if hint:
        output.err.line(f"  {hint}")
    output.err.flush()
    return exit_code


def _os_message(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _reader_gone() -> int:
    # The interpreter flushes stdout once more at its end and would complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _internal(invocation: Invocation, error: Exception) -> int:
    if invocation.verbose:
        import traceback

        traceback.print_exception(error)
    message = f"{type(error).__name__}: {error}"
    hint = "this is a fault of codomyrmex itself; the same command with -v shows where"
    return _told(invocation, "internal", message, 1, hint=hint)
