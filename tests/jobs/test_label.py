"""The main job: through Ray and in a loop, documents against pycocotools, reruns, refusals, wrong input."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pictures import encoded, tar_bytes, write_shard
from PIL import Image
from processes import QUICK, QUICK_WINDOWS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from scclip.jobs.cli.main import main

pytestmark = pytest.mark.usefixtures("local_ray")
FILES = ("coco", "segments", "masks", "images")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 7 and 5 pictures, one of them broken, and a folder of three files."""
    root = tmp_path_factory.mktemp("shards")
    write_shard(root / "a.tar", range(7))
    write_shard(root / "b.tar", range(7, 12), {"broken.jpg": b"\xff\xd8\xff\xe0 no picture"})
    return root


@pytest.fixture(scope="module")
def common(small_model: str, vocabulary_file: Path) -> list[str]:
    flags = ["--model", small_model, "--vocabulary", str(vocabulary_file), *QUICK]
    return [*flags, "--max-failed", "0.2", "--confidence-threshold", "0.2"]


def run(*words: Any) -> int:
    return main(["label", *map(str, words)])


def contents(output: Path) -> dict[str, Any]:
    """Everything that must be reproducible: bytes of coco/, segments/, masks/; images/ without `seconds`."""
    found: dict[str, Any] = {}
    for kind in FILES:
        for path in sorted((output / kind).glob("*")):
            name = f"{kind}/{path.name}"
            found[name] = pq.read_table(path).drop(["seconds"]).to_pylist() if kind == "images" else path.read_bytes()
    return found


@pytest.fixture(scope="module")
def labeled(shards: Path, common: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference run: one actor, chunks of 32."""
    output = tmp_path_factory.mktemp("runs") / "one"
    assert run(shards, output, *common, "--masks", "png", "--save-confidence") == 0
    return output


def test_actors_and_chunks_do_not_change_labels(labeled: Path, shards: Path, common: list[str], tmp_path: Path) -> None:
    flags = ["--masks", "png", "--save-confidence", "--actors", "2", "--chunk-size", "1"]
    assert run(shards, tmp_path / "out", *common, *flags) == 0
    assert contents(tmp_path / "out") == contents(labeled)
    assert not list((tmp_path / "out").glob("_parts/**/*.parquet"))


def test_a_plain_loop_without_ray_gives_the_same(
    labeled: Path, shards: Path, small_model: str, vocabulary_file: Path, tmp_path: Path
) -> None:
    """Images one by one through `WindowSegmenter.segment`; masks are compared pixel by pixel with the job's PNGs."""
    from scclip.encoder.checkpoints import find_weights, load_clip
    from scclip.encoder.config import ModelConfig
    from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
    from scclip.segmentation.segmenter import WindowSegmenter
    from scclip.segmentation.types import SegmenterConfig
    from scclip.vocabulary.text_features import encode_queries
    from scclip.vocabulary.vocabulary import Vocabulary

    clip = load_clip(find_weights(ModelConfig(model=small_model)))
    vocabulary = Vocabulary.load(str(vocabulary_file))
    features = encode_queries(clip.model, clip.tokenizer, vocabulary)
    config = SegmenterConfig(**QUICK_WINDOWS, confidence_threshold=0.2, logit_scale=40)
    segmenter = WindowSegmenter(clip.visual(), features, vocabulary.query_category, config)
    checked = 0
    for shard in sorted(shards.glob("*.tar")):
        unit = ("a.tar", "b.tar").index(shard.name) + 1
        expected = tar_members(labeled / "masks" / f"{unit:07d}.tar")
        for name, data in tar_members(shard).items():
            if name.endswith(".png"):
                result = segmenter.segment([decode_image(data, DecodeConfig()).rgb])[0]
                key = name.removesuffix(".png")
                for suffix, plane in (("seg", result.labels), ("argmax", result.argmax), ("conf", result.confidence)):
                    saved = np.asarray(Image.open(io.BytesIO(expected[f"{key}.{suffix}.png"])))
                    np.testing.assert_array_equal(saved, plane)
                checked += 1
    assert checked == 12


def tar_members(path: Path) -> dict[str, bytes]:
    import tarfile

    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]


