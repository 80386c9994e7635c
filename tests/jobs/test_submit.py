"""Jobs on a head that the test starts: submitted, joined, stopped, gone on with, failed; what travels with them."""

import importlib.metadata
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from objectstore import CREDENTIALS, client, object_store
from pictures import encoded, tar_bytes, write_shard
from processes import QUICK, contents, quick_flags
from ray.job_submission import JobSubmissionClient
from rayhead import cluster as cluster_of
from rayhead import head, ray_folder

from scclip.errors import UserError
from scclip.jobs.cli.main import VERBS, main
from scclip.jobs.submission.request import Request
from scclip.jobs.submission.wheel import bundle_bytes


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with head(cpus=2) as url:
        yield url


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("submit") / "in"
    write_shard(root / "a.tar", range(6))
    write_shard(root / "b.tar", range(6, 10))
    return root


def scclip(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    code = main(["submit", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_job_from_its_submission_to_its_labels(
    cluster: str,
    shards: Path,
    small_model: str,
    vocabulary_file: Path,
    local_ray: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Submitted, joined, refused with other options, stopped; the same again labels as a run of this machine does."""
    monkeypatch.setenv("SCCLIP_TEST_SECRET_KEY", "s3cr3t-value")
    output, at = tmp_path / "out", ("--address", cluster)
    flags = [
        "--model",
        small_model,
        "--vocabulary",
        str(vocabulary_file),
        *QUICK,
        "--chunk-size",
        "2",
        "--masks",
        "png",
    ]
    job = [*at, "--pass-env", "SCCLIP_TEST_SECRET_KEY", "--", "label", shards, output, *flags]
    code, out, err = scclip(capsys, "--no-wait", *job)
    first = out.split()[1]
    assert (code, first[-2:]) == (0, "-1"), err
    code, out, _ = scclip(capsys, "--no-wait", *job)
    assert code == 0 and out.startswith(f"joined {first}"), out
    code, _, err = scclip(capsys, *job, "--actors", "2")
    assert code == 2 and f"{first} is running with other options" in err and len(err.splitlines()) == 1, err
    code, out, _ = scclip(capsys, "stop", output, *at)
    assert code == 0 and f"{first} was stopped" in out, out
    assert scclip(capsys, "logs", first, "--follow", *at)[0] == 130
    code, out, err = scclip(capsys, *job)
    second = out.split()[1]
    assert (code, second) == (0, f"{first[:-1]}2"), err
    assert "10 images read, 10 labeled" in out and "s3cr3t-value" not in out + err
    code, out, _ = scclip(capsys, "status", output, *at)
    assert f"{second}: SUCCEEDED, exit code 0" in out and str(output) in out, out
    _, out, _ = scclip(capsys, "list", *at)
    assert [line.split()[:2] for line in out.splitlines()] == [[first, "STOPPED"], [second, "SUCCEEDED"]]
    assert main(["label", str(shards), str(tmp_path / "here"), *flags]) == 0
    assert contents(output) == contents(tmp_path / "here")


@pytest.mark.slow
def test_passed_variables_reach_every_process_and_no_description(
    small_model: str, vocabulary_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The bucket opens to driver and workers; the keys are in one file of the job, OMP_NUM_THREADS is described."""
    folder = ray_folder()
    with cluster_of(2, folder=folder) as (url, _), object_store(tmp_path / "store") as store:
        client(store).mkdir("bucket")
        client(store).pipe_file("bucket/in/a.tar", tar_bytes({"0.png": encoded(0), "1.png": encoded(1)}))
        variables = {**CREDENTIALS, "AWS_ENDPOINT_URL": store, "OMP_NUM_THREADS": "1"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        job = ["--", "label", "s3://bucket/in", "s3://bucket/out", *quick_flags(small_model, vocabulary_file)]
        code, out, err = scclip(capsys, "--address", url, "--pass-env", *variables, *job)
        assert code == 0 and "2 images read, 2 labeled" in out, out + err
        (described,) = JobSubmissionClient(url).list_jobs()
        assert described.runtime_env["env_vars"]["OMP_NUM_THREADS"] == "1"
        secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        assert secret not in out + err + str(described)
        holders = {path.name for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()}
        assert holders == {"scclip-variables.json"}


def test_a_failing_job_gives_its_exit_code(cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is right and its input is not: the cluster finds out, and its words and its code come back."""
    code, out, err = scclip(capsys, "--address", cluster, "--", "status", tmp_path / "nothing")
    assert code == 2 and "holds no run" in out and "failed with exit code 2" in err, out + err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--address", "http://127.0.0.1:9", "--", "status", "/x"],
            "no answer (Connection refused); check the address",
        ),
        (["--address", "auto", "--", "status", "/x"], "is no dashboard's URL; give http://HEAD:8265"),
        (["--pass-env", "NOT_SET", "--", "status", "/x"], "--pass-env NOT_SET: not set in this shell"),
        (["--", "lable", "a", "b"], "after -- comes a verb"),
        (["--", "label", "s3://b/in", "s3://b/out", "--vocabluary", "x"], "--vocabluary"),
        (["--", "label", "in", "s3://b/out"], "INPUT in: the cluster does not see this folder"),
        (["--", "label", "s3://b/in", "out"], "OUTPUT out: the cluster does not see this folder"),
        (["--", "label", "s3://b/in", "s3://key:secret@b/out"], "holds credentials"),
        (["label", "a", "b"], "say what to run after --"),
        (["stop"], "takes one JOB or OUTPUT"),
    ],
)
def test_wrong_words_cost_no_job(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = scclip(capsys, *words)
    assert code == 2 and said in err and "secret" not in err and len(err.splitlines()) == 1, err


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("submit", "bench")])
def test_every_verb_can_be_submitted(verb: str) -> None:
    """Its module tells its options (`parser()`), which is how they are checked before anything travels."""
    from importlib import import_module

    assert import_module(f"scclip.jobs.options.{verb}").parser().prog == f"scclip {verb}"


def test_words_travel_in_full_and_files_with_them(tmp_path: Path) -> None:
    """--config is resolved here, equal options give equal words and ids, a changed file another digest."""
    street = tmp_path / "street.txt"
    street.write_text("car, sedan\nroad\n")
    config = tmp_path / "job.yaml"
    config.write_text(f"vocabulary: {street}\nactors: '1:4'\nmasks: png\n")
    words = ["label", "s3://b/in", "s3://b/out"]
    one = Request.parse([*words, "--config", str(config)])
    two = Request.parse([*words, "--masks", "png", "--actors", "1:4", "--vocabulary", str(street)])
    assert one == two and one.digest() == two.digest()
    assert one.files == {"files/street.txt": street.read_bytes()}
    assert one.entrypoint() == (
        "exec python -m scclip label s3://b/in s3://b/out --vocabulary files/street.txt --masks png --actors 1:4"
    )
    assert one.job_id(3) == Request.parse(["label", "s3://other/in", "s3://b/out/"]).job_id(3)
    street.write_text("car\n")
    assert Request.parse([*words, "--config", str(config)]).digest() != one.digest()
    with pytest.raises(UserError, match="weights go by URL"):
        Request.parse([*words, "--model", "ViT-B-16", "--pretrained", os.path.relpath(street)])


def test_the_wheel_holds_what_it_needs_and_runs_alone(tmp_path: Path) -> None:
    """Vocabularies, demo weights, the report's page; no dependency; pip takes it; it runs far from this directory."""
    data = bundle_bytes({})
    assert data == bundle_bytes({})
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        names = set(wheel.namelist())
        metadata = next(wheel.read(name).decode() for name in names if name.endswith("/METADATA"))
        wheel.extractall(tmp_path / "unpacked")
    built_in = {path.name for path in (Path(__file__).parents[2] / "scclip" / "vocabulary" / "builtin").glob("*.yaml")}
    assert len(built_in) >= 9 and {f"scclip/vocabulary/builtin/{name}" for name in built_in} <= names
    weights = ("open_clip_model.safetensors", "open_clip_config.json", "calibration.yaml")
    assert {f"scclip/demo/weights/{name}" for name in weights} <= names
    assert {
        "scclip/jobs/pages/templates/run.html.j2",
        "scclip/__main__.py",
        "scclip/pipeline/labeling/graph.py",
    } <= names
    assert "Requires-Dist" not in metadata and not any("__pycache__" in name or "tests/" in name for name in names)
    with zipfile.ZipFile(io.BytesIO(bundle_bytes({"files/a.txt": b"x"}, package=False))) as bundle:
        assert bundle.namelist() == ["files/a.txt"]
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    script = (
        "import scclip.jobs, scclip.encoder.checkpoints as w, scclip.vocabulary.vocabulary as v;"
        "import importlib.metadata as m, sys;"
        "print(scclip.jobs.__file__, m.version('scclip-pipeline'), len(v.Vocabulary.load('coco_stuff').classes));"
        "w.load_clip(w.find_weights(w.ModelConfig()))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "unpacked"), *libraries])}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    where, version, classes = ran.stdout.split()
    assert (
        where.startswith(str(tmp_path))
        and version == importlib.metadata.version("scclip-pipeline")
        and classes == "171"
    )
