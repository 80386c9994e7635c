"""Retries of storage requests, bounded and counted, and messages without credentials.

>>> with_retries(lambda: fs.cat_file(path), "read", url)   # raises FileNotFoundError, PermissionError or StorageError
"""

import errno
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from scclip.pipeline.storage.secrets import hidden

T = TypeVar("T")


class StorageError(OSError):
    """A storage request that failed for good; one line with the redacted URL and the cause."""


class StorageUnavailable(StorageError):
    """All attempts failed, but a later one may succeed: the fault lies with the storage, not with the input."""


class ShortReadError(OSError):
    """Fewer bytes came than the file has; a retry may bring the rest."""


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """How storage requests are repeated: attempt k waits a random half to whole of first_delay·2^(k-1) seconds."""

    attempts: int = 8
    """Tries of one request, the first included: at 10 % faults all of them fail once in 10^8 requests."""
    first_delay: float = 0.1
    """Seconds before the first repetition."""
    max_delay: float = 10.0
    """Upper bound of one wait, seconds; the waits of 8 attempts add up to at most 17 s."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"retry attempts is {self.attempts}; give 1 or more")
        first, most = self.first_delay, self.max_delay
        if not 0 <= first <= most:
            raise ValueError(f"retry delays are {first}, {most}; give 0 <= first_delay <= max_delay")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt number `attempt` (from 1)."""
        return min(self.max_delay, self.first_delay * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


RETRIES = RetryConfig()  # of this process
_used = 0
_lock = threading.Lock()


def retries_used() -> int:
    """Number of requests that this process has repeated since it started; a task reports the difference of two."""
    return _used


def with_retries(action: Callable[[], T], verb: str, url: str) -> T:
    """Runs `action` until it succeeds, fails for good, or the attempts are used up.

    Args:
        action: one storage request.
        verb: what it does, for messages: `cannot VERB URL: …`.
        url: what it works on, for messages; credentials are left out.

    Returns:
        What `action` returns.

    Raises:
        FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError: as `action` did.
        StorageUnavailable: all attempts failed, and a later one may succeed.
        StorageError: anything else.
    """
    global _used
    for attempt in range(1, RETRIES.attempts + 1):
        try:
            return action()
        except Exception as error:
            if attempt == RETRIES.attempts or not worth_a_retry(error):
                raise _final(error, verb, url, attempt) from None
        with _lock:
            _used += 1
        time.sleep(RETRIES.delay(attempt))
    raise AssertionError("unreachable")


_KEPT = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)


def _final(error: Exception, verb: str, url: str, attempts: int) -> OSError:
    if isinstance(error, StorageError):
        return error
    tries = f" (after {attempts} attempts)" if attempts > 1 else ""
    message = f"cannot {verb} {redact(url)}: {describe(error)}{tries}"
    for kind in _KEPT:
        if isinstance(error, kind):
            return kind(message)
    return StorageUnavailable(message) if worth_a_retry(error) else StorageError(message)


# fmt: off
_FINAL_ERRNOS = {
    errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.EPERM, errno.EACCES,
    errno.ENOSYS, errno.ENOTEMPTY, errno.EFBIG, errno.ELOOP, errno.EXDEV, errno.ENOTSUP, errno.EMSGSIZE, errno.EMFILE,
}
_RETRY_CODES = {
    "SlowDown", "RequestTimeout", "IncompleteBody", "BadDigest", "OperationAborted", "InternalError", "Throttling",
    "ServiceUnavailable", "ThrottlingException", "ConditionalRequestConflict", "XAmzContentSHA256Mismatch",
}
_RETRY_STATUS = {408, 409, 425, 429}
_NETWORK_MODULES = {
    "aiohttp", "aiobotocore", "botocore", "urllib3", "requests", "http", "asyncio", "gcsfs", "google", "ssl",
}
# fmt: on
_FINAL_NAMES = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "NoRegionError", "InvalidURL"}


def worth_a_retry(error: BaseException) -> bool:
    """True for errors that may go away: network faults, time-outs, short reads, throttling and server errors."""
    if isinstance(error, (StorageError, *_KEPT)):
        return False
    code, status = response_of(error)
    if code in _RETRY_CODES or status in _RETRY_STATUS or status >= 500:
        return status != 501
    if status >= 400 or type(error).__name__ in _FINAL_NAMES:
        return False
    if isinstance(error, OSError):
        return error.errno not in _FINAL_ERRNOS
    return type(error).__module__.split(".")[0] in _NETWORK_MODULES


def response_of(error: BaseException) -> tuple[str, int]:
    """(error code of the service, HTTP status) behind an exception, ("", 0) where there was no response."""
    for cause in (error, error.__cause__, error.__context__):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(response.get("Error", {}).get("Code", ""))
            return code, int(status or (code if code.isdigit() else 0))
        status = getattr(cause, "status", None) or (
            type(cause).__name__ == "HttpError" and getattr(cause, "code", None)
        )
        if isinstance(status, int) and 100 <= status < 600:
            return "", status
    return "", 0


# what moves a terminal's cursor, colours, hides or turns text around: all controls but \t, \n and \r
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def redact(text: str) -> str:
    """`text` that can be printed: without credentials, and with `\\x1b` for what would steer a terminal."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], printable(hidden(text)))


def printable(text: str) -> str:
    """`text` as valid Unicode: bytes of a file's name that are no UTF-8 become `\\xe9`, as in the names of tars."""
    if text.isascii():
        return text
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:  # not from a file's name, or the system's encoding is ASCII
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def describe(error: BaseException) -> str:
    """An exception as one line without credentials, 200 characters of its message at most, the service's code first."""
    reason = error.strerror if isinstance(error, OSError) and isinstance(error.strerror, str) else str(error)
    line, (code, _) = " ".join(redact(reason).split())[:200], response_of(error)
    line = f"{code}: {line}" if code and code not in line else line
    return line if line and isinstance(error, OSError) else f"{type(error).__name__} {line}".strip()
