"""Which errors are the user's, which the job's, and how they read in one line."""

from jobs.options import UserError
from pipeline.resources import NoResources, ResourceError, StorageProblem
from scclip.errors import ModelError, one_line
from scclip.vocabulary_lint import VocabularyError

__all__ = ["JobFailed", "NoResources", "UserError", "cause", "is_user_error", "one_line"]


class JobFailed(Exception):
    """The job ended without doing what was asked; one line, exit code 1."""


def is_user_error(error: BaseException) -> bool:
    """True for mistakes in what the user gave."""
    if isinstance(error, UserError | VocabularyError | ModelError | ResourceError | StorageProblem):
        return True  # before the pipeline is looked at: `bench model` runs where its libraries are missing
    from pipeline.inputs import InputError
    from pipeline.run import RunMismatch

    return isinstance(error, InputError | RunMismatch)


def cause(error: BaseException) -> str:
    """The innermost reason of an error that came through Ray."""
    inner = getattr(error, "cause", None) or error.__cause__
    return cause(inner) if inner is not None else f"{type(error).__name__}: {one_line(error)}"
