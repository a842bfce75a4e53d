import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from deepalign_cli import __version__
from deepalign_cli.cli import main as cli
from deepalign_cli.cli.command import escaped
from deepalign_cli.cli.options import (
    AlignedOptions,
    AlignmentOptions,
    CheckpointA,
    CheckpointB,
    ShowOptions,
)
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Method
from deepalign_cli.errors import DeepalignError, MismatchError
from tests.cli.terminal import on_a_terminal

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent.parent
COMMAND_LINE = [sys.executable, "-m", "deepalign_cli"]


def fail_with(problem: str, *, show: ShowOptions) -> int | None:
    """Fail in the way that was asked for [sic].

    Example:
        deepalign fail-with interrupt --json
    """
    problems: dict[str, BaseException] = {
        "mismatch": MismatchError("The tensors 'a' and 'b\x1b[31m' do not fit.", "Look at both."),
        "bug": ZeroDivisionError("one\nover\nzero"),
        "wordless": ValueError(),
        "memory": MemoryError(),
        "torch-memory": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        "missing": FileNotFoundError(2, "No such file or directory", "a.safetensors"),
        "interrupt": KeyboardInterrupt(),
        "pipe": BrokenPipeError(32, "Broken pipe"),
        "bad-parameter": typer.BadParameter("two words"),
    }
    out = show.sink("fail-with")
    if problem == "no":
        return 1
    if problem == "none":
        out.result({"output": "x"}, lambda console: console.print("fine"), "x")
        return None
    raise problems[problem]


def many_options(
    a: CheckpointA, b: CheckpointB, *, method: Method = None, aligning: AlignmentOptions,
    running: RunningOptions, common: AlignedOptions,
) -> int | None:  # fmt: skip
    """Take every shared option, and have a first sentence that is too long for one line of the list.

    Examples:
        deepalign many-options a b
        deepalign many-options a b --heads 8
    """
    return None


COMMANDS = (fail_with, many_options)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(cli, "COMMANDS", COMMANDS)

    def run(*argv: str) -> tuple[int, str, str]:
        code = cli.main(argv)
        return code, *capsys.readouterr()

    return run


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_in_full(run: Run, argv: list[str]) -> None:
    code, out, err = run(*argv)

    assert (code, err) == (0, "")
    assert "fail-with" in out
    assert "too long for one line of the list." in " ".join(out.split())


