"""The same operations on a local folder, in memory and on an HTTP S3 server behind a proxy that can be faulty."""

import http.client
import http.server
import io
import os
import random
import socket
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from objectstore import CREDENTIALS, object_store

from scclip.pipeline.inputs.chunks import ChunkLimits
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.storage import files as storage
from scclip.pipeline.storage import retries
from scclip.pipeline.storage.retries import RetryConfig, StorageError, redact, with_retries

ATTEMPTS = 6
KINDS = ["local", "memory", "s3"]


class FaultyProxy(http.server.BaseHTTPRequestHandler):
    """Forwards to the S3 server, after asking `faults` what harm to do to this request."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    faults: list[str] = []  # noqa: RUF012 - shared by design: one entry is used up by each request

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "slow down":
            return self._answer(503, b"<Error><Code>SlowDown</Code><Message>Slow</Message></Error>")
        if fault == "reset":
            return self._drop()
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        if fault == "reset after":
            return self._drop()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in ("date", "server")}
        self._answer(answer.status, data[: len(data) // 2] if fault == "truncate" else data, headers)
        if fault == "truncate":
            self._drop()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": str(len(data))}).items():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else data)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[FaultyProxy]]:
    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FaultyProxy)
    threading.Thread(target=front.serve_forever, daemon=True).start()
    with object_store(tmp_path_factory.mktemp("store")) as upstream, pytest.MonkeyPatch.context() as patch:
        FaultyProxy.upstream = upstream
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{front.server_address[1]}")
        fs = storage.filesystem("s3://bucket")[0]
        fs.clear_instance_cache()
        storage.filesystem("s3://bucket")[0].mkdir("bucket")
        yield FaultyProxy
        fs.clear_instance_cache()
    front.shutdown()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retries, "RETRIES", RetryConfig(attempts=ATTEMPTS, first_delay=0.01))
    yield
    FaultyProxy.faults.clear()


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("proxy")
    name = str(uuid.uuid4())
    return {"local": str(tmp_path), "memory": f"memory:///{name}", "s3": f"s3://bucket/{name}"}[request.param]


@pytest.mark.parametrize("root", KINDS, indirect=True)
def test_every_filesystem_writes_lists_and_reads_the_same(root: str) -> None:
    names = ["b/2.bin", "a.bin", "b/1.bin", "ü [1].bin"]
    contents = {name: os.urandom(1000 + len(name)) for name in names}
    assert storage.list_files(root) == []
    assert all(storage.create(storage.join(root, name), data) for name, data in contents.items())

    listed = storage.list_files(root)
    assert [file.url.removeprefix(root).lstrip("/") for file in listed] == sorted(names)
    assert [file.url.rpartition("/")[2] for file in storage.list_files(root + "/b/*.bin")] == ["1.bin", "2.bin"]
    for file in listed:
        data = contents[file.url.removeprefix(root).lstrip("/")]
        assert storage.info(file.url) == file and file.version
        assert storage.read_bytes(file.url) == data == storage.read_bytes(file.url, expected_size=file.size)
        assert storage.read_bytes(file.url, 10, 20) == data[10:30]

    target = storage.join(root, "a.bin")
    assert not storage.create(target, b"the loser") and storage.read_bytes(target) == contents["a.bin"]
    before = storage.info(target).version
    storage.replace(target, b"new")
    assert storage.read_bytes(target) == b"new" and storage.info(target).version != before
    assert storage.is_folder(storage.join(root, "b")) and not storage.is_folder(target)
    storage.remove([file.url for file in listed] + [target], prune=True)
    assert storage.list_files(root) == [] and not storage.exists(target)
    with pytest.raises(FileNotFoundError, match=r"a\.bin"):
        storage.info(target)


@pytest.mark.parametrize("root", KINDS, indirect=True)
def test_one_of_many_writers_wins_and_its_bytes_stay(root: str) -> None:
    target = storage.join(root, "part")
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda number: storage.create(target, b"%d" % number * 5000), range(16)))
    assert sum(won) == 1 or root.startswith("memory")  # fsspec's memory filesystem checks, then writes
    assert storage.read_bytes(target) in {b"%d" % number * 5000 for number, mine in enumerate(won) if mine}
    assert [file.url.rpartition("/")[2] for file in storage.list_files(root)] == ["part"]


@pytest.mark.parametrize("root", KINDS, indirect=True)
def test_a_stream_equals_the_bytes_wherever_it_is_read(root: str) -> None:
    data, target, generator = os.urandom(50_000), storage.join(root, "stream"), random.Random(7)
    storage.create(target, data)
    with storage.open_stream(target, 123, size=len(data), block=777) as file:
        assert file.read(10) == data[123:133]
        for _ in range(60):
            if generator.random() < 0.4:
                file.seek(generator.randrange(len(data) + 100))
            begin, length = file.tell(), generator.choice([0, 1, 512, 776, 777, 5000, -1])
            assert file.read(length) == (data[begin : begin + length] if length >= 0 else data[begin:])
    with (
        storage.open_stream(target, size=len(data) + 1) as file,
        pytest.raises(StorageError, match=r"50,000 bytes came"),
    ):
        while file.read(4096):
            pass


def test_a_hard_link_that_is_impossible_is_replaced_by_an_exclusive_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = str(tmp_path / "x")
    assert storage.create(target, b"first") and not storage.create(target, b"second")
    assert os.listdir(tmp_path) == ["x"] and storage.read_bytes(target) == b"first"


@pytest.mark.parametrize("root", ["s3"], indirect=True)
@pytest.mark.parametrize("fault", ["slow down", "reset", "reset after", "truncate"])
def test_passing_faults_are_retried_and_counted(root: str, fault: str) -> None:
    operations: list[tuple[str, Callable[[str], object]]] = [
        ("create", lambda url: storage.create(url, b"x" * 2000)),
        ("read", lambda url: storage.read_bytes(url, 0, 2000) == b"x" * 2000),
        ("list", lambda url: len(storage.list_files(root)) == 1),
        ("info", lambda url: storage.info(url).size == 2000),
        ("replace", lambda url: storage.replace(url, b"y") is None),
    ]
    for name, operation in operations:
        before = retries.retries_used()
        FaultyProxy.faults[:] = [fault] * 2  # aiohttp itself repeats a request on a used connection, once
        assert operation(storage.join(root, "object")), name
        no_body = fault == "truncate" and name in ("create", "info", "replace")
        assert retries.retries_used() > before or no_body, name
    assert storage.read_bytes(storage.join(root, "object")) == b"y"


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_lasting_faults_end_in_one_line(root: str) -> None:
    storage.create(storage.join(root, "object"), b"x")
    FaultyProxy.faults[:] = ["slow down"] * 100
    with pytest.raises(StorageError, match=r"^cannot read s3://bucket/.*/object: .*\(after 6 attempts\)$") as failure:
        storage.read_bytes(storage.join(root, "object"), 0, 1)
    assert "\n" not in str(failure.value) and len(FaultyProxy.faults) == 100 - ATTEMPTS


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_an_own_success_that_looked_like_a_failure_counts_and_anothers_does_not(root: str) -> None:
    FaultyProxy.faults[:] = ["reset after"]
    assert storage.create(storage.join(root, "mine"), b"same bytes")
    storage.create(storage.join(root, "theirs"), b"other bytes")
    FaultyProxy.faults[:] = ["reset"]
    assert not storage.create(storage.join(root, "theirs"), b"my bytes")
    assert storage.read_bytes(storage.join(root, "theirs")) == b"other bytes"


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_a_shard_read_through_faults_equals_the_local_one(root: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(30):
            header = tarfile.TarInfo(f"{number}.jpg")
            header.size = 600_000
            tar.addfile(header, io.BytesIO(os.urandom(header.size)))
    storage.create(storage.join(root, "a.tar"), (tmp_path / "a.tar").read_bytes())
    (local,) = plan_units([str(tmp_path)])
    (remote,) = plan_units([root])
    whole, before = list(read_unit(local, ChunkLimits(images=4))), retries.retries_used()
    FaultyProxy.faults[:] = random.Random(5).choices(["", "reset", "truncate", "slow down"], [5, 1, 1, 1], k=100)
    assert list(read_unit(remote, ChunkLimits(images=4))) == whole and retries.retries_used() > before
    start = whole[4].resume
    assert list(read_unit(remote, ChunkLimits(images=4), range(5), start)) == whole[5:]


def test_what_cannot_pass_is_not_retried(tmp_path: Path) -> None:
    before = retries.retries_used()
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(str(tmp_path / "nothing"), 0, 1)
    with pytest.raises(IsADirectoryError):
        storage.info(str(tmp_path))
    with pytest.raises(StorageError, match="No space left"):
        with_retries(lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")), "write", "/x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        storage.create(str(tmp_path / "file" / "x"), b"")
    assert retries.retries_used() == before
    with pytest.raises(ValueError, match="attempts is 0"):
        RetryConfig(attempts=0)


def test_messages_hold_no_credentials() -> None:
    text = "https://me:pass@host/a?X-Amz-Signature=abc&x=1 failed: aws_secret_access_key=hunter2, token: t0p"
    assert redact(text) == "https://host/a?… failed: aws_secret_access_key=…, token: …"
