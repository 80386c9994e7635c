"""What is wrong with a model or its device, and how any error reads in one line.

Without PyTorch: verbs without a model start fast.

raise ModelError(f"weights {path}: {one_line(error)}; check --model")
"""


class UserError(ValueError):
    """Wrong input of the user's, in one line: the value, the place, the remedy. Ends a command with exit code 2."""


class JobFailed(Exception):
    """The job ended without doing what was asked; one line. Ends a command with exit code 1."""


class ModelError(UserError):
    """The model, its weights or its calibration cannot be used; the message says which, where and what to do."""


class DeviceLost(Exception):
    """The GPU no longer answers this process; another one may use it."""


def one_line(error: BaseException) -> str:
    """The gist of an exception in one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
