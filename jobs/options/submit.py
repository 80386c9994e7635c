"""Options of `scclip submit`, and of `scclip submit status|logs|stop|list`."""

from dataclasses import dataclass

from scclip.jobs.cli.options import OptionParser, positional


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Cluster."""

    address: str | None = None
    """URL of the cluster's dashboard [RAY_ADDRESS, else http://127.0.0.1:8265]."""


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """Job."""

    pass_env: tuple[str, ...] = ()
    """Variables of this shell that the job needs; they lie in Ray's folder on its nodes: prefer roles."""
    no_wait: bool = False
    """Only submit; do not follow the job to its end."""
    installed: bool = False
    """The cluster has this package in this version: upload nothing but vocabulary and calibration files."""


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """Submitted jobs."""

    action: str = positional("status|logs|stop|list")
    """What to do."""
    job: tuple[str, ...] = positional("JOB", ())
    """A job's id, or the OUTPUT it writes (its last attempt); list needs none."""
    follow: bool = False
    """logs: go on until the job ends, and take its exit code."""


EXAMPLE = """examples:
  scclip submit -- label s3://bucket/shards s3://bucket/labels --vocabulary street.yaml \\
      --model ViT-B-16-quickgelu --pretrained s3://bucket/clip.pt --actors 1:8
  scclip submit --no-wait --pass-env AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY -- verify s3://bucket/labels
  scclip submit status s3://bucket/labels
  scclip submit logs s3://bucket/labels --follow
"""


def parser() -> OptionParser:
    """The options before --."""
    groups = [ClusterOptions, SubmitOptions]
    return OptionParser("submit", "Run any verb on a Ray cluster: submit … -- VERB …", groups, EXAMPLE)