@pytest.mark.parametrize("rich_help", [False, True])
def test_help_shows_brackets_and_examples_as_they_are(
    rich_help: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    program = escaped(typer.main.get_command(cli.build(COMMANDS, rich_help=rich_help)))

    for argv in (["fail-with", "--help"], ["many-options", "--help"], ["--help"]):
        program.main(argv, prog_name="deepalign", standalone_mode=False)
    out = capsys.readouterr().out

    assert "asked for [sic]." in out
    assert "deepalign fail-with interrupt --json\n" in out.replace(" \n", "\n") or rich_help
    assert "deepalign many-options a b --heads 8" in out
    assert ("How to align" in out) == rich_help


def test_a_command_without_an_example_is_refused() -> None:
    def bare() -> None:
        """Do it."""

    with pytest.raises(TypeError, match="bare has no 'Example:'"):
        cli.build([bare])


@pytest.mark.parametrize("command", [*cli.COMMANDS, *COMMANDS], ids=lambda command: command.__name__)
def test_every_command_has_an_example_and_every_option_help(
    command: cli.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    group = typer.main.get_command(cli.build([command], rich_help=False))
    (name,) = group.commands

    assert "Example" in group.commands[name].epilog
    assert f"deepalign {name}" in group.commands[name].epilog
    for param in group.commands[name].params:
        assert getattr(param, "help", "") or command is fail_with, f"{name}: {param.name}"


def test_help_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'scipy', 'numpy', 'safetensors', 'huggingface_hub'} & set(sys.modules)"
    code = f"import sys, deepalign_cli.cli.main as cli; cli.main(['--help']); print({heavy}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stderr == "set()\n"


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"deepalign {__version__}\n", "")


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "exit_code", "code", "message", "hint"),
    [
        ("mismatch", 3, "mismatch", "The tensors 'a' and 'b\\x1b[31m' do not fit", "Look at both"),
        ("bug", 1, "internal", "deepalign failed unexpectedly: ZeroDivisionError: one over zero", "DEBUG=1"),
        ("wordless", 1, "internal", "deepalign failed unexpectedly: ValueError", "DEEPALIGN_DEBUG=1"),
        ("memory", 1, "memory", "There is not enough memory for this", "larger"),
        ("torch-memory", 1, "memory", "There is not enough memory for this", "larger"),
        ("missing", 1, "system", "a.safetensors: No such file or directory", ""),
        ("interrupt", 130, "interrupted", "Interrupted", ""),
        ("bad-parameter", 2, "usage", "Invalid value: two words", "deepalign"),
    ],
)
def test_an_error_is_a_sentence_a_hint_and_an_exit_code(
    run: Run, problem: str, exit_code: int, code: str, message: str, hint: str
) -> None:
    got, out, err = run("fail-with", problem)
    assert (got, out) == (exit_code, "")
    lines = err.splitlines()
    assert lines[0] == f"error: {message}"
    assert len(lines) == (2 if hint else 1)
    assert not hint or (lines[1].startswith("hint: ") and hint in lines[1])

    got, out, err = run("fail-with", problem, "--json")
    assert (got, out) == (exit_code, "")
    told = json.loads(err)
    assert list(told) == ["schema", "error"]
    assert told["schema"] == 1
    assert list(told["error"]) == ["code", "message", "hint"]
    assert told["error"]["code"] == code
    assert told["error"]["message"].replace("\x1b", "\\x1b") == message
    assert hint in told["error"]["hint"]


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["fail-with"], "Missing argument 'problem'", "deepalign fail-with --help"),
        (["fail"], "No such command 'fail'", "deepalign --help"),
        (["fail-wiht"], "No such command 'fail-wiht'. Did you mean 'fail-with'?", "deepalign --help"),
        (["fail-with", "none", "--jsn"], "No such option: --jsn", "deepalign fail-with --help"),
        (["many-options", "a", "b", "-m"], "Option '-m' requires an argument", "deepalign many-options"),
        (["many-options", "a", "b", "c"], "Got unexpected extra argument(s) (c)", "deepalign many-options"),
        (["many-options", "a", "b", "--heads", "0"], "Invalid value for '--heads': ", "deepalign many"),
        (
            ["many-options", "a", "b", "--activation", "reluu"],
            "Invalid value for '--activation': 'reluu' is not one of 'relu', ",
            "deepalign many-options --help",
        ),
        (["fail-with", "none", "--json", "-q"], "--json and -q exclude each other", "leave out -q"),
    ],
)
def test_a_wrong_command_line_exits_2_with_a_sentence_and_the_help_to_read(
    run: Run, argv: list[str], message: str, hint: str
) -> None:
    code, out, err = run(*argv)
    lines = err.splitlines()

    if "--json" in argv:
        told = json.loads(err)["error"]
        assert told["code"] == "usage"
        lines = [f"error: {told['message']}", f"hint: {told['hint']}"]
    assert (code, out, len(lines)) == (2, "", 2)
    assert lines[0].startswith(f"error: {message}")
    assert lines[1].startswith(f"hint: {hint}")


def test_a_wrong_command_line_with_json_is_a_json_error(run: Run) -> None:
    code, out, err = run("fail-with", "--json", "--no-such-option")

    assert (code, out) == (2, "")
    assert json.loads(err)["error"]["code"] == "usage"


def test_json_after_a_double_dash_is_an_argument(run: Run) -> None:
    code, _, err = run("fail-with", "--", "--json", "b")

    assert code == 2
    assert err.startswith("error: ")


