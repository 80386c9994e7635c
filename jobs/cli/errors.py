"""Which errors are the user's, which the job's, and how they read in one line."""

from scclip.errors import ModelError, one_line
from scclip.jobs.cli.options import UserError
from scclip.pipeline.cluster.resources import NoResources, ResourceError, StorageProblem
from scclip.vocabulary.lint import VocabularyError

__all__ = ["JobFailed", "NoResources", "UserError", "cause", "is_user_error", "one_line"]

CHAINED = "The above exception was the direct cause of the following exception:"  # as Python prints it


class JobFailed(Exception):
    """The job ended without doing what was asked; one line, exit code 1."""


def is_user_error(error: BaseException) -> bool:
    """True for mistakes in what the user gave."""
    if isinstance(error, UserError | VocabularyError | ModelError | ResourceError | StorageProblem):
        return True  # before the pipeline is looked at: `bench model` runs where its libraries are missing
    try:
        from scclip.pipeline.inputs.resolve import InputError
        from scclip.pipeline.run.generations import RunMismatch
        from scclip.pipeline.storage.ranges import FilesystemMissing
    except ImportError:
        return False
    return isinstance(error, InputError | FilesystemMissing | RunMismatch)


def cause(error: BaseException) -> str:
    """The first reason of an error that came through Ray: type and message, in one line.

    What a worker raised first does not travel with the exception, only with its printed traceback.
    """
    first, chained, _ = str(error).partition(CHAINED)
    if chained:
        kind, _, message = first.strip().splitlines()[-1].partition(": ")
        return f"{kind.rpartition('.')[2]}: {message}"
    inner = getattr(error, "cause", None) or error.__cause__
    return cause(inner) if inner is not None else f"{type(error).__name__}: {one_line(error)}"
