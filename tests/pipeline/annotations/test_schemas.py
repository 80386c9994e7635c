"""schemas.py: columns of bytes as buffers, there and back, and which of them are copied."""

import gc

import numpy as np
import pyarrow as pa
import pytest

from scclip.pipeline.annotations.label_map import LABELED_SCHEMA, LabeledImage
from scclip.pipeline.annotations.schemas import records_of, table_of


def images(planes: list[bytes | memoryview | None]) -> list[LabeledImage]:
    return [LabeledImage(index=n, key=str(n), file_name=f"{n}.png", labels=plane) for n, plane in enumerate(planes)]


VALUES = {
    "bytes": [b"abc", b"", b"de"],
    "views": [memoryview(b"abc")[1:], memoryview(np.arange(5, dtype=np.uint8)), memoryview(b"")],
    "nulls": [None, b"a", None, memoryview(b"bc"), None],
    "no bytes": [b"", b""],
    "only nulls": [None, None],
    "no rows": [],
}


@pytest.mark.parametrize("name", VALUES)
def test_bytes_come_back_from_tables_their_slices_and_their_chunks(name: str) -> None:
    planes = [None if plane is None else bytes(plane) for plane in VALUES[name]]
    table = table_of(images(VALUES[name]), LABELED_SCHEMA)
    table.validate(full=True)
    assert table.schema == LABELED_SCHEMA and table["labels"].to_pylist() == planes
    assert table["argmax"].null_count == table["width"].null_count == len(planes)
    chunks = pa.concat_tables([table, table.slice(0, 0), table.slice(1)])
    for each, expected in ((table, planes), (table.slice(1), planes[1:]), (chunks, planes + planes[1:])):
        found = [None if image.labels is None else bytes(image.labels) for image in records_of(each, LabeledImage)]
        assert found == expected


def test_planes_that_lie_one_behind_the_other_are_not_copied_and_stay_alive() -> None:
    planes = np.random.default_rng(0).integers(0, 255, (4, 300, 200)).astype(np.uint8)
    expected, address = [plane.tobytes() for plane in planes], planes.ctypes.data
    together = table_of(images([plane.data.cast("B") for plane in planes]), LABELED_SCHEMA)
    apart = table_of(images([plane.data.cast("B") for plane in planes[::2]]), LABELED_SCHEMA)
    assert together["labels"].chunk(0).buffers()[2].address == address
    assert apart["labels"].chunk(0).buffers()[2].address not in range(address, address + planes.nbytes)
    del planes
    gc.collect()
    views = [image.labels for image in records_of(together, LabeledImage)]
    del together
    gc.collect()
    assert [bytes(view) for view in views] == expected and apart["labels"].to_pylist() == expected[::2]
