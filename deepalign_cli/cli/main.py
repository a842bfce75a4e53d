"""`deepalign`: the list of commands, and the one `try` that turns what is raised into words and codes."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from deepalign_cli.cli.align import align
from deepalign_cli.cli.barrier import barrier
from deepalign_cli.cli.canonicalize import canonicalize
from deepalign_cli.cli.command import Subcommand, columns, escaped, example, fold_words
from deepalign_cli.cli.demo import demo
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.inspect import inspect
from deepalign_cli.cli.interrupts import hear_once
from deepalign_cli.cli.landscape import landscape
from deepalign_cli.cli.listing import methods
from deepalign_cli.cli.merge import merge
from deepalign_cli.cli.output import is_terminal, show_error
from deepalign_cli.cli.trace import trace
from deepalign_cli.cli.train import train, zoo
from deepalign_cli.cli.transport import transport
from deepalign_cli.cli.verify import verify
from deepalign_cli.errors import DeepalignError, Interrupted, UsageError
from deepalign_cli.spelling import british
from deepalign_cli.version import __version__

PROGRAM = "deepalign"
INTERRUPTED = Interrupted.exit_code
_M_MMAP_THRESHOLD = -3  # of malloc.h
HUNG_UP = 141  # 128 + SIGPIPE: what every Unix tool reports when its reader has gone

# A command's docstring ends in an "Example:" section; it returns an exit code, or None for 0.
Command = Callable[..., int | None]

# In the order of `deepalign --help`. A command's name is its function's.
COMMANDS: tuple[Command, ...] = (
    demo, inspect, trace, align, merge, transport, canonicalize, barrier, landscape, verify, methods, zoo,
    train,
)  # fmt: skip


class _Internal(DeepalignError):
    code = "internal"


class _System(DeepalignError):
    code = "system"


class _Memory(DeepalignError):
    code = "memory"


def main(argv: Sequence[str] | None = None, commands: Sequence[Command] | None = None) -> int:
    """Run the command line `argv` (`sys.argv` by default) and return the exit code."""
    put_back = hear_once()
    try:
        return _run(argv, commands)
    finally:
        if argv is not None:  # else the program ends, and waits for its threads
            put_back()


def _run(argv: Sequence[str] | None, commands: Sequence[Command] | None) -> int:
    _return_large_blocks()
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be valid UTF-8
            stream.reconfigure(errors="surrogateescape" if _is_utf8(stream) else "backslashreplace")
    try:
        program = escaped(typer.main.get_command(build(COMMANDS if commands is None else commands)))
        code = program.main(args or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        if code == INTERRUPTED:  # Typer's own word for KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _hang_up()
    except SystemExit as exc:
        if isinstance(exc.__context__, BrokenPipeError):  # Typer turns it into an exit 1
            return _hang_up()
        raise
    except (Exception, KeyboardInterrupt) as exc:
        error = explain(exc, args)
        debug = os.environ.get("DEEPALIGN_DEBUG", "0") not in {"", "0"}
        with contextlib.suppress(BrokenPipeError):
            show_error(error, as_json=_wants_json(args), traceback=traceback.format_exc() if debug else "")
        return error.exit_code


def _return_large_blocks() -> None:
    """Have glibc return every block of 8 MB or more as soon as it is freed; other systems stay as they are.

    It raises that size by itself, up to 32 MB. What is kept after a large temporary then lies in the hole
    that this one left, the next one needs a new place, and wide networks take many times what they use.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**23)


def build(commands: Sequence[Command], *, rich_help: bool | None = None) -> typer.Typer:
    """Return the Typer application made of `commands`.

    Help is in rich's panels on a terminal that is wide enough for them and plain elsewhere
    (`rich_help` overrides).
    """
    if rich_help is None:
        rich_help = columns() >= 80 and is_terminal(sys.stdout)
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "token_normalize_func": british}
    if rich_help:
        fold_words()
    elif is_terminal(sys.stdout):
        settings["terminal_width"] = min(columns(), 80)  # Typer takes at least 50
    mode: Any = "rich" if rich_help else None
    app = typer.Typer(
        name=PROGRAM, rich_markup_mode=mode, pretty_exceptions_enable=False, context_settings=settings
    )
    app.callback(help="Align and merge neural networks that were trained separately.")(_options)
    for command in commands:
        text, examples = split_help(command)
        if not rich_help:  # which rewraps paragraphs that do not start with \b
            examples = f"\b\n{examples}"
        summary = _one_line(text.split("\n\n")[0])  # Typer would cut it to one line of help
        texts: dict[str, Any] = {"help": text, "short_help": summary, "epilog": examples}
        app.command(_name(command), cls=Subcommand, **texts)(grouped(command))
    return app


def split_help(command: Command) -> tuple[str, str]:
    """Return what `command`'s docstring says, and its examples with their heading."""
    lines = (command.__doc__ or "").expandtabs().splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip() in {"Example:", "Examples:"}]
    if not starts:
        raise TypeError(f"The docstring of {command.__name__} has no 'Example:' section.")
    text = "\n".join(line.strip() for line in lines[: starts[0]]).strip()
    summary = "\n\n".join(_one_line(paragraph) for paragraph in text.split("\n\n"))
    room = columns() - 2  # Typer indents them
    examples = [example(line.strip(), room) for line in lines[starts[0] + 1 :] if line.strip()]
    return summary, "\n".join([lines[starts[0]].strip(), *examples])


def explain(exc: BaseException, args: Sequence[str] = ()) -> DeepalignError:
    """Return what `args` raised as an error with a sentence, a hint and an exit code."""
    if isinstance(exc, DeepalignError):
        return exc
    if isinstance(exc, typer.TyperException):
        message = _one_line(exc.format_message()).replace(": Value error, ", ": ")  # Typer's words
        return UsageError(message, f"{_command_path(exc, args)} --help")
    if isinstance(exc, KeyboardInterrupt | typer.Abort):
        return Interrupted("Interrupted.")
    if isinstance(exc, MemoryError) or _is_torch_out_of_memory(exc):
        return _Memory("There is not enough memory for this.", "Free some, or use a larger machine.")
    if isinstance(exc, OSError):
        where = f"{exc.filename}: " if exc.filename else ""
        return _System(f"{where}{exc.strerror or _one_line(str(exc)) or type(exc).__name__}.")
    what = ": ".join(filter(None, [type(exc).__name__, _one_line(str(exc))]))
    hint = "Set DEEPALIGN_DEBUG=1 to see where, and please report it."
    return _Internal(f"deepalign failed unexpectedly: {what}", hint)


def _version(value: bool) -> bool:
    if value:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit
    return value


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _hang_up() -> int:
    # What is still buffered has no reader; without this the interpreter complains about it on exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return HUNG_UP


def _name(command: Command) -> str:
    return command.__name__.replace("_", "-")


def _command_path(exc: typer.TyperException, args: Sequence[str]) -> str:
    context = getattr(exc, "ctx", None)
    if context is not None:
        return str(context.command_path)
    names = {_name(command) for command in COMMANDS}
    return " ".join([PROGRAM, *(word for word in args[:1] if word in names)])


def _wants_json(args: Sequence[str]) -> bool:
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options


def _is_utf8(stream: io.TextIOWrapper) -> bool:
    return stream.encoding.lower().replace("-", "") == "utf8"


def _is_torch_out_of_memory(exc: BaseException) -> bool:
    # torch may not even be imported here: its errors are known by their names and words.
    return type(exc).__name__ == "OutOfMemoryError" or (
        isinstance(exc, RuntimeError) and "allocate memory" in str(exc)
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
