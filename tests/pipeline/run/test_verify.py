"""What a rerun removes after a crash, and what it must not touch; which errors are the store's and not the user's."""

import os
import time
from pathlib import Path

import pytest

from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.tidying import ABANDONED, tidy
from scclip.pipeline.storage import retries
from scclip.pipeline.storage.retries import RetryConfig, StorageError, StorageUnavailable, with_retries

NAME = ".00001.parquet.0123456789abcdef0123456789abcdef.tmp"


def test_stale_parts_and_old_temporaries_go_and_nothing_else_does(tmp_path: Path) -> None:
    old, now = time.time() - ABANDONED - 60, time.time()
    gone = ["_parts/0000001/00000.parquet", "_parts/0000001/00007.parquet", f"_parts/0000002/{NAME}", f"coco/{NAME}"]
    kept = ["_parts/0000002/00000.parquet", f"segments/{NAME}", "images/0000001.parquet", "coco/.hidden.tmp", "x.tmp"]
    for name in [*gone, *kept]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        stamp = now if "segments" in name else old
        os.utime(path, (stamp, stamp))
    tidy(RunFiles(str(tmp_path)), {1})
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert not (tmp_path / "_parts/0000001").exists()


def test_a_store_that_is_down_is_told_from_one_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRIES", RetryConfig(attempts=2, first_delay=0))
    with pytest.raises(StorageUnavailable, match="after 2 attempts"):
        with_retries(lambda: (_ for _ in ()).throw(ConnectionResetError("reset")), "list", "s3://bucket/out")
    with pytest.raises(StorageError) as refused:
        with_retries(lambda: (_ for _ in ()).throw(OSError(28, "No space left")), "create", "/full/disk")
    assert not isinstance(refused.value, StorageUnavailable)
