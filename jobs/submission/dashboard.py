"""The Jobs API of a Ray cluster: jobs found by verb and OUTPUT, logs followed, and errors that people can read.

jobs = Dashboard.connect("http://127.0.0.1:8265")
scclip.jobs.submit(request, env={}); jobs.follow(job_id, print)
"""

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scclip.errors import JobFailed, UserError, one_line
from scclip.jobs.cli import variables
from scclip.jobs.submission.request import JOB_ID, Request
from scclip.jobs.submission.wheel import DISTRIBUTION, bundle_bytes
from scclip.pipeline.storage.retries import redact

DEFAULT_URL = "http://127.0.0.1:8265"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
REACH_SECONDS = 10.0  # to wait for a connection, where Ray's own client would wait for minutes
LOST_SECONDS = 120.0  # without an answer after which a job that is followed is given up: a head may restart
STOP_SECONDS = 30  # a job may take to stop by itself: committing what is in flight; Ray allows 3
REDONE = 5  # attempts to submit while others submit the same
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")  # Ray's loggers


@dataclass(frozen=True, kw_only=True)
class Job:
    """One submitted job as the cluster tells of it."""

    id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    exit_code: int | None
    """Exit code of its process, None where the process did not end by itself."""
    message: str
    began: float
    """Seconds since the epoch."""
    ended: float
    """Seconds since the epoch, 0 while it runs."""
    metadata: Mapping[str, str]

    @property
    def running(self) -> bool:
        return self.status in ("PENDING", "RUNNING")

    @property
    def attempt(self) -> int:
        return int(self.id.rpartition("-")[2])

    def code(self) -> int:
        """Returns the exit code that the command would have had here: 130 where it was stopped, 1 where Ray lost it."""
        if self.status == "STOPPED":
            return 130
        if self.exit_code is None:
            return 0 if self.status == "SUCCEEDED" else 1
        return self.exit_code if 0 <= self.exit_code < 128 or self.exit_code == 130 else 1


class Dashboard:
    """The jobs of one cluster."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self.client = url, client

    @staticmethod
    def connect(address: str | None) -> "Dashboard":
        """Connects to a cluster; UserError where nothing answers, no Ray answers, or the token is refused."""
        url = dashboard_url(address)
        reach(url)
        from ray.job_submission import JobSubmissionClient

        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        for name in ADDRESS_VARIABLES:  # Ray would prefer them to the address it is given
            os.environ.pop(name, None)
        with explained(url):
            return Dashboard(url, JobSubmissionClient(url))

    def jobs(self) -> list[Job]:
        """Returns all jobs that `scclip submit` started, in the order of their start."""
        with explained(self.url):
            jobs = [as_job(details) for details in self.client.list_jobs() if details.submission_id]
        return sorted((job for job in jobs if JOB_ID.fullmatch(job.id)), key=lambda job: (job.began, job.id))

    def job(self, job_id: str) -> Job:
        """Returns the present state of a job."""
        with explained(self.url):
            return as_job(self.client.get_job_info(job_id))

    def submit(self, request: Request, env: Mapping[str, str], installed: bool = False) -> tuple[Job, bool]:
        """Starts a job, or joins the one that runs with the same options; returns it and whether it is new."""
        for _ in range(REDONE):
            attempts = [job for job in self.jobs() if job.id.startswith(request.prefix())]
            last = max(attempts, key=lambda job: job.attempt, default=None)
            if last and last.running:
                if last.metadata.get("options") == request.digest():
                    return last, False
                other = f"{last.id} is running with other options or files on OUTPUT {redact(request.output)}"
                raise UserError(f"{other}; wait for it, or end it: scclip submit stop {last.id}")
            job_id = request.job_id(last.attempt + 1 if last else 1)
            try:
                self.start(job_id, request, env, installed)
            except RuntimeError as error:
                if "already exists" not in str(error):
                    raise JobFailed(f"{self.url} refuses the job: {one_line(error)}") from None
                continue  # another shell submitted the same job meanwhile
            return self.job(job_id), True
        raise JobFailed(f"others submit jobs for {redact(request.output)} all the time; try again")

    def start(self, job_id: str, request: Request, env: Mapping[str, str], installed: bool) -> None:
        """Uploads what the cluster lacks and starts the job; RuntimeError where the id is taken."""
        described, files = variables.divided(env)
        runtime_env: dict[str, object] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **described}}
        if files:
            runtime_env["worker_process_setup_hook"] = variables.HOOK
        metadata = {"options": request.digest(), "output": request.output, "version": version(DISTRIBUTION)}
        with tempfile.TemporaryDirectory() as folder, explained(self.url):
            files |= request.files
            if not installed or files:
                bundle = Path(folder) / "scclip.zip"
                bundle.write_bytes(bundle_bytes(files, package=not installed))
                runtime_env["working_dir"] = str(bundle)
            self.client.submit_job(
                entrypoint=request.entrypoint(version(DISTRIBUTION) if installed else None),
                submission_id=job_id,
                runtime_env=runtime_env,
                metadata=metadata,
            )

    def log(self, job_id: str) -> str:
        """Returns everything that a job has printed."""
        with explained(self.url):
            return str(self.client.get_job_logs(job_id))

    def stop(self, job_id: str) -> Job:
        """Stops a job as Ctrl-C would and waits until it has ended."""
        with explained(self.url):
            self.client.stop_job(job_id)
        until = time.monotonic() + 2 * STOP_SECONDS
        while (job := self.job(job_id)).running:
            if time.monotonic() > until:
                raise JobFailed(f"{job_id} does not stop; see the dashboard at {self.url}")
            time.sleep(0.5)
        return job

    def follow(self, job_id: str, show: Callable[[str], None]) -> Job:
        """Shows a job's log as it grows, until the job ends; connects again where the connection is lost."""
        shown, answered = 0, time.monotonic()
        while True:
            try:
                shown = asyncio.run(self.tail(job_id, shown, show))
                job = self.job(job_id)
                answered = time.monotonic()
            except UserError:
                raise
            except Exception as error:
                if time.monotonic() - answered > LOST_SECONDS:
                    lost = f"{self.url} does not answer any more: {one_line(error)}"
                    raise JobFailed(f"{lost}; {job_id} may go on: `scclip submit status {job_id}`") from None
                time.sleep(1)
                continue
            if not job.running:
                show(self.log(job_id)[shown:])
                return job
            time.sleep(0.3)

    async def tail(self, job_id: str, shown: int, show: Callable[[str], None]) -> int:
        """Follows the log until the connection ends; returns the number of characters shown, counted from its start."""
        position = 0
        async for text in self.client.tail_job_logs(job_id):
            position += len(text)
            if position > shown:
                show(text[max(0, len(text) - (position - shown)) :])
                shown = position
        return shown


