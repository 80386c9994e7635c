"""Makes flags, YAML keys and help texts of frozen dataclasses.

    parser = OptionParser("label", "Label image shards.", [LabelOptions, ModelConfig])
    label, model = parser.parse(argv)

A field is a flag (`chunk_size` → `--chunk-size`), its docstring the help, its class's docstring the heading. Fields
made by `positional` are given by position. `--config FILE.yaml` holds the same names; flags win over it.
"""

import argparse
import dataclasses
import difflib
import shutil
import types
import typing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from docstring_parser import parse_from_object

from scclip.documents import DocumentError, parse_mapping, read_document
from scclip.errors import UserError
from scclip.jobs.cli.errors import hint
from scclip.jobs.cli.talk import set_loudness
from scclip.pipeline.storage.secrets import public_url


def option(default: Any = dataclasses.MISSING, **facts: object) -> Any:
    """A dataclass field of options with facts about it.

    Args:
        default: what it is where it is not given.
        facts: `recorded=False` where run.json does not hold the option: no label depends on it, or run.json holds what
            it stands for. `travels`, for every text: how it reaches a cluster, a key of `TRAVELS` in
            jobs/submission/request.py. `positional` and `metavar`: its name in the usage line and in the help.
            `choices`: its values, where a Literal cannot list them.
    """
    return dataclasses.field(default=default, metadata=facts)


def positional(help_name: str, default: Any = dataclasses.MISSING, **facts: object) -> Any:
    """`option` for a field that is given by position, with its name in the usage line."""
    return option(default, positional=help_name, **facts)


def recorded(options: Any) -> dict[str, Any]:
    """Name → value of the options that the results depend on: all that do not say `recorded=False`.

    URLs are without credentials: the same file's, also after it was signed anew.
    """
    fields = [field.name for field in dataclasses.fields(options) if field.metadata.get("recorded", True)]
    values = {name: getattr(options, name) for name in fields}
    return {name: public_url(value) if isinstance(value, str) else value for name, value in values.items()}


class OptionParser(argparse.ArgumentParser):
    """A parser whose options are the fields of dataclasses; every mistake is a UserError."""

    def __init__(self, verb: str, description: str, groups: Sequence[type], example: str = "") -> None:
        width = max(80, min(110, shutil.get_terminal_size().columns))
        super().__init__(
            prog=f"scclip {verb}",
            description=description,
            epilog=example,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=width),
            allow_abbrev=False,
            add_help=False,
        )
        self.groups = groups
        self.fields = {field.name: (field, *facts) for group in groups for field, *facts in option_fields(group)}
        names = [name for group in groups for name in self._add_group(group)]
        section = self.add_argument_group("More")
        section.add_argument("--config", metavar="FILE", help="YAML file with any of these options by name; flags win")
        section.add_argument("-q", "--quiet", action="store_true", help="say only what was asked for, warnings, errors")
        section.add_argument("-v", "--verbose", action="store_true", help="say everything: Ray's lines, tracebacks")
        section.add_argument("--version", action="store_true", help="show the version and stop")
        section.add_argument("-h", "--help", action="help", help="show this and stop")
        self.usage = " ".join([self.prog, *names, "[options]"])

    def error(self, message: str) -> NoReturn:
        """Raises the mistake as a UserError that names the verb's help."""
        raise UserError(f"{' '.join(message.split())}; see {self.prog} --help")

    def parse(self, argv: Sequence[str]) -> list[Any]:
        """Returns the groups' dataclasses, filled from --config and the flags; UserError for every mistake."""
        only_config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        only_config.add_argument("--config", type=Path)
        path = only_config.parse_known_args(argv)[0].config
        self._refuse_unknown(argv)
        tokens = self._config_tokens(path, argv) if path else []
        values = vars(self.parse_intermixed_args(self._one_by_one([*tokens, *argv])))
        set_loudness(quiet=values["quiet"], verbose=values["verbose"])
        try:
            return [self._build(group, values) for group in self.groups]
        except ValueError as error:
            raise UserError(str(error)) from None

    def _refuse_unknown(self, argv: Sequence[str]) -> None:
        """UserError for the first word that looks like a flag and is none."""
        for word in argv[: list(argv).index("--") if "--" in argv else None]:
            flag = word.partition("=")[0]
            if is_flag(word) and flag not in self._option_string_actions:
                shown = [known for known in self._option_string_actions if not known.startswith("--no-")]
                shown = shown if len(flag) > 2 else []  # one letter is like too many
                near = "--" + flag.lstrip("-").replace("_", "-")
                raise UserError(f"unknown option {flag}; {hint(near, shown, f'see {self.prog} --help')}")

    def _one_by_one(self, argv: Sequence[str]) -> list[str]:
        """The words with the flag of an option of several values before each of its values.

        Such an option takes all words up to the next flag, unless words by position are still to come: then it takes
        the first one, and after it those that its type or its choices tell from a path.
        """
        waiting, words = deque(argv), list[str]()
        given = not any("positional" in field.metadata for field, *_ in self.fields.values())
        while waiting:
            words.append(flag := waiting.popleft())
            if flag == "--":
                return [*words, *waiting]
            action = self._option_string_actions.get(flag)
            given |= not is_flag(flag)
            if action is None or action.nargs == 0 or not waiting or is_flag(waiting[0]):
                continue
            words.append(waiting.popleft())
            many = action.dest in self.fields and self.fields[action.dest][2]
            while many and waiting and not is_flag(waiting[0]) and (given or self._fits(action.dest, waiting[0])):
                words += [flag, waiting.popleft()]
        return words

    def _fits(self, name: str, word: str) -> bool:
        """Whether a word can be a further value of an option, and no path: a number, a choice, or nearly one."""
        _, kind, _, choices = self.fields[name]
        return (kind is int and word.lstrip("-").isdecimal()) or bool(
            difflib.get_close_matches(word, choices, n=1, cutoff=0.8)
        )

    def _add_group(self, group: type) -> list[str]:
        """Adds the options of one dataclass; returns those given by position as the usage line shows them."""
        names: list[str] = []
        documented = parse_from_object(group)
        texts = {item.arg_name: item.description or "" for item in documented.params}
        section = self.add_argument_group((documented.short_description or group.__name__).rstrip("."))
        for field, kind, many, choices in option_fields(group):
            text = " ".join(texts.get(field.name, "").split()).replace("%", "%%")
            if "positional" in field.metadata:
                label = field.metadata["positional"]
                optional = field.default is not dataclasses.MISSING
                nargs = ("*" if many else "?") if optional else ("+" if many else None)
                section.add_argument(field.name, metavar=label, nargs=nargs, help=text)
                names.append(f"{label} [{label} …]" if many else label)
                continue
            flag = "--" + field.name.replace("_", "-")
            if kind is bool:
                section.add_argument(flag, dest=field.name, action="store_const", const=True, help=text)
                off = "--no-" + flag[2:]  # takes back what --config switched on
                section.add_argument(off, dest=field.name, action="store_const", const=False, help=argparse.SUPPRESS)
                continue
            default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
            shown = "" if field.default in (None, (), "", dataclasses.MISSING) else f" [{default}]"
            usual = {int: "N", float: "X"}.get(kind, "TEXT")
            metavar = field.metadata.get("metavar") or ("|".join(choices) if choices and not many else usual)
            section.add_argument(
                flag,
                type=parser_of(kind),
                metavar=f"{metavar} [{metavar} …]" if many else metavar,
                action="append" if many else "store",
                help=text + shown,
            )
        return names

    def _build(self, group: type, values: Mapping[str, Any]) -> Any:
        given = {}
        for field, _, many, choices in option_fields(group):
            value = values.get(field.name)
            if value is None:
                continue
            for item in value if many else [value]:
                if choices and item not in choices:
                    flag = field.name.replace("_", "-")
                    raise UserError(f"--{flag} {item!r} is unknown; {hint(item, choices)}")
            given[field.name] = tuple(value) if many else value
        return group(**given)

    def _config_tokens(self, path: Path, argv: Sequence[str]) -> list[str]:
        """Returns a YAML file's content as command-line words, so that both pass the same checks; flags of argv win."""
        try:
            content = parse_mapping(read_document(path))
        except OSError as error:
            raise UserError(f"--config {path}: {error.strerror}; give a readable YAML file") from None
        except DocumentError as error:
            raise UserError(f"--config {path}: {error}; give `name: value` lines, e.g. `chunk_size: 32`") from None
        unknown = [str(key) for key in content if str(key).replace("-", "_") not in self.fields]
        if unknown:
            remedy = hint(unknown[0].replace("-", "_"), self.fields, f"the names are those of {self.prog} --help")
            raise UserError(f"--config {path}: unknown option {unknown[0]!r}; {remedy}")
        words = list[str]()
        for key, value in content.items():
            field, kind, _, choices = self.fields[str(key).replace("-", "_")]
            flag = "--" + field.name.replace("_", "-")
            value = meant(value, kind, choices, f"--config {path}: {key}")
            if not any(word.partition("=")[0] == flag for word in argv):
                words += config_words(field, value)
        return words


