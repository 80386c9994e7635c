"""Real runs over inputs that ask for credentials: none of these is in any file, output, log or list of jobs."""

import base64
import dataclasses
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from objectstore import CREDENTIALS, client, object_store
from pictures import encoded, tar_bytes, write_shard
from processes import quick_flags, rows, run
from rayhead import cluster, environment, ray_folder

PREFIX = "hUnT/eR+2x"  # what all of these secrets begin with; quoted in URLs
KEY = f"{PREFIX}Key9Key9Key9Key9=="
QUERIES = {  # file → the query that it is given for
    "s3.tar": f"X-Amz-Credential=AKIDAKIDAKID&X-Amz-Signature={PREFIX}A&X-Amz-Security-Token={PREFIX}B",
    "google.tar": f"X-Goog-Credential=me&X-Goog-Signature={PREFIX}C",
    "azure.tar": f"sv=2026-01-01&se=2027&sp=r&sig={PREFIX}D==",
    "older.png": f"AWSAccessKeyId=AKIDAKIDAKID&Signature={PREFIX}E&Expires=1900000000",
    "front.png": f"Expires=1900000000&Signature={PREFIX}F&Key-Pair-Id=KKKK&Policy={PREFIX}G",
    "token.parquet": f"token={PREFIX}H",
    "access.png": f"id=7&access_token={PREFIX}I",
    "broken.tar": f"X-Amz-Signature={PREFIX}J",
    "missing.png": f"sig={PREFIX}K",
    "moved.png": f"sig={PREFIX}L",
}
USER = f"me:{PREFIX}M"
BEARER = f"Bearer {PREFIX}N"
HEADERS = {"user.png": "Basic " + base64.b64encode(USER.encode()).decode(), "bearer.png": BEARER}


def needles() -> set[bytes]:
    """The secrets as they are, as URLs have them, and in base64 wherever in a longer text they begin."""
    forms = {PREFIX, quote(PREFIX), quote(PREFIX, safe=""), quote(quote(PREFIX, safe="")), "AKIDAKIDAKID"}
    for before in ("", "x", "xx"):
        forms.add(base64.b64encode((before + PREFIX).encode()).decode()[4:-4])
    return {form.encode() for form in forms}