def as_job(details: Any) -> Job:
    """Converts Ray's description of a job."""
    return Job(
        id=details.submission_id,
        status=str(getattr(details.status, "value", details.status)),
        exit_code=details.driver_exit_code,
        message=details.message or "",
        began=(details.start_time or 0) / 1000,
        ended=(details.end_time or 0) / 1000,
        metadata=details.metadata or {},
    )


def dashboard_url(address: str | None) -> str:
    """Returns the URL of the dashboard: the one given, else of the environment, else of this machine."""
    given = address or next((os.environ[name] for name in ADDRESS_VARIABLES if os.environ.get(name)), DEFAULT_URL)
    url = given if "://" in given else f"http://{given}"
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname or given == "auto":
        raise UserError(f"--address {redact(given)} is no dashboard's URL; give http://HEAD:8265")
    return url.rstrip("/")


def reach(url: str) -> None:
    """Raises UserError unless something listens there."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=REACH_SECONDS).close()
    except OSError as error:
        remedy = "check the address, or start a cluster: `ray up cluster.yaml`, `ray start --head`"
        raise UserError(f"--address {redact(url)}: no answer ({error.strerror or error}); {remedy}") from None


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turns what Ray's client raises into one line that says what to do."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        remedy = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's own"
        raise UserError(f"--address {redact(url)}: the cluster refuses the token; {remedy}") from None
    except requests.exceptions.HTTPError as error:
        raise UserError(f"--address {redact(url)}: is no Ray dashboard ({one_line(error)}); check the port") from None
    except (requests.exceptions.RequestException, ConnectionError) as error:
        raise JobFailed(f"{redact(url)} does not answer: {one_line(error)}") from None
    except RuntimeError as error:
        if "does not exist" in str(error):
            raise UserError(f"{redact(url)}: {one_line(error)}; `scclip submit list` shows the jobs") from None
        if "Version check returned 404" in str(error):
            raise UserError(f"--address {redact(url)}: is no Ray dashboard; check the port") from None
        raise
