"""Credentials that people put into commands, inputs and files are shown nowhere and stored nowhere."""

import base64
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from secret_forms import SECRET, TEXTS, URLS
from stand_in_runs import number, picture_bytes, stand_in_run, write_tar

from scclip.jobs.cli.main import VERBS, main
from scclip.jobs.submission.request import Request
from scclip.pipeline.annotations.schemas import records_of
from scclip.pipeline.inputs.chunks import ChunkLimits, EncodedImage
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import read_plan, write_generation
from scclip.pipeline.storage import retries
from scclip.pipeline.storage.retries import RetryConfig, redact
from scclip.pipeline.storage.secrets import is_secret, public_url

HARMLESS = [
    "s3://bucket/a@2x.png", "http://host:8080/a@2x.png", "s3://bucket/shard-??.tar", "s3://arn:aws:s3:eu:1:ap/x@y.png",
    "abfs://images@account.dfs.core.windows.net/x", "key: 5, keys=3, anomaly_tokens: 7, --image-ids key", "me@host.org",
    "gs://bucket/a:b@c.png", "unit 3: the key is 'token'", "http://[::1]:8265/x", "access denied; tokens are words",
]  # fmt: skip

SECRET_VARIABLES = [
    "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "azure_storage_key",
    "AZURE_STORAGE_CONNECTION_STRING", "GOOGLE_APPLICATION_CREDENTIALS", "MINIO_ROOT_PASSWORD", "RAY_AUTH_TOKEN",
    "OUR_KEY", "OUR_TOKEN_2", "SECRET_KEY_BASE",
]  # fmt: skip
OPEN_VARIABLES = ["TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "AWS_REGION", "AWS_ENDPOINT_URL", "HF_HOME", "KEYBOARD"]


def commands(url: str, folder: Path) -> dict[str, list[str]]:
    """A command of every verb that names a URL where it takes one."""
    out = str(folder / "out")
    return {
        "label": ["label", url, out],
        "status": ["status", url],
        "shard": ["shard", "voc21", url, out],
        "evaluate": ["evaluate", url, out, "--vocabulary", "voc21"],
        "verify": ["verify", url],
        "report": ["report", url],
        "export": ["export", url, out],
        "compare": ["compare", url, url, "--output", "none"],
        "submit": ["submit", "--address", "http://127.0.0.1:9", "--", "label", url, "s3://bucket/out"],
        "bench": ["bench", "io", url],
        "preview": ["preview", url, "--output", str(folder / "preview.html")],
        "student": ["student", "--output", url, "--scenes", "1", "--test", "1"],
        "demo": ["demo", "--output", url, "--images", "4", "--shards-only"],
    }


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Storage requests are not repeated, and nobody's own credentials or caches are used."""
    monkeypatch.setattr(retries, "RETRIES", RetryConfig(attempts=1))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", [*SECRET_VARIABLES, *OPEN_VARIABLES])
def test_names_of_variables_say_which_values_are_secret(name: str) -> None:
    assert is_secret(name) == (name in SECRET_VARIABLES)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", URLS)
def test_no_verb_shows_or_keeps_what_a_url_holds(
    form: str, verb: str, tmp_path: Path, one_attempt: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(commands(URLS[form], tmp_path)[verb]) in (1, 2)
    out, err = capfd.readouterr()
    assert SECRET not in out + err and err.count("\n") >= 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("form", URLS)
def test_a_submitted_job_never_carries_a_url_with_credentials(form: str) -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        Request.parse(["label", URLS[form], "s3://bucket/out"])
    assert SECRET not in redact(str(refused.value))


@pytest.mark.parametrize("form", [*URLS, *TEXTS])
def test_no_text_keeps_a_secret(form: str) -> None:
    text = (URLS | TEXTS)[form]
    assert SECRET not in redact(f"cannot read '{text}' (after 8 attempts)") and SECRET not in redact(json.dumps(text))
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece", ["s3://", "://a:", "http://", "://a/", "s3://?", "a://b?c=", "eyJ-", "a", "@", "token", "x-amz-"]
)
@pytest.mark.parametrize("end", ["", "@", "?x"])
def test_a_long_name_takes_a_moment(piece: str, end: str) -> None:
    text, began = piece * (100_000 // len(piece)) + end, time.process_time()
    redact(f"s3://bucket {text}")
    public_url(f"s3://{text}")
    assert time.process_time() - began < 5


def test_a_terminal_is_not_steered_by_names_of_strangers() -> None:
    name = "a\x1b]0;title\x07\x1b[2Jb\x9b31m\u202ecod.exe\x7f"
    assert redact(name) == "a\\x1b]0;title\\x07\\x1b[2Jb\\x9b31m\\u202ecod.exe\\x7f"
    assert redact("two\nlines\tof é 日本") == "two\nlines\tof é 日本"


class SignedFiles(http.server.SimpleHTTPRequestHandler):
    """Files that are given to those who come with the signature of the day, or with a password."""

    signature = f"{SECRET}1"

    def send_head(self):  # type: ignore[no-untyped-def]
        signed = parse_qs(urlsplit(self.path).query).get("X-Amz-Signature") == [type(self).signature]
        known = self.headers.get("Authorization", "") == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        if not signed and not known:
            self.send_error(403)
            return None
        return super().send_head()

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves tmp_path/files; the host and port."""
    (tmp_path / "files").mkdir()

    def handler(*given):  # type: ignore[no-untyped-def]
        return SignedFiles(*given, directory=str(tmp_path / "files"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def stored(folder: Path) -> str:
    """All that the files of a run say, Parquet as the values that it holds and the names of its columns."""
    texts = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            texts.append(f"{table.schema} {table.schema.metadata} {table.to_pylist()}")
        elif path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    return "\n".join([*texts, *map(str, folder.rglob("*"))])


def test_presigned_urls_are_read_and_never_stored(server: str, tmp_path: Path, one_attempt: None) -> None:
    write_tar(tmp_path / "files" / "a.tar", [("x.png", 5), ("y.png", 6)])
    for value in (7, 8):
        (tmp_path / "files" / f"{value}.png").write_bytes(picture_bytes(value))
    (tmp_path / "files" / "broken.tar").write_bytes(b"no tar" * 200)

    def inputs(signature: str) -> list[str]:
        query = f"X-Amz-Credential=AKID/2026/s3&X-Amz-Signature={signature}"
        listed = tmp_path / "list.txt"
        listed.write_text(f"http://{server}/7.png?{query}\nhttp://me:{SECRET}@{server}/8.png\n")
        return [f"http://{server}/a.tar?{query}", str(listed), f"http://{server}/broken.tar?{query}"]

    def values(units: list[Unit]) -> list[int]:
        chunks = [chunk for unit in units for chunk in read_unit(unit, ChunkLimits())]
        files = [image.data for chunk in chunks for image in records_of(chunk.images, EncodedImage) if image.data]
        return [number(decode_image(bytes(data), DecodeConfig()).rgb[..., 0] > 127) for data in files]

    run = stand_in_run(tmp_path / "run", inputs(f"{SECRET}1"))
    written = stored(run)
    assert SECRET not in written and "AKID" not in written and f"http://{server}/7.png" in written
    assert sorted(re.findall(r"'status': '(\w+)'", written)).count("ok") == 4 and "bad_shard" in written
    files = RunFiles(str(run))
    known, SignedFiles.signature = read_plan(files), f"{SECRET}2"  # the next day
    assert not plan_units(inputs(f"{SECRET}2"), known)
    again = write_generation(files, known, [], lambda seen: [])
    assert sorted(values(again)) == [5, 6, 7, 8] and stored(run) == written
    SignedFiles.signature = f"{SECRET}1"
