"""Joins the Ray cluster that a job runs on, or starts a Ray of its own on this machine.

with local_or_cluster("label", options.address) as cluster:
    cluster.start()  # a local Ray starts only when there is work
    resources = cluster.divide(compute)
"""

import contextlib
import errno
import functools
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.job_config import JobConfig

from scclip.errors import UserError, one_line
from scclip.jobs.cli.paths import current_folder, holds_package, python_path
from scclip.jobs.cli.talk import is_verbose
from scclip.jobs.cli.waiting import Teller, end_now, watched_tasks
from scclip.pipeline.cluster.disk import full_disk, ray_folder
from scclip.pipeline.cluster.nodes import living_nodes, nodes_to_come, private, shapes
from scclip.pipeline.cluster.preflight import check_storage, wait_for_room
from scclip.pipeline.cluster.reservation import FIRST_REMINDER, give_back, reserved
from scclip.pipeline.cluster.resources import ComputeConfig, Resources, divide
from scclip.pipeline.cluster.silence import Reminder
from scclip.pipeline.cluster.waiting import head_watched
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.secrets import hidden

START_ATTEMPTS = 3
CONNECT_SECONDS = 10.0
HTTP_SECONDS = 2.0  # a web server answers at once, a head not at all
SOCKET = "ray/session_2026-01-01_00-00-00_000000_{}/sockets/plasma_store"  # the longest path, with Ray's process id
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
IDLE = "RAY_idle_worker_killing_time_threshold_ms"  # Ray's 1,000 end workers of a full node between two chunks
IDLE_MS = "60000"
IGNORED = b"environment variable RAY_BACKEND_LOG_LEVEL"  # what Ray says of it


