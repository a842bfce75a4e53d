"""Errors of the Hugging Face Hub in a sentence; and its client kept quiet."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from deepalign_cli.errors import CheckpointError, DeepalignError, UsageError, one_line

ELSEWHERE = "download the files by other means and give their path."
LOGIN = "log in with `hf auth login`, or set HF_TOKEN."


class Unreachable(CheckpointError, code="unreachable"):
    """The Hub cannot be reached, and the cache has no copy."""


@contextmanager
def explained(reference: str) -> Iterator[None]:
    """Turn what fetching `reference` raises into one of ours.

    Raises:
        UsageError: the Hub has no such thing, or does not show it. CheckpointError: it could not be fetched.
    """
    from huggingface_hub import errors

    try:
        yield
    except DeepalignError:
        raise
    except errors.GatedRepoError:
        raise UsageError(
            f"access to '{reference}' requires that you accept its conditions.",
            f"accept them on its page, and {LOGIN}",
        ) from None
    except errors.LocalEntryNotFoundError as error:  # for every answer but that there is none
        refused = status_of(error.__cause__) in (401, 403)
        raise _other(reference, error.__cause__) if refused else _unreachable(reference) from None
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
        errors.HFValidationError,
    ):
        raise UsageError(
            f"the Hugging Face Hub has no '{reference}', or does not show it to you.",
            "check organisation, repository, revision and file; a private one needs `hf auth login`.",
        ) from None
    except Exception as error:  # of several HTTP clients, by the version of huggingface_hub
        raise _other(reference, error) from None


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status that an error carries, if it does."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def is_connection(error: BaseException | None) -> bool:
    """Whether the Hub could not be reached: no route, no answer, or a server error."""
    status = status_of(error)
    if status is not None:
        return status >= 500
    names = {kind.__name__ for kind in type(error).__mro__}  # of httpx and of requests alike
    return bool(names & {"ConnectionError", "ConnectError", "Timeout", "TimeoutException", "TransportError"})


@contextmanager
def silence() -> Iterator[None]:
    """Keep the Hub's bars and warnings off stderr; it shows them off a terminal and beside JSON too."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger, shown = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()


def _unreachable(reference: str) -> Unreachable:
    return Unreachable(
        f"'{reference}' could not be fetched: the Hugging Face Hub cannot be reached, and there is no copy "
        "in its cache.",
        f"try again later, or {ELSEWHERE}",
    )


def _other(reference: str, error: BaseException | None) -> CheckpointError:
    status = status_of(error)
    if is_connection(error):
        return _unreachable(reference)
    if status in (401, 403):
        problem = "the access token is not valid" if status == 401 else "the access token does not allow it"
        return CheckpointError(f"'{reference}' could not be fetched: {problem}.", LOGIN)
    message = f"'{reference}' could not be fetched: {one_line(error)}."
    return CheckpointError(message, f"try again, or {ELSEWHERE}")
