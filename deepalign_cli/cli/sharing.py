"""Where `merge` writes, its options on uploading that, and the command that makes it again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.cli.grouped import dashed, flag, option
from deepalign_cli.cli.output import Output, is_terminal
from deepalign_cli.errors import UsageError
from deepalign_cli.network.pretrained import network_name
from deepalign_cli.progress import quantity

_PANEL = "Sharing"


@dataclass(frozen=True)
class SharingOptions:
    """What `merge` takes to upload what it has written."""

    push: str | None = option(
        "Upload the merged folder to this repository of the Hugging Face Hub, after asking.",
        _PANEL, metavar="ORG/NAME",
    )  # fmt: skip
    private: bool = flag("Make the repository private, if --push creates it.", _PANEL)
    yes: bool = flag("Upload without asking.", _PANEL, short="-y")

    def check(self) -> None:
        """Check, before any work, that the upload can be confirmed and made.

        Raises:
            UsageError: it cannot, or an option has no effect.
        """
        if self.push is None:
            if self.private or self.yes:
                name = "private" if self.private else "yes"
                raise UsageError(f"--{name} goes with --push.", "add --push ORG/NAME")
            return
        from deepalign_cli.checkpoint.push import check_push

        check_push(self.push)
        if not self.yes and not _can_ask():
            raise UsageError(
                "--push asks before it uploads, and there is no terminal to ask on.", "add --yes."
            )

    def upload(self, out: Output, folder: Path, files: Sequence[str]) -> str | None:
        """Upload the files of a folder if the user asked for that and agrees; the repository's URL.

        Raises:
            OutputError: it could not be uploaded.
        """
        if self.push is None:
            return None
        from deepalign_cli.checkpoint.push import push_folder, size_of

        size = quantity(size_of(folder, files), "B")
        question = f"Upload {len(files)} files, {size}, to {self.push}?"
        if not self.yes and not typer.confirm(question, err=True):
            out.note(f"nothing was uploaded; the network is in {folder}")
            return None
        with out.progress(f"uploading {size}"):
            url = push_folder(folder, files, self.push, private=self.private)
        out.note(f"uploaded {len(files)} files, {size}: {url}")
        return url


def target_of(output: str | None, push: str | None, reference: Path, default: Path) -> tuple[Path, bool]:
    """Where to write, and whether that is a folder.

    It is one if it is written OUT/ or exists as one, if it is that of --push, or if OUT has no suffix and
    `reference`, which is A, is a folder.

    Raises:
        UsageError: --push is given with a file, or OUT may be a file or a folder.
    """
    if output is None:
        return (Path(push.split("/")[1]), True) if push else (default, False)
    is_folder = output.endswith(("/", os.sep)) or (output != "" and Path(output).is_dir())
    if output and not is_folder and not Path(output).suffix[1:2].isalpha():
        from_hub = is_reference(reference)
        is_folder = not (parse_reference(reference).names_file if from_hub else reference.is_file())
        if not is_folder:
            hint = f"write -o {output}.safetensors, or -o {output}/ for a folder with a model card"
            raise UsageError(f"'{output}' may be a file or a folder.", hint)
    if push and not is_folder:
        raise UsageError("--push uploads a folder.", f"write -o {output}/")
    return Path(output), is_folder


def words(values: Mapping[str, object]) -> list[str]:
    """Options as they are typed; those without a value are left out, and so are the folders of paths."""
    line: list[str] = []
    for name, value in values.items():
        if value is True:
            line.append(name)
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None and not isinstance(one, bool):
                line += [name, one.name if isinstance(one, Path) else str(one)]
    return line


def typed(group: object) -> dict[str, object]:
    """A group's options by the names that they are typed with; files and folders without their folders."""
    values: dict[str, object] = {}
    for name, value in vars(group).items():
        if isinstance(value, str):
            value = network_name(value) if name == "network" else without_folder(value)
        elif isinstance(value, tuple):  # a number for each input
            value = ",".join(map(str, value))
        values[dashed(name)] = value
    return values


def without_folder(text: str) -> str:
    """The name alone of a file or folder that exists; other text as it is."""
    return Path(text).name if Path(text).exists() else text


def _can_ask() -> bool:
    return sys.stdin.isatty() and is_terminal(sys.stderr)
