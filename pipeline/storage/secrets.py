"""Credentials in texts and URLs: never shown, never stored, and in URLs of object stores refused.

>>> hidden("https://me:p@ss@host/a.jpg?X-Amz-Signature=ab failed: token=x")
'https://host/a.jpg?… failed: token=…'
>>> public_url("https://me:p@ss@host/a.jpg?id=7&X-Amz-Signature=ab")     # as a plan on disk has it
'https://host/a.jpg?id=7'
>>> signed_url("https://host/a.jpg?id=7")                                # as this process was given it
'https://me:p@ss@host/a.jpg?id=7&X-Amz-Signature=ab'
"""

import itertools
import re
from urllib.parse import unquote

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "wasb", "wasbs", "adl", "oss", "r2")
# protocols that read from another filesystem, whose URL follows after `::`
CHAINED = {"zip", "tar", "libarchive", "reference", "dir", "simplecache", "filecache", "blockcache", "cached"}
# What stands before the last @ of a URL is its userinfo, where a colon comes before the first slash (a password may
# hold slashes), or where there is no slash at all. A port, an IPv6 address and an ARN of S3 have colons as well.
_USERINFO = re.compile(r"(?<=://)(?!arn:|\[)(?:[^\s/:@\"<>]*:(?!\d{1,5}(?:[/?#]|$))[^\s\"<>]*|[^\s/?#\"<>]*)@")
_CONTAINER = re.compile(r"[\w-]+@[\w.-]+\.core\.windows\.net")  # how Azure's URLs name a container
_ONE_SLASH = re.compile(rf"(?i)(?<![\w+.-])({'|'.join(STORES)}|https?|s?ftp):/(?=[^/\s])")  # of a URL as a path has it
_URLS, _QUERIES = re.compile(r"[^\s\"<>]+"), re.compile(r"[^\s'\"]+")  # what holds URLs; what holds their queries
_WORDS = r"secret|passw(?:or)?d|passphrase|pwd|token|signature|credentials?|bearer|authorization|connection_?string"
_KEYS = r"(?:api|access|account|private|secret|shared|storage|encryption|auth)[_-]?key(?:[_-]?id)?"
_NAME = rf"[\w-]*(?:{_WORDS}|{_KEYS})|x-(?:amz|goog)-[\w-]+|(?:aws_?)?(?:secret|session|access)\w*|sig"
_VALUE = r"\\+\"[^\"\n]*\"|\"[^\"\n]*(?:\"|$)|'[^'\n]*(?:'|$)|(?:(?:bearer|basic|token)\s+)?[^\s&'\",;]+"
_SECRET = re.compile(rf"(?i)(?<![\w-])({_NAME})(\\*[\"']?\s*[=:]\s*)(?!…)(?:{_VALUE})")
_SECRET_VARIABLE = re.compile(rf"(?i)(?:{_NAME}|[\w-]*[_-]key|key)(?:[_-]?\d+)?")
_SHAPES = re.compile(  # a bearer's token, an AWS key's id, tokens of Hugging Face and GitHub, a JSON web token
    r"(?i:bearer)\s+[\w.~+/=-]{16,}|\bA[KS]IA[A-Z0-9]{16}\b|\b(?:hf|gh[pousr])_\w{30,}|(?<![\w-])eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+"
)
_SECRET_PARAMETER = re.compile(
    rf"(?i)(?:{_NAME}|policy|expires|key-pair-id|googleaccessid|s[eiprstv]|sk[eostv]\w*|spr|hdn\w+|auth|jwt|key|code)\Z"
)  # of S3, CloudFront, Google, Azure and Akamai

_signed: dict[str, str] = {}  # public URL → URL with its credentials, of this process


def hidden(text: str) -> str:
    """`text` without credentials: no user and query in URLs, no values behind names as `token`, no known tokens."""
    if ":/" in text:
        text = _ONE_SLASH.sub(r"\1://", text)
        text = _URLS.sub(lambda urls: _without_users(urls[0]), text)
        text = _QUERIES.sub(lambda urls: _without_query(urls[0]), text)
    return _SHAPES.sub("…", _SECRET.sub(r"\1\2…", text))


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret: HF_TOKEN does, TOKENIZERS_PARALLELISM does not."""
    return bool(_SECRET_VARIABLE.fullmatch(name))


def _without_query(text: str) -> str:
    """`text` up to the query of the first URL in it that has one, in a time that is linear in its length."""
    parts = text.split("?")
    for index, (base, query) in enumerate(itertools.pairwise(parts)):
        if "http://" in base or "https://" in base or ("://" in base and "=" in query):
            shown = "?".join(parts[: index + 1]) + "?"
            return shown if shown == text else f"{shown}…"
    return text


def _without_users(text: str, count: int = 0) -> str:
    """`text` without the userinfo of its first `count` URLs, 0 for all. What follows its last @ needs no look."""
    head, at, rest = text.rpartition("@")
    if "://" not in head:
        return text

    def public(match: re.Match[str]) -> str:
        return match[0] if _CONTAINER.match(text, match.start()) else ""

    return _USERINFO.sub(public, head + at, count) + rest


def public_url(url: str) -> str:
    """A URL without user, password and signature, which is the same file's after it was signed anew.

    This process remembers the URL itself for `signed_url`.
    """
    if "://" not in url:
        return url
    outer, inner = _links(url)
    base, mark, query = _without_users(inner, count=1).partition("?")
    if inner.startswith(("http://", "https://")):
        kept = [part for part in query.split("&") if not _SECRET_PARAMETER.match(unquote(part.partition("=")[0]))]
        query, mark = "&".join(kept), "?" if any(kept) else ""
    public = f"{outer}{base}{mark}{query}"
    if public != url:
        _signed[public] = url
    return public


def is_chain(url: str) -> bool:
    """Whether a URL names a file in another URL's, as `zip://a.png::s3://b/c.zip`; else a `::` is part of a name."""
    outer, mark, _ = url.partition("::")
    return bool(mark) and outer.partition("://")[0] in CHAINED


def _links(url: str) -> tuple[str, str]:
    """What a chain as `zip://a.png::s3://b/c.zip` has before its last URL, "" where there is no chain; and that URL."""
    if not is_chain(url):
        return "", url
    outer, _, inner = url.partition("::")
    between, last = _links(inner)
    return f"{outer}::{between}", last


def signed_url(url: str) -> str:
    """The URL whose `public_url` this is, as this process saw it last; the URL itself where it saw none."""
    return _signed.get(url, url)


def has_userinfo(url: str) -> bool:
    """Whether a URL of an object store holds a user or a key, which no store reads from there."""
    url = _links(url)[1]
    if url.partition("://")[0].lower() not in STORES:
        return False
    return _without_users(url, count=1) != url
