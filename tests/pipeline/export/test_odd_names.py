"""Every image of a run is in its export exactly once, with its own label, whatever it is called.

Runs without a model (stand_in_runs) over names that file systems and tars accept; exports are read by the trainers' own
loaders (export_readers). The right value never depends on how a name is written: pictures carry numbers.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from export_readers import FILE_FORMATS, FORMATS, READERS, assert_whole, exported, masks, pictures, seg_plane
from stand_in_runs import number, numbered, stand_in_run, write_folder, write_tar

from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.main import main
from scclip.jobs.evaluate import run_evaluation
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.pipeline.annotations.schemas import records_of
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.chunks import ChunkLimits, EncodedImage
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.segmentation.types import SegmentationOptions

# --- names that a file cannot have as they are ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "names",
    [
        ["t 12:30.png", "t 12_30.png"],
        ["a\\b.png", "a_b.png", "a:b.png", "a\tb.png", "a\nb.png"],
        ["../x.png", "_/x.png", "./x.png", "x.png", "//x.png", "/x.png"],
        ["s.png", "s/1.png", "s.png/2.png", "s.txt/3.png", "s.txt.png"],  # a file where another name needs a folder
        ["images/1.png", "labels/1.png", "train/images/1.png", "image/1.png", "1.png"],  # words of Ultralytics' paths
        ["__a__/1.png", ".cache/1.png", "cache/1.png", "a./1.png", "a/1.png", "con/1.png"],
        ["a.png", "A.png", "\u00e9.png", "e\u0301.png"],
        ["a.png", "a~1-0.png", "a~1-1.png", "a_1.png", "a#2.png", "a.png"],  # as if names were made unique already
    ],
    ids=[
        "colon",
        "unprintable",
        "dots and roots",
        "file and folder",
        "words of paths",
        "folders",
        "letters",
        "suffixes",
    ],
)
def test_two_keys_are_two_files(folder: Path, names: list[str], kind: str) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "a.tar", numbered(names))])
    assert_whole(run, range(1, len(names) + 1), [kind])


@pytest.mark.parametrize("kind", FORMATS)
def test_keys_that_repeat_across_shards_are_files_of_their_own(folder: Path, kind: str) -> None:
    """Names that do not repeat stay what they are."""
    shards = [write_tar(folder / f"{place}.tar", [("0001.jpg", place), ("x/7.png", 10 + place)]) for place in range(3)]
    shards.append(write_tar(folder / "alone.tar", [("alone.png", 20), ("deep/er.jpg", 21)]))
    assert_whole(stand_in_run(folder / "run", shards), [0, 1, 2, 10, 11, 12, 20, 21], [kind])
    output = folder / f"run-{kind}"
    if kind in FILE_FORMATS:
        assert (pictures(output) / "alone.png").is_file() and (pictures(output) / "deep/er.jpg").is_file()


@pytest.mark.parametrize("kind", FORMATS)
def test_names_do_not_depend_on_what_else_is_exported(folder: Path, kind: str) -> None:
    """Filter and split leave a file the name that it has in the whole export; the same export again is the same."""
    shards = [write_tar(folder / f"{place}.tar", [("k.png", place), ("a:b.png", 4 + place)]) for place in range(3)]
    run = stand_in_run(folder / "run", shards)
    whole, again, part = (folder / name for name in ("whole", "again", "part"))
    for output, words in ((whole, []), (again, []), (part, ["--filter", "unit != 1"])):
        assert main(["export", str(run), str(output), "--format", kind, "--images", *words]) == 0
    pictures = [{str(path.relative_to(output)) for path in output.rglob("*.*")} for output in (whole, again, part)]
    assert pictures[0] == pictures[1] >= pictures[2]
    assert sorted(READERS[kind](part)) == [(value, value) for value in (1, 2, 5, 6)]


@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_a_file_that_lies_there_with_other_bytes_is_not_taken_for_the_exports_own(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `create` finds in its place is the same file of an attempt before, or it is an error that names it."""
    run = stand_in_run(folder / "run", [write_tar(folder / "a.tar", numbered(["x.png", "y.png"]))])
    whole = exported(run, kind)
    name = min(path.relative_to(whole) for path in whole.rglob("y.*"))
    for content in (b"", b"foreign", (whole / name).read_bytes() + b"\0"):
        output = folder / f"out{len(content)}"
        (output / name).parent.mkdir(parents=True)
        (output / name).write_bytes(content)
        code = main(["export", str(run), str(output), "--format", kind, "--images"])
        said = capsys.readouterr().err
        if code == 0:
            assert sorted(READERS[kind](output)) == [(1, 1), (2, 2)]
        else:
            assert code in (1, 2) and name.name in said and len(said.splitlines()) == 1
    shutil.copytree(whole / name.parts[0], folder / "again" / name.parts[0])  # an interrupted export's own files
    assert main(["export", str(run), str(folder / "again"), "--format", kind, "--images"]) == 0


# --- one stem, several pictures --------------------------------------------------------------------------------------


