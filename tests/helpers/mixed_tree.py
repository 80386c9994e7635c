"""One folder with everything that people bring at once: links, odd names, odd tables, odd pictures, others' files.

tree = write_mixed_tree(folder)
main(["label", *tree.inputs, output])         # labels tree.good, and says why not for tree.bad and tree.passed_over
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from odd_inputs import (
    coco_file,
    delta_table,
    fake_export,
    fake_run,
    good_picture,
    hugging_face_cache,
    img2dataset_folder,
    link,
    write_bytes,
)
from odd_pictures import avif, foreign_tiffs, heavy_parts, jpeg, oriented_tiff, tiff_of, with_chunks
from odd_tables import CAFE, CAFE_BYTES, damage_column, image_columns, odd_columns, spark_images, text_of, write_parquet
from pictures import encoded, picture, tar_bytes

from scclip.pipeline.inputs.names import AVIF

NAMES = ["rec 12::30::05", "zip::a/b", "file::name", "what? [1]/100% *done*", "#1 {a,b}", "街道/ü~1", " blank "]
HEAVY = ("zTXt above 1 MiB", "iTXt above 1 MiB", "iCCP above 1 MiB", "tEXt with a wrong checksum")


@dataclass
class MixedTree:
    """What was written, and what has to come of it. Keys are unique."""

    folder: Path
    good: dict[str, bytes] = field(default_factory=dict)
    """Key → bytes of the pictures that are labeled."""
    bad: dict[str, str] = field(default_factory=dict)
    """Key → status of the rows without labels."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Kind → number of the files that are no input."""
    seed: int = 100

    @property
    def inputs(self) -> list[str]:
        """What is labeled: a folder, a COCO file, a list."""
        return [str(self.folder / name) for name in ("in", "coco/val.json", "list.txt")]

    def picture(self, *keys: str) -> bytes:
        """Another small picture, of these keys: it is labeled under each."""
        self.seed += 1
        data = good_picture(self.seed)
        self.good |= dict.fromkeys(keys, data)
        return data

    def passed(self, kinds: Mapping[str, int]) -> None:
        for kind, count in kinds.items():
            self.passed_over[kind] = self.passed_over.get(kind, 0) + count


def write_mixed_tree(folder: Path) -> MixedTree:
    """Writes the folder."""
    tree = MixedTree(folder)
    for write in (_links, _names, _tables, _image_columns, _pictures, _others, _coco, _list):
        write(tree, folder / "in")
    return tree


def _keyed(tree: MixedTree, keys: Iterable[str]) -> dict[str, Any]:
    """Columns of a table: an id and a picture in each row."""
    keys = list(keys)
    return {"id": keys, "image": [tree.picture(key) for key in keys]}


def _links(tree: MixedTree, root: Path) -> None:
    hub = root / "hub"
    table = write_parquet(root.parent / "made.parquet", _keyed(tree, ["hub-0", "hub-1"])).read_bytes()
    hugging_face_cache(hub, "train.parquet", table)
    hugging_face_cache(hub, "shard.tar", tar_bytes({"hub-2.png": tree.picture("hub-2")}), absolute=True)
    hugging_face_cache(hub, "deep/3.png", tree.picture("hub/snapshots/deep/3"))
    write_bytes(root.parent / "elsewhere/sub/a.png", tree.picture("again/a"))
    write_bytes(root.parent / "elsewhere/b.png", tree.picture("linked/b"))
    link(root / "linked", "../elsewhere")
    link(root / "again", "../elsewhere/sub")
    link(root / "linked/back", "../in")
    link(root / "self", ".")
    link(root / "gone.png", "nowhere.png")
    link(root / "other.png", "hub/snapshots/deep/3.png")
    os.mkfifo(root / "pipe.png")
    tree.passed({"links that lead nowhere": 1, "pipes, sockets and devices": 1, "without a usual extension": 3})
    tree.passed({"other names of files already taken": 1})


def _names(tree: MixedTree, root: Path) -> None:
    for name in NAMES:
        write_bytes(root / f"names/{name}.png", tree.picture(f"names/{name}"))
    for name, key in ((CAFE_BYTES, CAFE), (b"sub\x80/" + CAFE_BYTES, f"sub\\x80/{CAFE}"), (b"\xff\xfe", "\\xff\\xfe")):
        write_bytes(os.fsencode(root) + b"/latin/" + name + b".png", tree.picture(f"latin/{key}"))
    write_bytes(os.fsencode(root) + b"/latin/" + CAFE_BYTES + b".tar", tar_bytes({"t.png": tree.picture("t")}))


def _tables(tree: MixedTree, root: Path) -> None:
    write_parquet(root / "odd/columns.parquet", _keyed(tree, ["odd-0", "odd-1"]) | odd_columns(2))
    captions = pa.array([CAFE_BYTES if row == 3 else b"fine" for row in range(5)], pa.binary()).view(pa.string())
    write_parquet(root / "odd/captions.parquet", _keyed(tree, [f"caption-{row}" for row in range(5)]) | {"c": captions})
    columns = _keyed(tree, [f"page-{row}" for row in range(6)])
    damage_column(write_parquet(root / "odd/pages.parquet", columns, row_group_size=2), "image", group=1)
    for key in ("page-2", "page-3"):
        del tree.good[key]
        tree.bad[key] = "bad_shard"
    columns = {"id": text_of(CAFE_BYTES, 1), "image": [tree.picture(CAFE)]}
    write_parquet(root / "odd/key.parquet", columns)
    write_parquet(root / "odd/null.parquet", {"id": ["null", "there"], "image": [None, tree.picture("there")]})
    tree.bad["null"] = "unreadable"


