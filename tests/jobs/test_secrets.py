"""Credentials that people put into commands, inputs and files are shown nowhere and stored nowhere."""

import base64
import http.server
import importlib
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
from pictures import tar_bytes
from safetensors.torch import save_file
from secret_forms import SECRET, TEXTS, URLS
from stand_in_runs import number, picture_bytes, stand_in_run, write_tar
from towers import SMALL16, model_config

from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.main import READ_WORDS, VERBS, main
from scclip.jobs.evaluate import run_evaluation
from scclip.jobs.options.evaluate import EvaluateOptions
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.finished import asked_for
from scclip.jobs.submission.request import Request
from scclip.pipeline.annotations.png import png
from scclip.pipeline.annotations.schemas import records_of
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.inputs.chunks import ChunkLimits, EncodedImage
from scclip.pipeline.inputs.decoding import DecodeConfig, decode_image
from scclip.pipeline.inputs.plan import plan_units
from scclip.pipeline.inputs.readers.unit import read_unit
from scclip.pipeline.inputs.units import Unit
from scclip.pipeline.labeling.models import load_vocabulary
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.generations import read_plan, write_generation
from scclip.pipeline.storage import retries
from scclip.pipeline.storage.retries import RetryConfig, redact
from scclip.pipeline.storage.secrets import has_userinfo, is_secret, public_url, signed_url
from scclip.segmentation.types import SegmentationOptions

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