def test_the_traceback_is_shown_when_debugging(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPALIGN_DEBUG", "1")

    _, _, err = run("fail-with", "bug")
    assert err.startswith("Traceback")
    assert err.splitlines()[-2].startswith("error: ")
    _, _, err = run("fail-with", "bug", "--json")
    assert "ZeroDivisionError" in json.loads(err)["error"]["traceback"]


def test_a_command_returns_its_exit_code(run: Run) -> None:
    assert run("fail-with", "no") == (1, "", "")
    assert run("fail-with", "none") == (0, "fine\n", "")


def test_every_error_class_has_its_own_code_and_a_known_exit_code() -> None:
    def walk(kind: type[DeepalignError]) -> list[type[DeepalignError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in walk(child))]

    kinds = walk(DeepalignError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {kind.exit_code for kind in kinds} == {1, 2, 3, 4, 130}


# --- the world around -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["--help"], ["nonsense"]])
def test_a_reader_that_has_gone_ends_it_quietly(argv: list[str]) -> None:
    process = subprocess.Popen(
        [*COMMAND_LINE, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stream:
        err = stream.read().decode()

    assert process.wait() == (141 if argv == ["--help"] else 2)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.slow
def test_a_result_whose_reader_has_gone_ends_it_quietly() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _script("fail-with", "pipe")], capture_output=True, text=True, cwd=ROOT
    )

    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


@pytest.mark.slow
def test_ctrl_c_exits_130() -> None:
    code = (
        "import os, signal, sys\n"
        "from deepalign_cli.cli import main as cli\n"
        "def wait():\n"
        '    """Wait.\n\n    Example:\n        deepalign wait\n    """\n'
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "def other():\n"
        '    """Wait.\n\n    Example:\n        deepalign other\n    """\n'
        "sys.exit(cli.main(['wait'], [wait, other]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)

    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "error: Interrupted\n")


@pytest.mark.slow
def test_the_module_runs_like_the_program() -> None:
    done = subprocess.run([*COMMAND_LINE, "--version"], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout == f"deepalign {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_script(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    shown = subprocess.run(
        [*COMMAND_LINE, "--show-completion", shell], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    sourced = subprocess.run(
        COMMAND_LINE,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment, "_DEEPALIGN_COMPLETE": f"source_{shell}"},
    )

    for script in (sourced.stdout, shown.stdout if shown.returncode == 0 else sourced.stdout):
        assert "_DEEPALIGN_COMPLETE=complete_" in script


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("deepalign ", ["fail-with", "many-options"]),
        ("deepalign ma", ["many-options"]),
        ("deepalign many-options --activation t", ["tanh"]),
        ("deepalign many-options --acti", ["--activation"]),
    ],
)
def test_completion_of_words(
    words: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_DEEPALIGN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))

    with pytest.raises(SystemExit) as exit_info:
        cli.main([], COMMANDS)

    assert not exit_info.value.code
    assert capsys.readouterr().out.split() == expected


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 100])
def test_help_on_a_terminal_cuts_nothing(columns: int) -> None:
    shown = on_a_terminal(_script("many-options", "-h"), columns)

    assert "…" not in shown
    assert ("╭" in shown) == (columns == 100)
    for command_line in ("deepalign many-options a b", "deepalign many-options a b --heads 8"):
        assert command_line in shown


def _script(*argv: str) -> str:
    return f"import sys; from tests.cli import test_main as t; sys.exit(t.cli.main({argv}, t.COMMANDS))"


_LIES_IN_HEAP = """
import contextlib, io, torch
from deepalign_cli.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    {call}
block = torch.ones(6_000_000)  # 24 MB, after which glibc by itself would not map 16 MB any more
del block
block = torch.ones(4_000_000).data_ptr()
heap = next(line for line in open("/proc/self/maps") if "[heap]" in line).split()[0]
start, end = (int(x, 16) for x in heap.split("-"))
print(start <= block < end)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="only glibc keeps large blocks"
)
@pytest.mark.parametrize(("call", "lies"), [("main(['--version'])", "False"), ("pass", "True")])
def test_large_blocks_are_returned_when_they_are_freed(call: str, lies: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIES_IN_HEAP.format(call=call)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == lies