def is_flag(word: str) -> bool:
    """Whether a word is a flag and no value; a number with its sign is a value."""
    return len(word) > 1 and word.startswith("-") and not word[1:].replace(".", "", 1).isdecimal()


def option_fields(group: type) -> Iterator[tuple[dataclasses.Field[Any], Any, bool, tuple[str, ...]]]:
    """Yields the fields of a dataclass, each with element type, whether there are several values, and the choices."""
    hints = typing.get_type_hints(group)
    for field in dataclasses.fields(group):
        kind, many, choices = unwrap(hints[field.name])
        yield field, kind, many, field.metadata.get("choices", choices)


def meant(value: Any, kind: Any, choices: Sequence[str], where: str) -> Any:
    """A value of a YAML file as the option has it; to YAML `no` is a truth value, to some options the choice "none".

    Args:
        value: What YAML made of it.
        kind: Type of the option, or of its items.
        choices: Its values, where they are limited.
        where: Where the value stands, for the error.
    """
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, list) for item in value)):
        raise UserError(f"{where}: is no value but a tree of them; give text, a number, yes, no, or a list of these")
    if isinstance(value, list):
        return [meant(item, kind, choices, where) for item in value]
    if kind is bool or not isinstance(value, bool):
        return value
    if not value and "none" in choices:
        return "none"
    remedy = f"choose {', '.join(choices)}" if choices else "give a number" if kind in (int, float) else "quote it"
    raise UserError(f"{where}: {'yes' if value else 'no'} is a truth value to YAML; {remedy}")


def config_words(field: dataclasses.Field[Any], value: Any) -> list[str]:
    """Returns an option's value, from YAML or from its dataclass, as command-line words."""
    flag = "--" + field.name.replace("_", "-")
    items = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
    if "positional" in field.metadata:
        return items
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag[2:]]
    return [word for item in items for word in (flag, item)]


def unwrap(hint: Any) -> tuple[Any, bool, tuple[str, ...]]:
    """Returns element type, whether there are several values, and the choices of a field's annotation."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    many = typing.get_origin(hint) is tuple
    if many:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is Literal:
        return str, many, typing.get_args(hint)
    return hint, many, ()


def parser_of(kind: Any) -> Any:
    """Returns a converter whose error message names the kind of value wanted."""

    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            wanted = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None

    return convert