def with_options(url: str, folder: Path) -> dict[str, list[str]]:
    """A command for every option that may name a file which lies elsewhere, by verb and option; the rest is there."""
    shard, run, out = str(folder / "in.tar"), str(folder / "run"), str(folder / "out")
    clip, scored = ["--model", "ViT-B-16"], ["evaluate", shard, out, "--vocabulary"]
    preview = ["preview", shard, "--output", str(folder / "preview.html")]
    return {
        "label --vocabulary": ["label", shard, out, "--vocabulary", url],
        "label --pretrained": ["label", shard, out, *clip, "--pretrained", url],
        "label --calibration": ["label", shard, out, "--calibration", url],
        "label --config": ["label", shard, out, "--config", url],
        "evaluate --vocabulary": [*scored, url],
        "evaluate --pretrained": [*scored, "voc21", *clip, "--pretrained", url],
        "evaluate --calibration": [*scored, "voc21", "--calibration", url],
        "evaluate --labels": ["evaluate", out, "--labels", url, "--truth", shard],
        "evaluate --truth": ["evaluate", out, "--labels", run, "--truth", url],
        "preview --vocabulary": [*preview, "--vocabulary", url],
        "preview --pretrained": [*preview, *clip, "--pretrained", url],
        "preview --calibration": [*preview, "--calibration", url],
        "export --classes": ["export", run, out, "--classes", url],
        "export --thresholds": ["export", run, out, "--thresholds", url],
        "compare --output": ["compare", run, run, "--output", url],
        "shard --truth": ["shard", "folders", str(folder), out, "--truth", url],
        "bench model --pretrained": ["bench", "model", *clip, "--pretrained", url],
        "bench fidelity --reference": ["bench", "fidelity", "--reference", url],
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


def test_the_table_of_options_has_all_that_name_files() -> None:
    table = with_options("", Path())
    for verb in VERBS.keys() - READ_WORDS:
        parser = importlib.import_module(f"scclip.jobs.options.{verb}").parser()
        for name, (field, *_) in parser.fields.items():
            if field.metadata.get("travels") in ("file", "weights"):
                assert f"{verb} --{name}" in table


@pytest.mark.parametrize("option", with_options("", Path()))
def test_no_option_shows_or_keeps_what_its_url_holds(
    option: str, tmp_path: Path, one_attempt: None, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in_run(tmp_path / "run", [write_tar(tmp_path / "in.tar", [("x.png", 5)])])
    for form, url in URLS.items():
        assert main(with_options(url, tmp_path)[option]) in (1, 2), form
        out, err = capfd.readouterr()
        assert SECRET not in out + err and err.count("\n") >= 1, form
        assert SECRET not in stored(tmp_path), form


LOCAL = {"calibration", "config", "reference"}  # options that read files of this machine alone


@pytest.mark.parametrize("form", ["key and secret", "a key alone", "Azure's userinfo"])
def test_a_store_whose_url_holds_a_key_is_refused_with_a_remedy(
    form: str, tmp_path: Path, one_attempt: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stand_in_run(tmp_path / "run", [write_tar(tmp_path / "in.tar", [("x.png", 5)])])
    given = commands(URLS[form], tmp_path) | with_options(URLS[form], tmp_path)
    given["export OUTPUT"] = ["export", str(run), URLS[form]]
    for name, words in given.items():
        if words[0] in ("submit", "bench") or name.rpartition("--")[2] in LOCAL:
            continue
        assert main(words) == 2, name
        what = "the URL holds credentials, which stores do not read from it"
        remedy = "give the nodes a role, or set the store's variables (AWS_ACCESS_KEY_ID, …) there"
        assert capsys.readouterr().err.endswith(f"{what}; {remedy}\n"), name


@pytest.mark.parametrize("form", URLS)
def test_a_url_that_was_taken_for_a_path_shows_nothing(form: str) -> None:
    url = URLS[form]
    assert SECRET not in redact(f"No such file: '{Path(url)}'") and redact(str(Path(url))) == redact(url)


def test_a_chain_of_urls_is_without_the_credentials_of_its_last() -> None:
    signed = f"https://me:{SECRET}@host/c.zip?id=7&X-Amz-Signature={SECRET}"
    for outer in ("zip://a@b.png::", "simplecache::", "zip://a.png::simplecache::"):
        assert public_url(outer + signed) == f"{outer}https://host/c.zip?id=7"
        assert signed_url(f"{outer}https://host/c.zip?id=7") == outer + signed
        assert has_userinfo(f"{outer}s3://AKID:{SECRET}@bucket/c.zip") and not has_userinfo(f"{outer}s3://b/c@d.zip")


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


def query(day: int) -> str:
    """What a URL is signed with on a day; the server takes no other."""
    SignedFiles.signature = f"{SECRET}{day}"
    return f"X-Amz-Credential=AKID/2026/s3&X-Amz-Signature={SECRET}{day}"


def test_an_export_reads_signed_files_and_keeps_their_names_alone(
    server: str, tmp_path: Path, one_attempt: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = stand_in_run(tmp_path / "run", [write_tar(tmp_path / "in.tar", [("x.png", 5)])]), tmp_path / "out"
    (tmp_path / "files" / "classes.yaml").write_text("bright: renamed\n")
    (tmp_path / "files" / "thresholds.yaml").write_text("bright: 0.1\n")
    for day in (1, 2):
        classes = f"http://{server}/classes.yaml?{query(day)}"
        thresholds = f"http://me:{SECRET}@{server}/thresholds.yaml"
        assert main(["export", str(run), str(out), "--classes", classes, "--thresholds", thresholds]) == 0
        written = stored(out)
        assert SECRET not in written and "AKID" not in written and "renamed" in written
        options = json.loads((out / "export.json").read_text())["options"]
        assert [options["classes"], options["thresholds"]] == [
            f"http://{server}/classes.yaml",
            f"http://{server}/thresholds.yaml",
        ]
    said = capsys.readouterr()
    assert "nothing to do" in said.out and SECRET not in said.out + said.err


def test_a_page_shows_its_runs_without_what_their_names_hold(tmp_path: Path) -> None:
    run = stand_in_run(tmp_path / f"token={SECRET}" / "run", [write_tar(tmp_path / "in.tar", [("x.png", 5)])])
    page = tmp_path / "compare.html"
    assert main(["compare", str(run), str(run), "--output", str(page)]) == 0
    assert SECRET not in page.read_text() and "token=…" in page.read_text()


@pytest.fixture
def small_clip(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serves weights of a small CLIP, which open_clip knows by the name that is returned, as `NAME.safetensors`."""
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    config = tmp_path / "small-clip.json"
    config.write_text(json.dumps(sizes := model_config({**SMALL16, "width": 32}, text_width=8)))
    open_clip.add_model_config(config)
    save_file(open_clip.CLIP(**sizes).state_dict(), tmp_path / "files" / "small-clip.safetensors")
    return "small-clip"


def test_an_evaluation_reads_signed_weights_and_words_and_keeps_their_names_alone(
    server: str, small_clip: str, tmp_path: Path, one_attempt: None
) -> None:
    shard, out = tmp_path / "in.tar", tmp_path / "out"
    shard.write_bytes(tar_bytes({"x.png": picture_bytes(5), "x.seg.png": png(np.zeros((16, 16), np.uint8))}))
    (tmp_path / "files" / "words.txt").write_text("dark\nbright\n")
    pages = []
    for day in (1, 2):
        vocabulary = f"http://{server}/words.txt?{query(day)}"
        model = ModelConfig(model=small_clip, pretrained=f"http://{server}/{small_clip}.safetensors?{query(day)}")
        options = EvaluateOptions(paths=(str(shard), str(out)), vocabulary=vocabulary)
        assert not run_evaluation(options, model, SegmentationOptions(), ComputeConfig(), here=True).failed
        pages.append({name: (out / name).read_bytes() for name in ("run.json", "results.json", "report.html")})
    written = stored(out) + stored(tmp_path / "cache")
    assert SECRET not in written and "AKID" not in written
    for name in ("results.json", "results.md", "report.html"):
        assert f"http://{server}/{small_clip}.safetensors" in (out / name).read_text(), name
    assert pages[0] == pages[1]


def test_a_command_is_recognised_after_its_urls_were_signed_anew(
    server: str, tmp_path: Path, one_attempt: None
) -> None:
    (tmp_path / "files" / "w.pt").write_bytes(b"weights")
    label = LabelOptions(inputs=("in",), output="out")

    def asked(pretrained: str) -> str | None:
        model = ModelConfig(model="ViT-B-16", pretrained=pretrained)
        return asked_for(label, model, SegmentationOptions(), ComputeConfig(), load_vocabulary("demo"))

    first = asked(f"http://{server}/w.pt?{query(1)}")
    assert first == asked(f"http://{server}/w.pt?{query(2)}") == asked(f"http://me:{SECRET}@{server}/w.pt") is not None
    (tmp_path / "files" / "w.pt").write_bytes(b"other weights")
    assert asked(f"http://{server}/w.pt?{query(3)}") not in (first, None)