SAME_STEM = {
    "two": ["dog.jpg", "dog.png"],
    "folder": ["a/dog.jpg", "a/dog.jpeg", "a/dog.JPG", "dog.jpg"],
    "four": ["dog.png", "cat.png", "dog.jpg", "dog.gif", "dog.webp"],
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("names", SAME_STEM.values(), ids=SAME_STEM)
def test_pictures_of_one_stem_are_images_of_their_own(folder: Path, names: list[str], kind: str) -> None:
    write_folder(folder / "in", numbered(names))
    assert_whole(stand_in_run(folder / "run", [folder / "in"]), range(1, len(names) + 1), [kind])


@pytest.mark.parametrize("names", SAME_STEM.values(), ids=SAME_STEM)
def test_the_masks_of_a_run_keep_pictures_of_one_stem_apart(folder: Path, names: list[str]) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(names))])
    assert sorted(masks(run)) == list(range(1, len(names) + 1))
    assert main(["verify", str(run)]) == 0


# --- dots -------------------------------------------------------------------------------------------------------------


DOTS = {
    "times": ["10.22.33.png", "10.22.34.png"],
    "screenshots": [f"Screenshot 2024-05-01 at 9.{rest}" for rest in ("41.05.png", "41.06.png", "jpg")],
    "folders": ["v1.2/a.png", "v1.3/a.png", "a..png", "a.b..c.png", "a_b__c.png"],
    "versions": ["photo.v2.jpg", "photo.jpg", "photo.final.v2.jpeg", "photo_v2.jpg", "photo.JPG.png"],
}


@pytest.mark.parametrize("names", DOTS.values(), ids=DOTS)
def test_dots_do_not_join_pictures_into_one_sample(folder: Path, names: list[str]) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(names))])
    assert_whole(run, range(1, len(names) + 1), ["png"])
    keys = {names.rpartition(".")[0] for names in names}
    for path in (folder / "run-png" / "train").glob("*.tar"):
        with tarfile.open(path) as tar:
            said = {json.loads(tar.extractfile(member).read())["key"] for member in tar if member.name.endswith("json")}  # type: ignore[union-attr]
        assert said == keys  # what an image was called is still told


@pytest.mark.parametrize("names", DOTS.values(), ids=DOTS)
def test_the_masks_of_a_run_are_one_sample_an_image(folder: Path, names: list[str]) -> None:
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(names))])
    assert sorted(masks(run)) == list(range(1, len(names) + 1))


@pytest.mark.parametrize("kind", FORMATS)
def test_saved_confidence_is_found_under_odd_names(folder: Path, kind: str) -> None:
    """Thresholds are applied to the planes of the right image: the export with a floor of 0 is the run's labels."""
    names = ["10.22.33.png", "10.22.34.png", "dog.jpg", "dog.png", "t 12:30.png", "t 12_30.png", "t 12_30.seg.x.png"]
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered([*names, "x" * 300 + ".png"]))])
    output = folder / "out"
    assert main(["export", str(run), str(output), "--format", kind, "--images", "--confidence-floor", "0.1"]) == 0
    assert sorted(READERS[kind](output)) == [(value, value) for value in range(1, len(names) + 2)]


def test_plain_names_stay_as_they_are_in_tars(folder: Path) -> None:
    names = ["000001.jpg", "a/b c.png", "Straße-3_x (1).webp", "v1.2/x.jpeg"]
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(names))])
    output = exported(run, "png")
    with tarfile.open(next((output / "train").glob("*.tar"))) as tar:
        found = [member.name for member in tar]
    stems = [(name.rpartition(".")[0], name) for name in names]
    assert found == [member for stem, name in stems for member in (name, f"{stem}.seg.png", f"{stem}.json")]
    with tarfile.open(next((run / "masks").glob("*.tar"))) as tar:
        assert [member.name for member in tar][::3] == [f"{stem}.seg.png" for stem, _ in stems]


def test_our_own_readers_find_the_labels_of_odd_names(folder: Path) -> None:
    """An export as truth, of the run's own images: read by the pipeline, and looked up by `evaluate --labels`."""
    names = ["10.22.33.png", "10.22.34.png", "dog.jpg", "dog.png", "t 12:30.png", "t 12_30.png", "plain.png"]
    run = stand_in_run(folder / "run", [write_tar(folder / "in.tar", numbered(names))])
    output = exported(run, "png")
    units = plan_units([str(output / "train")], truth="seg.png")
    rows = [
        row
        for unit in units
        for chunk in read_unit(unit, ChunkLimits(), truth="seg.png")
        for row in records_of(chunk.images, EncodedImage)
    ]
    assert sorted(number(seg_plane(bytes(row.truth or b""))) for row in rows) == list(range(1, len(names) + 1))
    options = EvaluateOptions(
        paths=(str(folder / "scores"),), labels=str(run), truth=(str(output / "train"),), truth_indices="categories"
    )
    result = run_evaluation(options, ModelConfig(), SegmentationOptions(), ComputeConfig(), here=True)
    assert result.statuses == {"ok": len(names)}
    (matrix,) = result.matrices.values()
    assert matrix.sum() == len(names) * 256 and matrix.trace() == matrix.sum()
