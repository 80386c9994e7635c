"""Prepares what is submitted: a verb's words in full, the local files that they name, the submission id.

    request = Request.parse(["label", "s3://bucket/in", "s3://bucket/out", "--vocabulary", "street.yaml"])
    request.job_id(attempt=1)   # scclip-label-<digest of OUTPUT>-1

The words are checked here, by the verb's own parser, and spelled out again from what it understood: flags in a fixed
order, --config resolved, so that equal options give equal words.
"""

import dataclasses
import hashlib
import importlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scclip.errors import UserError
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.options import OptionParser, config_words
from scclip.jobs.cli.talk import is_quiet, is_verbose
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.secrets import hidden

TRAVELS = {  # how an option that is a text reaches the cluster, by `travels` of its field
    "word": "as it is",
    "path": "a URL, or a path from / that every node sees",
    "path or word": "a path like that where it names something that is here",
    "file": "a small local file goes along; anything else as it is",
    "model": "a name, or local-dir: with a path from / on the head",
    "weights": "a name, a URL or a path from /",
}
LOCAL_MODEL = "local-dir:"
FILES = "files"  # folder of a job's working directory with the user's own files
JOB_ID = re.compile(r"scclip-([a-z]+)-([0-9a-f]{12})-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A verb with its options, ready to travel."""

    verb: str
    """Name of the verb."""
    words: tuple[str, ...]
    """Its options in full, local files replaced by their names in the job's working directory."""
    files: Mapping[str, bytes]
    """Path in the job's working directory → content of the files that travel along."""
    output: str
    """OUTPUT, "" for a verb without one."""

    @staticmethod
    def parse(words: Sequence[str]) -> "Request":
        """Reads a verb and its options; UserError for wrong words, local paths, and words that hold credentials."""
        verb, groups = parse_words(words)
        files: dict[str, bytes] = {}
        values = [(field, portable(field, value, files)) for field, value in fields_of(groups)]
        refuse_credentials(
            [str(text) for _, value in values for text in (value if isinstance(value, tuple) else [value])]
        )
        output = next((str(group.output) for group in groups if hasattr(group, "output")), "")
        values.sort(key=lambda item: "positional" not in item[0].metadata)  # flags come after what is given by position
        spelled = [word for field, value in values for word in config_words(field, value)]
        spelled += ["--quiet"] * is_quiet() + ["--verbose"] * is_verbose()  # as these words have just set it
        return Request(verb=verb, words=tuple(spelled), files=files, output=output.rstrip("/"))

    def prefix(self) -> str:
        """Returns the start of all submission ids of this verb and OUTPUT."""
        return f"scclip-{self.verb}-{output_digest(self.output or ' '.join(self.words))}-"

    def job_id(self, attempt: int) -> str:
        """Returns the submission id of an attempt, counted from 1."""
        return f"{self.prefix()}{attempt}"

    def digest(self) -> str:
        """Returns a SHA-256 that changes with every option and every byte of the files."""
        files = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(self.files.items())}
        return hashlib.sha256(json.dumps([self.verb, self.words, files]).encode()).hexdigest()

    def entrypoint(self, version: str | None = None) -> str:
        """Returns the job's shell command; with `version` it fails where the cluster has another version installed."""
        check = f"python -m scclip.jobs.submission.wheel {shlex.quote(version)} && " if version else ""
        return f"{check}exec python -m scclip {shlex.join([self.verb, *self.words])}"


def output_digest(output: str) -> str:
    """Returns twelve hex digits that stand for an OUTPUT."""
    return hashlib.sha256(output.rstrip("/").encode()).hexdigest()[:12]


def parse_words(words: Sequence[str]) -> tuple[str, list[Any]]:
    """Returns the verb and its options, by the verb's own parser."""
    from scclip.jobs.cli.main import VERBS

    names = [name for name in VERBS if name not in ("submit", "bench")]  # bench measures the machine it is called on
    if not words or words[0] not in names:
        given = repr(words[0]) if words else "nothing"
        raise UserError(f"after -- comes a verb and its options, not {given}; {hint(''.join(words[:1]), names)}")
    parser: OptionParser = importlib.import_module(f"scclip.jobs.options.{words[0]}").parser()
    return words[0], parser.parse(words[1:])


def fields_of(groups: Sequence[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    """Yields the fields whose value is not the default, and all that are given by position."""
    for group in groups:
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            given = "positional" in field.metadata or value != field.default or field.metadata.get("travels") == "path"
            if given and value is not None:
                yield field, value


def portable(field: dataclasses.Field[Any], value: Any, files: dict[str, bytes]) -> Any:
    """Returns the value as the cluster understands it; adds a small local file to `files`."""
    flag = str(field.metadata.get("positional") or f"--{field.name.replace('_', '-')}")
    for text in value if isinstance(value, tuple) else (value,):
        match field.metadata.get("travels"):  # a key of TRAVELS
            case "file" if text and "://" not in text and Path(text).is_file():
                return carry(Path(text), files)
            case "model" if text.startswith(LOCAL_MODEL) and not text.startswith(f"{LOCAL_MODEL}/"):
                raise UserError(f"{flag} {text}: the cluster has no such directory; give a path from / on its head")
            case "weights" if not shared(text) and Path(text).is_file():
                raise UserError(f"{flag} {text}: weights go by URL; copy them to a bucket and give s3://…")
            case ("path" | "path or word") as kind if not shared(text) and (kind == "path" or Path(text).exists()):
                what = "the cluster does not see this folder"
                raise UserError(f"{flag} {text}: {what}; give a URL or a shared path from /")
    return value


def shared(name: str) -> bool:
    """Whether a name means the same on every machine: a URL, or a path from /."""
    return "://" in name or name.startswith("/")


def carry(path: Path, files: dict[str, bytes]) -> str:
    """Adds a local file to those that travel; returns its name in the job's working directory."""
    data, name = path.read_bytes(), f"{FILES}/{path.name}"
    if files.get(name, data) != data:
        name = f"{FILES}/{hashlib.sha256(data).hexdigest()[:8]}-{path.name}"
    files[name] = data
    return name


def refuse_credentials(values: Sequence[str]) -> None:
    """Raises UserError for credentials: a job's command is shown on the dashboard and in its log."""
    for value in values:
        if hidden(value) != value:
            remedy = "give the nodes a role, or forward variables with --pass-env"
            raise UserError(f"{redact(value)} holds credentials, which a job's command would show to all; {remedy}")