def _image_columns(tree: MixedTree, root: Path) -> None:
    for place, kind in enumerate(image_columns([b"x"])):
        keys = [f"{kind} 0", f"{kind} 1"]
        images = [tree.picture(key) for key in keys]
        write_parquet(root / f"types/{place}.parquet", {"id": keys, "image": image_columns(images)[kind]})
    scene = picture(99, (20, 30))
    tree.good["spark"] = encoded(99, (20, 30))
    write_parquet(root / "types/spark.parquet", {"id": ["spark"], "image": spark_images([scene])})
    lists = [[{"bytes": tree.picture("list")}]]
    write_parquet(root / "types/list.parquet", {"id": ["list"], "image": lists})


def _pictures(tree: MixedTree, root: Path) -> None:
    scene, parts = picture(98, (20, 30)), heavy_parts()
    good = {f"{part}.png": with_chunks(encoded(place, (20, 30)), parts[part]) for place, part in enumerate(HEAVY)}
    good |= {f"turned {n}.tif": oriented_tiff(n, scene) for n in (3, 6)}
    good["page.tif"] = tiff_of(picture(97, (5, 8)), scene, tags=[{254: 1}, {254: 0}])
    good["end.jpg"] = jpeg(96)[:-2]
    if AVIF:
        good["a.avif"] = avif()
    bad = {f"{place}.tif": (data, "unsupported") for place, (data, _) in enumerate(foreign_tiffs().values())}
    bad["newline.jpg"] = (b"\n" + jpeg(95), "undecodable")
    bad["cut.png"] = (encoded(94)[:200], "undecodable")
    bad["empty.png"] = (b"", "empty")
    for name, data in good.items():
        write_bytes(root / "pictures" / name, data)
        tree.good[f"pictures/{name.rpartition('.')[0]}"] = data
    for name, (data, status) in bad.items():
        write_bytes(root / "pictures" / name, data)
        tree.bad[f"pictures/{name.rpartition('.')[0]}"] = status


def _others(tree: MixedTree, root: Path) -> None:
    """Folders and files that other programs, and this one, have left."""
    img2dataset_folder(root / "laion")
    tree.good |= {f"{shard:05d}{number:04d}": jpeg(number) for shard in range(2) for number in range(3)}
    tree.passed({"Parquet without an image column": 2, ".json": 2})
    delta_table(root / "delta", [tree.picture("delta")])
    write_parquet(root / "delta/part-00000-c000.snappy.parquet", {"id": ["delta"], "image": [tree.good["delta"]]})
    tree.passed({"_delta_log": 2, "without a usual extension": 1, "hidden": 1})
    fake_run(root / "labels")
    fake_export(root / "for/training")
    tree.passed({"in a run's folder": 6, "in an export's folder": 3})
    names = {"b.mpo": ".mpo", "c.JPE": ".jpe", "d.tar.xz": ".tar.xz", "a.seg.png": "labels beside images"}
    names |= {"@eaDir/a.png/thumb.png": "@eaDir", ".ipynb_checkpoints/a.png": "hidden", "run.json": ".json"}
    for name, kind in names.items():
        write_bytes(root / "others" / name, b"{}")
        tree.passed({kind: 1})


def _coco(tree: MixedTree, root: Path) -> None:
    folder = root.parent / "coco"
    names = {1: "./b.jpg", 2: "sub//c.jpg", 3: "sub/./d.jpg", 4: "sub\\e.jpg", 5: "gone.jpg", 6: "../in/gone.png"}
    write_bytes(folder / "b.jpg", tree.picture("1"))
    for key, name in (("2", "c"), ("3", "d"), ("4", "e")):
        write_bytes(folder / f"sub/{name}.jpg", tree.picture(key))
    tree.bad |= {"5": "missing", "6": "missing"}
    coco_file(folder / "val.json", [{"id": key, "file_name": name} for key, name in names.items()])


def _list(tree: MixedTree, root: Path) -> None:
    root = root.parent
    for number in range(3):
        write_bytes(root / f"more/{number:03d}.png", tree.picture(f"more/{number:03d}"))
    write_bytes(os.fsencode(root) + b"/more/" + CAFE_BYTES + b".png", tree.picture(f"more/{CAFE}"))
    lines = [b"# what else there is", b"more/{000..002}.png", b"more/" + CAFE_BYTES + b".png", b"more/lost.png"]
    lines += [b"in/latin/../latin/" + CAFE_BYTES + b".png", json.dumps("no picture").encode()]
    write_bytes(root / "list.txt", b"\xef\xbb\xbf" + b"\r\n".join(lines))
    tree.bad |= {"more/lost": "missing", '"no picture"': "missing"}
