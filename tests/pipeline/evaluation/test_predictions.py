"""Where a run holds an image's labels: by arrays that actors share, and as a plain dictionary of all keys says."""

import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stand_in_runs import numbered, stand_in_run, write_tar

from scclip.pipeline.annotations.schemas import ImageRecord
from scclip.pipeline.evaluation import predictions
from scclip.pipeline.evaluation.predictions import find_labels
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.names import tar_names

NAMES = (["a.png", "t 1.2.png", "ü.png"], ["a.png", "x/b.png"], ["c.png", "x/b.png", "t 1_2.png"], ["d.png"])


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    for place, names in enumerate(NAMES):
        write_tar(folder / "in" / f"{place}.tar", numbered(names, 1 + 10 * place))
        write_tar(folder / "copies" / f"{place}.tar", numbered(names, 1 + 10 * place))
    stand_in_run(folder / "run", [folder / "in"])
    return folder


def by_key(run: Path) -> dict[str, list[int]]:
    """Key or name in a tar → units, read from the files themselves."""
    found: dict[str, list[int]] = defaultdict(list)
    for path in sorted((run / "images").glob("*.parquet")):
        table = pq.read_table(path)
        for key in {*table["key"].to_pylist(), *tar_names(table).values()}:
            found[key].append(int(path.stem))
    return found


def image_of(key: str) -> ImageRecord:
    return ImageRecord(key=key, file_name=key, unit=99, index=0)


@pytest.mark.parametrize("one_hash", [False, True], ids=["own hashes", "all hashes equal"])
def test_a_key_leads_to_the_units_that_have_it(tars: Path, one_hash: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all keys have one hash: then every unit is looked through, and the same images match."""
    if one_hash:
        monkeypatch.setattr(predictions, "hash_of", lambda key: 7)
    reader = find_labels(RunFiles(str(tars / "run")), plan_units([str(tars / "copies")])).start()
    known = by_key(tars / "run")
    assert len(known) >= 7
    for key, units in known.items():
        assert one_hash or reader.units_of(key) == units
        assert {image.unit for image in reader.matches(image_of(key))} == set(units)
    assert reader.matches(image_of("nowhere")) == []


def test_what_actors_hold_is_arrays_or_nothing(tars: Path) -> None:
    run = RunFiles(str(tars / "run"))
    spec = find_labels(run, plan_units([str(tars / "copies")]))
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(spec, protocol=5, buffer_callback=buffers.append)
    assert sum(buffer.raw().nbytes for buffer in buffers) == 12 * len(spec.keys) > 0
    assert np.all(np.diff(spec.keys.astype(object)) >= 0)
    own = find_labels(run, plan_units([str(tars / "in")]))
    assert len(own.keys) == 0 and own.same_shard == {number: [number] for number in range(1, 5)}
