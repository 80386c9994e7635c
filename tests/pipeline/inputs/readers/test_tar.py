"""The tar reader against Python's tarfile, and what it says about tars that are cut or broken anywhere."""

import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from scclip.pipeline.inputs.readers.tar import GzipStream, Member, TarError, members, tar_bytes

BLOCK = 512


def make_tar(entries: list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in entries:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def read_all(data: bytes, zipped: bool = False) -> tuple[list[tuple[str, bytes]], str | None]:
    """((name, body) of every member that is there whole, the error or None)."""
    stream = GzipStream(io.BytesIO(data)) if zipped else io.BytesIO(data)
    found: list[tuple[str, bytes]] = []
    try:
        for member in members(stream, None if zipped else len(data)):
            body = stream.read(member.size)
            if len(body) < member.size:
                raise TarError("cut inside", member.offset)
            found.append((member.name, body))
    except TarError as error:
        return found, str(error)
    return found, None


ENTRIES = [
    ("a.jpg", b"x" * 700),
    ("empty.txt", b""),
    ("deep/" * 40 + "long name.png", b"y" * 512),
    ("ünïcode/🙂.jpg", b"z" * 1025),
    ("/absolute/../x.jpg", b"1"),
    ("b" * 150 + ".json", b"{}"),
]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("zipped", [False, True])
def test_members_equal_tarfiles(format: int, zipped: bool) -> None:
    data = make_tar(ENTRIES, format)
    packed = gzip.compress(data[:3000]) + gzip.compress(data[3000:]) + b"\0" * 20 if zipped else data
    assert read_all(packed, zipped) == (ENTRIES, None)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(m.name, m.size) for m in tar] == [(name, len(body)) for name, body in ENTRIES]


def test_reading_on_from_any_member_gives_the_rest() -> None:
    for data in (make_tar(ENTRIES), make_tar(ENTRIES, tarfile.PAX_FORMAT), make_tar(ENTRIES) + make_tar(ENTRIES)):
        whole = list(members(io.BytesIO(data), len(data)))
        for number, member in enumerate(whole):
            stream = io.BytesIO(data)
            stream.seek(member.offset)
            assert list(members(stream, len(data))) == whole[number:]
    assert len(whole) == 2 * len(ENTRIES)  # members after the end blocks count


def test_a_tar_cut_anywhere_is_never_taken_for_a_whole_one() -> None:
    data = make_tar(ENTRIES[:2] + ENTRIES[3:4])
    end = len(data.rstrip(b"\0")) + -len(data.rstrip(b"\0")) % BLOCK
    for cut in [*range(0, end, 61), *range(0, end + 1, BLOCK), end - 1]:
        found, error = read_all(data[:cut])
        assert error and all(pair in ENTRIES for pair in found), cut
        found_zipped, error_zipped = read_all(gzip.compress(data[:cut]), zipped=True)
        assert error_zipped and found_zipped == found, cut
    assert read_all(data[: end + BLOCK])[1] is None  # one end block will do
    assert "end blocks are missing" in str(read_all(data[:end])[1])
    assert "empty" in str(read_all(b"")[1])
    assert read_all(b"\0" * 10240) == ([], None)


def test_gzip_cut_or_broken_anywhere_is_an_error() -> None:
    packed = gzip.compress(make_tar(ENTRIES))
    for cut in range(0, len(packed)):
        assert read_all(packed[:cut], zipped=True)[1], cut
    generator = random.Random(3)
    for _ in range(200):
        place = generator.randrange(10, len(packed))
        broken = packed[:place] + bytes([packed[place] ^ 1 << generator.randrange(8)]) + packed[place + 1 :]
        found, error = read_all(broken, zipped=True)
        assert error or found == ENTRIES  # the padding bits of the last byte mean nothing
    assert "gzip" in str(read_all(packed + b"rubbish", zipped=True)[1])


def test_broken_headers_are_named_with_their_place() -> None:
    data = make_tar([("a.jpg", b"x" * 600), ("b.jpg", b"y")])
    place = BLOCK + 1024
    found, error = read_all(data[:place] + b"\1" * BLOCK + data[place + BLOCK :])
    assert found == [("a.jpg", b"x" * 600)]
    assert error == f"broken header (bad number) at byte {place:,}: what follows was not read"
    assert read_all(b"<html>" * 100)[1] == "not a tar: starts with b'<html><html><htm'"
    assert "no tar member" in str(read_all(data + b"rubbish" * 100)[1])

    huge = tarfile.TarInfo("huge.jpg")
    huge.size = 10 * 2**30
    claims = read_all(data[:place] + huge.tobuf(tarfile.GNU_FORMAT) + b"x" * 700)[1]
    assert claims == f"huge.jpg at byte {place:,} claims 10,737,418,240 bytes, 700 are left"


def test_links_devices_folders_and_sparse_members_have_their_kind() -> None:
    kinds = {b"2": "link", b"1": "link", b"3": "device", b"6": "device", b"5": "folder", b"0": "file", b"7": "file"}
    data = b""
    for kind in kinds:
        header = tarfile.TarInfo("x.jpg")
        header.type, header.linkname = kind, "/etc/passwd"
        data += header.tobuf()
    found: list[Member] = list(members(io.BytesIO(data + b"\0" * 1024), len(data) + 1024))
    assert [member.kind for member in found] == list(kinds.values()) and not any(member.size for member in found)


@pytest.mark.parametrize("seed", range(5))
def test_random_damage_gives_members_or_a_tar_error_and_nothing_else(seed: int) -> None:
    generator = random.Random(seed)
    data = bytearray(make_tar(ENTRIES, generator.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(generator.randrange(1, 6)):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        read_all(bytes(broken))


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/a.png", "//a.png", "a/..", "..", "a//b.png"])
def test_what_is_written_stays_below_the_folder_that_it_is_unpacked_in(name: str, tmp_path: Path) -> None:
    data = tar_bytes([(name, b"1"), ("./kept/a..b/...png", b"2")])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        written, kept = tar.getnames()
    assert (tmp_path / written).resolve().is_relative_to(tmp_path) and ".." not in written.split("/")
    assert kept == "./kept/a..b/...png"
