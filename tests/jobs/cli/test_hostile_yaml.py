"""YAML files that are bombs, or no files of their kind: one line and exit code 2 from every option that reads one."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scclip.documents import MAX_BYTES, MAX_DEPTH, DocumentError, parse_yaml
from scclip.encoder.checkpoints import read_calibration
from scclip.errors import UserError
from scclip.jobs.export import yaml_file
from scclip.jobs.options.label import parser
from scclip.vocabulary.vocabulary import Vocabulary

READERS: dict[str, Callable[[str], object]] = {
    "--config": lambda path: parser().parse(["in", "out", "--config", path]),
    "--calibration": lambda path: read_calibration(Path(path)),
    "--thresholds": lambda path: yaml_file("--thresholds", path),
    "--vocabulary": Vocabulary.load,
}
MANY = 8000
HOSTILE = {
    "8,000 aliases of 8,000 values": f"a: &a [{'x, ' * MANY}]\ninputs: [{'*a, ' * MANY}]\nclasses: [{'*a, ' * MANY}]\n",
    "a billion laughs": "l0: &l0 [x, x]\n" + "".join(f"l{n}: &l{n} [{f'*l{n - 1}, ' * 9}]\n" for n in range(1, 9)),
    "merged keys": "m0: &m0 {k: 1}\n"
    + "".join(f"m{n}: &m{n} {{<<: [{f'*m{n - 1}, ' * 9}]}}\n" for n in range(1, 9)),
    "an alias in its own anchor": "classes: &a [*a]\n",
    "nested sequences": "classes: " + "[" * 5000 + "]" * 5000,
    "nested mappings": "{classes: " * 5000 + "}" * 5000,
    "nested blocks": "".join(f"{' ' * depth}a:\n" for depth in range(1000)),
    "too many bytes": "name: x\n#" + "x" * MAX_BYTES,
    "a list": "- 1\n- 2\n",
    "a text": "hello",
    "not UTF-8": b"name: \xff\n",
    "a NUL": "name: \0\n",
    "a tag that fits not": "threshold: !!timestamp x\n",
    "a number too long for Python": f"threshold: {'9' * 5000}\n",
    "an object": "name: !!python/object/apply:os.system [true]\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("option", READERS)
def test_a_bomb_ends_in_one_line(kind: str, option: str, tmp_path: Path) -> None:
    content, path, began = HOSTILE[kind], tmp_path / "file.yaml", time.monotonic()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as refused:
        READERS[option](str(path))
    assert time.monotonic() - began < 10
    assert "\n" not in str(refused.value) and str(path) in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize("option", READERS)
def test_an_endless_file_is_not_read_to_its_end(option: str) -> None:
    with pytest.raises((UserError, OSError)):
        READERS[option]("/dev/zero")


def test_trees_where_a_value_is_meant_are_refused(tmp_path: Path) -> None:
    for number, text in enumerate(["inputs: {a: b}", "chunk_size: [[1]]", "vocabulary: {name: x}"]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match="is no value"):
            READERS["--config"](str(path))
    for number, text in enumerate(
        ["window: [224]", "fused_layers: 3", "fused_layers: [a, b]", "post: 3", "post_layer: x"]
    ):
        path = tmp_path / f"c{number}.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match="is no value like"):
            READERS["--calibration"](str(path))


def test_documents_within_the_bounds_are_read_as_pyyaml_reads_them() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    texts = ["a: &a [1, 2]\nb: *a\nc: {<<: &m {x: 1}, y: *a}\n", deep, "", "no", "x: 2001-01-01", '{"j": [1.5, null]}']
    assert [parse_yaml(text.encode()) for text in texts] == [yaml.safe_load(text) for text in texts]
    with pytest.raises(DocumentError, match=f"nested deeper than {MAX_DEPTH}"):
        parse_yaml(f"[{deep}]".encode())
