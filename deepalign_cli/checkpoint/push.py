"""Uploading a folder that was just written to a repository of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deepalign_cli.checkpoint.hub import is_offline
from deepalign_cli.checkpoint.hub_errors import LOGIN, is_connection, silence, status_of
from deepalign_cli.errors import DeepalignError, OutputError, UsageError, one_line

_NAME = re.compile(r"(?!-|\.)[A-Za-z0-9._-]{1,96}(?<![-.])")


def check_push(repository: str) -> None:
    """Refuse, before any work, what could not be uploaded in the end. The Hub is not contacted.

    Raises:
        UsageError: the name is not valid, the program is offline, or there is no access token.
    """
    parts = repository.split("/")
    valid = len(parts) == 2 and all(map(_NAME.fullmatch, parts))
    if not valid or ".." in repository or "--" in repository or repository.endswith((".git", ".ipynb")):
        problem = f"{repository!a} is not the name of a repository on the Hugging Face Hub."
        raise UsageError(problem, "write --push ORG/NAME: letters, digits, '-', '_' and '.'.")
    if is_offline():
        hint = "leave out --offline, or unset HF_HUB_OFFLINE."
        raise UsageError("--push needs the Hugging Face Hub, and this run is offline.", hint)
    from huggingface_hub import get_token

    if get_token() is None:
        raise UsageError("there is no access token for the Hugging Face Hub.", LOGIN)


def push_folder(folder: Path, files: Sequence[str], repository: str, *, private: bool = False) -> str:
    """Upload files of a folder in one commit; the repository is created if it is missing. Returns its URL.

    `private` is for a repository that is created.

    Raises:
        OutputError: it could not be uploaded.
    """
    with _explained(folder, repository), silence():
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi()
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(name, str(folder / name)) for name in files]
        api.create_commit(repository, operations, commit_message="Upload a network merged by deepalign")
        return str(url)


def size_of(folder: Path, files: Sequence[str]) -> int:
    """How many bytes the files have together."""
    return sum((folder / name).stat().st_size for name in files)


@contextmanager
def _explained(folder: Path, repository: str) -> Iterator[None]:
    """Turn what uploading raises into a sentence. The folder still exists, and the hint says so.

    Raises:
        OutputError: uploading failed.
    """
    try:
        yield
    except DeepalignError:
        raise
    except Exception as error:  # of several HTTP clients, by the version of huggingface_hub
        again = f"upload '{folder}' with `hf upload {repository} {folder}`"
        status = _status(error)
        if status == 401:
            problem, first = "the access token is not valid", "log in with `hf auth login`; "
        elif status in (403, 404):
            problem, first = "the access token may not write there", "check ORG and the token's rights; "
        elif is_connection(error):
            problem, first = "the Hugging Face Hub cannot be reached", ""
        else:
            problem, first = one_line(error), ""
        raise OutputError(f"'{repository}' could not be uploaded: {problem}.", f"{first}{again}.") from None


def _status(error: BaseException) -> int | None:
    """The HTTP status of an error, or of the one that caused it: uploads of large files wrap theirs."""
    while status_of(error) is None and error.__cause__ is not None:
        error = error.__cause__
    return status_of(error)