class SignedFiles(http.server.SimpleHTTPRequestHandler):
    """Files for those who come with each one's signature; refusals repeat what was asked for, as many servers do."""

    def send_head(self):  # type: ignore[no-untyped-def]
        parts = urlsplit(self.path)
        name = parts.path.lstrip("/")
        if name == "moved.png":
            self.send_response(302)
            self.send_header("Location", f"/nowhere.png?X-Amz-Signature={quote(PREFIX)}")
            self.end_headers()
            return None
        wanted, given = QUERIES.get(name), self.headers.get("Authorization")
        if name in HEADERS and given != HEADERS[name]:
            self.send_error(403, f"{given} may not see {self.path}")
        elif wanted and parse_qs(parts.query) != parse_qs(quote(wanted, safe="=&")):
            self.send_error(403, f"refused {unquote(self.path)}")
        elif not (Path(self.directory) / name).is_file():
            self.send_error(404, f"no {unquote(self.path)}")
        else:
            return super().send_head()
        return None

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of a server with a file for each kind of signature."""
    folder = tmp_path_factory.mktemp("signed")
    for place, name in enumerate([*QUERIES, *HEADERS, "secret.png"]):
        if name.endswith(".tar"):
            write_shard(folder / name, range(2 * place, 2 * place + 2))
        elif name.endswith(".png"):
            (folder / name).write_bytes(encoded(place))
    images = pa.array([encoded(40), encoded(41)])
    pq.write_table(pa.table({"image": images, "caption": ["a", "b"]}), folder / "token.parquet")
    (folder / "broken.tar").write_bytes(b"no tar" * 200)
    (folder / "missing.png").unlink()

    def handler(*given):  # type: ignore[no-untyped-def]
        return SignedFiles(*given, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@dataclasses.dataclass(frozen=True)
class Place:
    """A cluster, a bucket and the environment that opens both."""

    dashboard: str
    address: str
    logs: Path
    env: dict[str, str]
    presigned: str
    """URL of the bucket's presigned.tar."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A head whose processes have credentials in their environment, as nodes do that are given none by a role."""
    folder = ray_folder()
    with object_store(tmp_path_factory.mktemp("store")) as store:
        fs = client(store)
        fs.mkdir("bucket")
        for number, name in enumerate(("in/own.tar", "signed/presigned.tar")):
            pictures = {f"{seed}.png": encoded(seed) for seed in (60 + number, 70 + number)}
            fs.pipe_file(f"bucket/{name}", tar_bytes(pictures))
        keys = {**CREDENTIALS, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_ENDPOINT_URL": store}
        more = {"FSSPEC_HTTP": json.dumps({"client_kwargs": {"headers": {"X-Api-Key": KEY}}})}
        more["FSSPEC_S3"] = json.dumps({"key": "testing", "secret": KEY})
        env = environment(keys | more | {"HF_TOKEN": f"hf_{PREFIX}"})
        with cluster(2, env, folder=folder) as (dashboard, address):
            yield Place(dashboard, address, folder, env, fs.url("bucket/signed/presigned.tar"))


@pytest.fixture(scope="module")
def inputs(server: str, place: Place, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """URLs with what they are given for, some in a list, and one whose signature is a wrong one."""
    signed = {name: f"http://{server}/{name}?{quote(query, safe='=&')}" for name, query in QUERIES.items()}
    listed = tmp_path_factory.mktemp("lists") / "pictures.txt"
    wrong = f"http://{server}/older.png?Signature={quote(PREFIX)}wrong&of=another"
    user = f"http://{quote(USER, safe=':')}@{server}/user.png"
    pictures = [url for name, url in signed.items() if name.endswith(".png")]
    listed.write_text("\n".join([*pictures, wrong, user]))
    shards = [url for name, url in signed.items() if not name.endswith(".png")]
    return [*shards, str(listed), place.presigned, "s3://bucket/in"]


def leaks(folder: Path) -> list[str]:
    """Files below a folder that hold a secret, in their names or bytes, or in the values of Parquet."""
    found, wanted = [], needles()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        texts = [str(path).encode(), path.read_bytes()]
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            texts.append(f"{table.schema} {table.schema.metadata} {table.to_pylist()}".encode())
        found += [f"{path}: {needle!r}" for needle in wanted if any(needle in text for text in texts)]
    return found


def signature_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["X-Amz-Signature"][0] if "X-Amz" in url else url.split("Signature=")[1][:12]


@pytest.mark.cluster
def test_no_run_keeps_or_shows_a_secret(
    place: Place, inputs: list[str], small_model: str, vocabulary_file: Path, tmp_path: Path
) -> None:
    flags = quick_flags(small_model, vocabulary_file, "-v")
    labeling = [*flags, "--chunk-size", "2", "--max-failed", "0.9"]
    output, at = tmp_path / "out", ["--address", place.address]
    verbs = {
        "label": [*inputs, output, *labeling, *at],
        "preview": [*inputs, "--output", tmp_path / "preview.html", *flags],
        "status": [output],
        "verify": [output],
        "report": [output],
        "export": [output, tmp_path / "export", *at],
        "export pictures": [output, tmp_path / "pictures", "--images", *at],
        "evaluate": [*inputs, tmp_path / "evaluation", *flags, *at],
        "compare": [output, output, "--output", tmp_path / "compare.html"],
        "bench io": [inputs[0]],
        "submit": [*at, "--", "label", *inputs, "s3://bucket/out"],
        "submit in the clear": ["--address", place.dashboard, "--", "label", place.presigned, "s3://bucket/out"],
        "shard": ["voc21", inputs[0], tmp_path / "shards"],
    }
    said = {}
    for verb, words in verbs.items():
        code, out, err = run([*verb.split()[: 2 if verb.startswith("bench") else 1], *words], place.env)
        said[verb] = f"{code} {out} {err}"
        print(verb, said[verb][-600:])
    statuses = [row["status"] for row in rows(output)]
    assert statuses.count("ok") >= 15 and statuses.count("unreadable") + statuses.count("missing") >= 2, statuses
    for verb, text in said.items():
        assert not [needle for needle in needles() if needle in text.encode()], verb
        assert signature_of(place.presigned) not in text, verb
    assert said["label"].startswith("0") and said["verify"].startswith("0") and said["report"].startswith("0")
    assert leaks(tmp_path) == [] and leaks(place.logs) == []


@pytest.mark.cluster
def test_no_list_of_jobs_holds_a_secret(place: Place, small_model: str, vocabulary_file: Path, tmp_path: Path) -> None:
    from ray.job_submission import JobSubmissionClient

    flags = quick_flags(small_model, vocabulary_file, "-v")
    at = ["--address", place.dashboard]
    joined = "http://127.0.0.1:9/nothing.tar"
    wrong = [f"{joined}?X-Amz-Signature={quote(PREFIX)}", tmp_path / "out", *flags, "--address", place.address]
    assert run(["label", *wrong], place.env)[0] != 0
    code, out, err = run(["submit", *at, "--", "label", "s3://bucket/in", "s3://bucket/labels", *flags], place.env)
    assert code == 0, out + err
    listed = run(["submit", "list", *at], place.env)[1] + run(["submit", "status", "s3://bucket/labels", *at])[1]
    logs = run(["submit", "logs", "s3://bucket/labels", *at], place.env)[1]
    jobs = JobSubmissionClient(place.dashboard).list_jobs()
    told = " ".join(map(str, jobs))  # all there is: command, environment, metadata; also of drivers that joined
    assert "SUCCEEDED" in told and "s3://bucket/labels" in listed and f"scclip label {joined}?…" in told
    for text in (out, err, listed, logs, told):
        assert not [needle for needle in needles() if needle in text.encode()]
    assert leaks(place.logs) == []