class Cluster:
    """The Ray that a job runs on: a given cluster, joined at once, or a local one, started when there is work."""

    def __init__(self, verb: str, address: str | None) -> None:
        self.verb = verb
        self.given, self.address = bool(address), address or os.environ.get("RAY_ADDRESS") or None
        self.watched, self.leaving = False, contextlib.ExitStack()
        if self.address:
            self.start()

    def start(self) -> None:
        """Joins or starts Ray and watches over its head; UserError where the cluster does not answer."""
        if not ray.is_initialized():
            self.start_ray()
        if not self.watched:
            self.watched = True
            self.leaving.enter_context(head_watched(functools.partial(end_now, self.verb)))

    def start_ray(self) -> None:
        """Joins or starts Ray, with no more of its lines than are asked for."""
        if not is_verbose():
            os.environ.setdefault(
                "RAY_BACKEND_LOG_LEVEL", "fatal"
            )  # an error line about actor arguments, which it holds
        quiet: dict[str, object] = {"log_to_driver": is_verbose(), "logging_level": "INFO" if is_verbose() else "ERROR"}
        # Ray's own handler of SIGTERM ends the process with a stack dump; ours stops the job and says how to go on
        with keep_handler(signal.SIGTERM), without_lines(IGNORED), public_command():
            if self.address is None:
                if path := python_path():
                    os.environ["PYTHONPATH"] = path  # Ray's processes inherit it
                start_local(**quiet, job_config=worker_paths(), include_dashboard=False)
            else:
                self.join(self.address, **quiet, job_config=worker_paths())

    def join(self, address: str, **options: Any) -> None:
        """Joins a running cluster; UserError where it does not answer."""
        origin, leave = ("--address", "leave it out") if self.given else ("RAY_ADDRESS", "unset it")
        host, _, port = address.rpartition(":")
        try:
            if wrong := wrong_address(address):
                raise UserError(f"{origin} {redact(address)}: {wrong}")
            if host and port.isdecimal():  # where nothing listens, Ray would wait longer than ten minutes
                refuse_dashboard(host.strip("[]"), int(port), f"{origin} {address}")
            ray.init(address=address, **options)
        except UserError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            remedy = f"start it with `ray start --head`, or {leave} for a Ray of this machine"
            what, better = refused(error)
            raise UserError(f"{origin} {address}: {what}; {better or remedy}") from None
        except ray.exceptions.AuthenticationError:
            remedy = "give RAY_AUTH_TOKEN, or the file of RAY_AUTH_TOKEN_PATH, the cluster's token"
            raise UserError(f"{origin} {address}: the cluster refuses the token of this process; {remedy}") from None

    def cuda(self, compute: ComputeConfig) -> bool:
        """Returns whether actors run on GPUs."""
        if compute.gpus_per_actor is not None:
            return compute.gpus_per_actor > 0
        if self.address:
            return any(node.gpus for node in [*shapes(living_nodes()), *(nodes_to_come() or ())])
        import torch

        return torch.cuda.is_available()

    def divide(self, compute: ComputeConfig) -> Resources:
        """`scclip.pipeline.cluster.resources.divide` for the living nodes and those that an autoscaler may add.

        UserError where Ray and PyTorch disagree about this machine's GPU.
        """
        resources = divide(compute, nodes=shapes(living_nodes()), more=nodes_to_come() if self.address else None)
        if self.cuda(compute) != (resources.device == "cuda"):
            sees, not_seen = ("PyTorch", "Ray") if self.cuda(compute) else ("Ray", "PyTorch")
            remedy = "mend the driver or CUDA_VISIBLE_DEVICES, or use the CPU with --gpus-per-actor 0"
            raise UserError(f"{sees} sees a GPU here and {not_seen} does not; {remedy}")
        return resources

    def check_storage(self, output: str, samples: Sequence[str], *, write: bool = True) -> None:
        """`scclip.pipeline.cluster.preflight.check_storage` where the cluster is a given one."""
        if self.address:
            with watched_tasks(self.verb):
                check_storage(output, samples, write=write)

    def reserve(self, compute: ComputeConfig, teller: Teller) -> Resources:
        """`divide`, once there is room for the job in what nobody uses of the cluster.

        Without autoscaler that is reserved: a placement group. With one, and where some nodes alone have GPUs, the job
        begins when its fewest actors and what feeds them fit, and takes more as it goes.

        Args:
            compute: what the user asks for.
            teller: takes the lines that say what the job waits for.

        Raises:
            UserError: as `divide`.
            NoResources: an autoscaler brought up no node in time.
        """
        resources = self.divide(compute)
        if self.address is None:
            return resources
        with teller:
            if nodes_to_come() is None and not resources.mixed:
                resources = reserved(compute, Reminder(teller, FIRST_REMINDER))
                self.leaving.callback(give_back, resources.group)
            elif wait_for_room(resources, compute.wait_for_resources, teller):
                resources = self.divide(compute)
        return resources


def wrong_address(address: str) -> str | None:
    """What is wrong with an address that is not HOST:PORT, and the remedy; None for one that Ray understands."""
    if address.startswith(("http://", "https://")):
        return (
            f"that is a dashboard; give HOST:6379 of the head, or `scclip submit --address {redact(address)} -- VERB …`"
        )
    if address.startswith("ray://"):
        remedy = "use `scclip submit --address http://HOST:8265 -- VERB …`, or HOST:6379 on a machine of the cluster"
        return f"jobs do not run through Ray Client; {remedy}"
    return None


def refuse_dashboard(host: str, port: int, what: str) -> None:
    """UserError where a web server listens instead of a head; OSError where nothing does."""
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
        connection.settimeout(HTTP_SECONDS)
        connection.sendall(b"GET /api/version HTTP/1.0\r\n\r\n")
        with contextlib.suppress(OSError):
            if connection.recv(5) == b"HTTP/":
                remedy = f"give HOST:6379 of the head, or `scclip submit --address http://{host}:{port} -- VERB …`"
                raise UserError(f"{what}: a web server answers there, perhaps the dashboard; {remedy}")


def refused(error: Exception) -> tuple[str, str | None]:
    """Why Ray does not join a cluster, and the remedy where it is another one than starting the cluster."""
    text = str(error)
    found = re.findall(r"(?:Ray|Python): (\S+)", text)
    if "Version mismatch" in text and len(found) == 4:
        theirs, ours = (f"Ray {pair[0]} and Python {pair[1]}" for pair in (found[:2], found[2:]))
        return f"the cluster has {theirs}, this process {ours}", "use the cluster's versions here, or `scclip submit`"
    if "Failed to connect to Ray cluster" in text:  # something listens there: a head in silence, or another server
        remedy = "give the head's port, mostly 6379, and where it wants a token the cluster's RAY_AUTH_TOKEN"
        return one_line(error), remedy
    return one_line(error).partition(". ")[0], None


