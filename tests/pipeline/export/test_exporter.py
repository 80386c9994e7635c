"""The dict of exporters: every entry is a class that does what an exporter has to do."""

import pkgutil

import pytest

from scclip.errors import UserError
from scclip.jobs.options.export import parser
from scclip.pipeline.export.exporter import EXPORTERS


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_format_has_its_exporter(name: str) -> None:
    exporter = pkgutil.resolve_name(f"scclip.pipeline.export.formats.{EXPORTERS[name]}")
    assert {"named_by_key", "write", "finish"} <= set(dir(exporter))
    options, _ = parser().parse(["run", "out", "--format", name])
    assert options.format == name


def test_the_command_line_offers_the_formats_of_the_dict() -> None:
    assert f"--format {'|'.join(EXPORTERS)}" in parser().format_help()
    with pytest.raises(UserError, match=", ".join(EXPORTERS)):
        parser().parse(["run", "out", "--format", "voc"])
