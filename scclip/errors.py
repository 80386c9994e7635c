"""The errors that end a command, and any error in one line.

    raise ModelError(f"weights {path}: {one_line(error)}; check --model")

This needs no PyTorch, so that verbs without a model start fast.
"""


class UserError(ValueError):
    """Wrong input by the user; one line with the value, where it is and the remedy. Ends a command with exit code 2."""


class JobFailed(Exception):
    """The job ended without doing what was asked; one line. A command ends with exit code 1."""


class ModelError(UserError):
    """The model, its weights or its calibration cannot be used."""


class DeviceLost(Exception):
    """The GPU no longer answers this process; another one may use it."""


def one_line(error: object) -> str:
    """The message of an exception, or a text, in one line of at most 200 characters, of whole words.

    A URL that is cut would no longer show that what stands in front of its @ is a password.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    head = text[:199]
    return text if len(text) <= 200 else (head.rpartition(" ")[0] or head.partition("://")[0]) + "…"