class OwnPaths(JobConfig):
    """A job whose workers do not get the driver's folders at the head of `sys.path`.

    Ray adds the current folder and the script's, but where a job has a working directory: a `statistics.py` there would
    stand in for the standard library's. Relative paths still work, because workers start in the current folder.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def worker_paths() -> JobConfig:
    """Tells workers where to find this package if they could not know: in the current folder, not installed."""
    private("ray.job_config", "JobConfig._runtime_env_has_working_dir")  # without it OwnPaths would change nothing
    current = current_folder()
    return OwnPaths(_py_driver_sys_path=[current] if current and holds_package(current) else [])


def start_local(**options: Any) -> None:
    """Starts a local Ray; tries again where a busy machine needs longer than the 30 s that Ray allows.

    Raises:
        UserError: the folder for Ray's files has too long a name, is full, or nothing can be written there.
    """
    refuse_long_folder()
    refuse_unusable_folder()
    os.environ.setdefault(IDLE, IDLE_MS)
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(address="local", **options)
            return
        except Exception as error:
            if "timed out during startup" not in str(error) or attempt == START_ATTEMPTS:
                raise
            ray.shutdown()


def refuse_long_folder() -> None:
    """UserError where the folder for temporary files is too long for the paths of Ray's sockets in it."""
    name, folder = ray_folder()
    length = len(os.fsencode(os.path.join(folder, SOCKET.format(os.getpid()))))
    if length > SOCKET_BYTES:
        shown = folder if len(folder) <= 40 else f"{folder[:40]}…"
        what = f"Ray's sockets in it would have paths of {length} bytes, {SOCKET_BYTES} are possible"
        raise UserError(f"{name} {shown}: {what}; set a shorter folder, e.g. {name}=/tmp")


def refuse_unusable_folder() -> None:
    """UserError where Ray cannot write into the folder for temporary files, or hardly anything."""
    name, folder = ray_folder()
    remedy = "name another folder by RAY_TMPDIR=FOLDER"
    try:
        os.makedirs(os.path.join(folder, "ray"), exist_ok=True)
        tempfile.TemporaryFile(dir=os.path.join(folder, "ray")).close()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise UserError(f"{name or 'Ray'}: cannot write in {folder}: {error.strerror}; {remedy}") from None
    if full := full_disk():
        raise UserError(f"{full}; make room there, or {remedy}")


@contextlib.contextmanager
def local_or_cluster(verb: str, address: str | None) -> Iterator[Cluster]:
    """Yields a verb's `Cluster`, and afterwards shuts down the Ray that it started or leaves the one that it joined."""
    already = ray.is_initialized()
    try:
        cluster = Cluster(verb, address)
        with cluster.leaving:
            yield cluster
    finally:
        if not already and ray.is_initialized():
            with keep_handler(signal.SIGINT):
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half a shutdown behind
                ray.shutdown()


@contextlib.contextmanager
def keep_handler(number: signal.Signals) -> Iterator[None]:
    """Restores the handler of a signal afterwards."""
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(number, before)


@contextlib.contextmanager
def public_command() -> Iterator[None]:
    """Within the block Ray gets this process's command line, which lists of jobs show, without credentials."""
    command = private("ray._private.utils", "get_entrypoint_name")
    module: Any = sys.modules[command.__module__]
    module.get_entrypoint_name = lambda: hidden(command())
    try:
        yield
    finally:
        module.get_entrypoint_name = command


@contextlib.contextmanager
def without_lines(words: bytes) -> Iterator[None]:
    """Holds back what Ray's core writes to stderr and passes it on afterwards, without the lines that hold `words`."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            said = b"".join(line for line in caught if words not in line)
            os.write(2, hidden(said.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))
