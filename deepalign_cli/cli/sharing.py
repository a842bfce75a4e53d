"""The options on sharing a merged network, and the question before anything is uploaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.cli.output import Output, is_terminal, quantity
from deepalign_cli.errors import UsageError
from deepalign_cli.network.pretrained import network_name

_PANEL = "Sharing"


@dataclass(frozen=True)
class SharingOptions:
    """What `merge` takes to upload what it has written."""

    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="ORG/NAME",
            help="Upload the merged folder to this repository of the Hugging Face Hub, after a question.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="Make the repository private, where --push makes it.", rich_help_panel=_PANEL
        ),
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Upload without the question.", rich_help_panel=_PANEL)
    ] = False

    def check(self) -> None:
        """Check, before any work, that it can be asked and uploaded.

        Raises:
            UsageError: it cannot, or an option has no effect.
        """
        if self.push is None:
            for name in ("private", "yes"):
                if getattr(self, name):
                    raise UsageError(
                        f"--{name} goes with --push.", "deepalign merge A B -o OUT/ --push ORG/NAME"
                    )
            return
        from deepalign_cli.operations.push import check_push

        check_push(self.push)
        if not self.yes and not _can_ask():
            raise UsageError(
                "--push asks before it uploads, and there is no terminal to ask on.", "add --yes."
            )

    def upload(self, out: Output, folder: Path, files: Sequence[str]) -> str | None:
        """Upload the files of a folder if that is asked for and agreed to; the repository's URL.

        Raises:
            OutputError: it could not be uploaded.
        """
        if self.push is None:
            return None
        from deepalign_cli.operations.push import push_folder, size_of

        size = quantity(size_of(folder, files), "B")
        if not self.yes and not typer.confirm(
            f"Upload {len(files)} files, {size}, to {self.push}?", err=True
        ):
            out.note(f"nothing was uploaded; the network is in {folder}")
            return None
        with out.progress(f"uploading {size}"):
            url = push_folder(folder, files, self.push, private=self.private)
        out.note(f"uploaded {len(files)} files, {size}: {url}")
        return url


def target_of(output: str | None, push: str | None, reference: Path, default: Path) -> tuple[Path, bool]:
    """Where to write, and whether that is a folder.

    It is where it is written OUT/, is there, is that of --push, or has no suffix and `reference`, which is A,
    is one.

    Raises:
        UsageError: --push is given with a file; nothing tells whether a file or a folder is meant.
    """
    if output is None:
        return (Path(push.split("/")[1]), True) if push else (default, False)
    folder = output.endswith(("/", os.sep)) or (output != "" and Path(output).is_dir())
    if output and not folder and not Path(output).suffix[1:2].isalpha():
        from_hub = is_reference(reference)
        folder = not (parse_reference(reference).names_file if from_hub else reference.is_file())
        if not folder:
            raise UsageError(
                f"'{output}' may be a file or a folder.",
                f"write -o {output}.safetensors, or -o {output}/ for a folder with a model card",
            )
    if push and not folder:
        raise UsageError("--push uploads a folder.", f"write -o {output}/")
    return Path(output), folder


def words(given: Mapping[str, object]) -> list[str]:
    """Options by their names, as they are typed; what was not given is left out, and so are folders."""
    made: list[str] = []
    for name, value in given.items():
        if value is True:
            made.append(name)
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None and not isinstance(one, bool):
                made += [name, one.name if isinstance(one, Path) else str(one)]
    return made


def typed(group: object) -> dict[str, object]:
    """A group's options by the names that they are typed with; a network and data by their names alone."""
    given: dict[str, object] = {
        f"--{name.rstrip('_').replace('_', '-')}": value for name, value in vars(group).items()
    }
    for name, value in given.items():
        if isinstance(value, str):
            given[name] = network_name(value) if name == "--network" else without_folder(value)
    return given


def without_folder(text: str) -> str:
    """What is a file or a folder here by its name alone."""
    return Path(text).name if Path(text).exists() else text


def _can_ask() -> bool:
    return sys.stdin.isatty() and is_terminal(sys.stderr)