def test_documents_masks_and_tables_agree(labeled: Path) -> None:
    images = ds.dataset(labeled / "images").to_table().to_pylist()
    segments = ds.dataset(labeled / "segments").to_table().to_pylist()
    assert len(images) == 13
    assert [row["status"] for row in images].count("ok") == 12
    annotations, entries = {}, {}
    for document in sorted((labeled / "coco").glob("*.json")):
        coco = COCO(document)
        entries |= coco.imgs
        annotations |= coco.anns
        assert all(category["id"] == place for place, category in enumerate(coco.dataset["categories"], start=1))
    assert set(entries) == {row["image_id"] for row in images if row["status"] == "ok"}
    assert len(annotations) == len(segments)
    rows = {row["image_id"]: row for row in images}
    for row in segments:
        found = annotations[row["image_id"] * 2**12 + row["category_id"]]
        mask = coco_mask.decode(found["segmentation"])
        assert mask.sum() == found["area"] == row["area"] == coco_mask.area(found["segmentation"])
        assert list(coco_mask.toBbox(found["segmentation"])) == found["bbox"] == row["bbox"]
        assert (found["image_id"], found["category_id"]) == (row["image_id"], row["category_id"])
        assert found["segmentation"] == row["rle"]
        assert found["iscrowd"] == 0
    for image_id, row in rows.items():
        assert image_id == row["unit"] * 2**20 + row["index"]
        if row["status"] != "ok":
            assert row["error"]
            continue
        masks = [coco_mask.decode(a["segmentation"]) for a in annotations.values() if a["image_id"] == image_id]
        total = np.sum(masks, axis=0) if masks else np.zeros((row["height"], row["width"]))
        assert total.max() <= 1
        pixels = row["height"] * row["width"]
        rest = (row["background_fraction"] + row["ignored_fraction"]) * pixels
        assert round(total.sum() + rest) == pixels
        assert json.loads(row["metadata"])["seed"] == int(row["key"])


def test_a_rerun_does_nothing_and_says_so(
    labeled: Path, shards: Path, common: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in labeled.rglob("*")}
    assert run(shards, labeled, *common, "--masks", "png", "--save-confidence") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in labeled.rglob("*")} == before


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--vocabulary", "voc21"], "vocabulary.name"),
        (["--chunk-size", "2"], "chunk_limits.images"),
        (["--precision", "bf16"], "model.precision"),
        (["--exif", "ignore"], "options.exif"),
        (["--stride", "56"], "segmentation.stride"),
    ],
)
def test_other_options_into_the_same_output_are_refused(
    labeled: Path, shards: Path, common: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], field: str
) -> None:
    assert run(shards, labeled, *common, "--masks", "png", "--save-confidence", *flags) == 2
    assert field in one_line(capsys)


def test_only_an_added_shard_is_read(shards: Path, common: list[str], tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.tar").write_bytes((shards / "a.tar").read_bytes())
    assert run(folder, output, *common) == 0
    before = {path: path.stat().st_mtime_ns for kind in FILES for path in (output / kind).glob("*")}
    write_shard(folder / "0-first-by-name.tar", range(20, 22))
    assert run(folder, output, *common) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["images_read"], summary["images_labeled_this_time"]) == (9, 2)
    assert sorted(path.name for path in (output / "plan").iterdir()) == ["gen-0001.parquet", "gen-0002.parquet"]
    assert {row["unit"] for row in pq.read_table(output / "images" / "0000002.parquet").to_pylist()} == {2}


def test_ids_from_keys(common: list[str], tmp_path: Path) -> None:
    names = ["000000142238.png", "dog.png", "000000439180.png", "142238.png", "9999999999999.png"]
    shard = tmp_path / "in.tar"
    shard.write_bytes(tar_bytes({name: encoded(place) for place, name in enumerate(names)}))
    assert run(shard, tmp_path / "out", *common, "--image-ids", "key", "--max-failed", "1") == 0
    rows = pq.read_table(tmp_path / "out" / "images" / "0000001.parquet").to_pylist()
    assert [(row["status"], row["image_id"]) for row in rows][:3:2] == [("ok", 142238), ("ok", 439180)]
    assert [row["status"] for row in rows] == ["ok", "bad_id", "ok", "bad_id", "bad_id"]
    assert all(row["error"] for row in rows if row["status"] == "bad_id")
    assert set(COCO(tmp_path / "out" / "coco" / "0000001.json").imgs) == {142238, 439180}


def test_failed_images_end_the_job_with_one_and_are_taken_up_again(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    write_shard(folder / "a.tar", range(3), {"x.jpg": b"<!DOCTYPE html><p>not found"})
    assert run(folder, output, *common, "--max-failed", "0.1") == 1
    assert "--max-failed 0.1" in one_line(capsys)
    before = contents(output)
    write_shard(folder / "b.tar", range(3, 7))
    assert run(folder, output, *common, "--retry-failed") == 0
    after = contents(output)
    assert {name: after[name] for name in before} == before
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["images_labeled_this_time"], summary["images_failed"]) == (7, 1)


def test_limit_labels_the_first_images(labeled: Path, shards: Path, common: list[str], tmp_path: Path) -> None:
    assert run(shards, tmp_path / "out", *common, "--limit", "9") == 0
    rows = ds.dataset(tmp_path / "out" / "images").to_table().to_pylist()
    first = ds.dataset(labeled / "images").to_table().to_pylist()[:9]
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in first]


@pytest.mark.slow
def test_photographs_and_street_scenes(shared: Path, common: list[str], tmp_path: Path) -> None:
    """Real files of many sizes: 36 read, 36 labeled."""
    inputs = [shared / "data" / "photos", shared / "data" / "camvid-24.tar"]
    assert run(*inputs, tmp_path / "out", *common) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["images_read"], summary["images_labeled"]) == (36, 36)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("scclip")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def wrong_inputs(folder: Path, model: str) -> dict[str, tuple[list[str], str]]:
    """Name → (arguments, what the line must name)."""
    write_shard(folder / "in" / "a.tar", range(1))
    (folder / "empty").mkdir()
    (folder / "file").write_text("x")
    (folder / "twice.txt").write_text("car, auto\nvan, auto\n")
    (folder / "bad.yaml").write_text("chunk_sise: 3\n")
    (folder / "other.bin").write_bytes(b"no weights")
    shard, out, street = str(folder / "in"), str(folder / "out"), ["--vocabulary", "voc20", "--model", model]
    return {
        "missing path": ([str(folder / "nowhere"), out, *street], "nowhere"),
        "empty folder": ([str(folder / "empty"), out, *street], "empty"),
        "glob of nothing": ([str(folder / "*.tarr"), out, *street], "tarr"),
        "unknown vocabulary": ([shard, out, "--vocabulary", "vox21"], "voc21"),
        "missing vocabulary file": ([shard, out, "--vocabulary", str(folder / "no.yaml")], "no.yaml"),
        "duplicate synonym": ([shard, out, "--vocabulary", str(folder / "twice.txt")], "auto"),
        "unknown model": ([shard, out, "--model", "ViT-B-17"], "ViT-B-16"),
        "no weights": ([shard, out, "--model", "ViT-B-16"], "--pretrained"),
        "unknown tag": ([shard, out, "--model", "ViT-B-16", "--pretrained", "openay"], "openay"),
        "weights that are none": (
            [shard, out, "--model", "ViT-B-16", "--pretrained", str(folder / "other.bin")],
            "other.bin",
        ),
        "weights that do not fit": (
            [
                shard,
                out,
                "--model",
                "ViT-B-32",
                "--pretrained",
                f"{model.removeprefix('local-dir:')}/open_clip_model.safetensors",
            ],
            "model ViT-B-32 has 12 blocks",
        ),
        "filesystem not installed": (["dropbox://a/b.tar", out, *street], "dropboxdrivefs"),
        "unknown filesystem": (["nosuch://a/b.tar", out, *street], "nosuch"),
        "unwritable output": ([shard, str(folder / "file" / "out"), *street], "file/out"),
        "negative number": ([shard, out, *street, "--chunk-size", "-3"], "chunk-size"),
        "no number": ([shard, out, *street, "--chunk-size", "many"], "many"),
        "bad share": ([shard, out, *street, "--max-failed", "7"], "max-failed"),
        "bad actors": ([shard, out, *street, "--actors", "3:1"], "3:1"),
        "too many actors": ([shard, out, *street, "--actors", "900"], "900"),
        "unknown option": ([shard, out, "--chunk-sise", "3"], "--chunk-sise"),
        "unknown choice": ([shard, out, "--masks", "jpg"], "jpg"),
        "no output": ([shard], "OUTPUT"),
        "unknown key in the config": ([shard, out, "--config", str(folder / "bad.yaml")], "chunk_sise"),
        "no such GPU": ([shard, out, *street, "--gpus-per-actor", "1"], "--gpus-per-actor"),
        "threshold": ([shard, out, *street, "--confidence-threshold", "2"], "2"),
    }


def test_wrong_input_gets_one_line_and_exit_code_two(
    tmp_path: Path, small_model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, (words, named) in wrong_inputs(tmp_path, small_model).items():
        assert run(*words) == 2, name
        assert named in one_line(capsys), name
        assert not list((tmp_path / "out").glob("plan/*")), name
    assert main(["lable"]) == 2
    assert "label" in one_line(capsys)


def test_the_command_itself(tmp_path: Path) -> None:
    """As a person runs it: a process of its own, help on stdout, mistakes on stderr without a traceback."""
    done = subprocess.run([sys.executable, "-m", "scclip", "label", "--help"], capture_output=True, text=True)
    assert (done.returncode, "--vocabulary" in done.stdout) == (0, True)
    words = [sys.executable, "-m", "scclip", "label", "x", "y", "--address", "127.0.0.1:9"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "--address 127.0.0.1:9: " in done.stderr and "ray start" in done.stderr


def test_a_config_file_is_the_flags(
    labeled: Path, shards: Path, common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The finished run takes the file's options for its own; a flag that wins over the file is refused as another."""
    import yaml

    names = {flag[2:].replace("-", "_"): value for flag, value in zip(common[::2], common[1::2], strict=True)}
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump({**names, "masks": "png", "save_confidence": True, "chunk_size": 5}))
    assert run(shards, labeled, "--config", config, "--chunk-size", "32") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(shards, labeled, "--config", config) == 2
    assert "chunk_limits.images 32, not 5" in one_line(capsys)
