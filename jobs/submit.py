"""`scclip submit -- VERB …`: any verb as a job on a Ray cluster; `submit status|logs|stop|list` afterwards.

    scclip submit --address http://127.0.0.1:8265 -- label s3://bucket/in s3://bucket/labels --vocabulary street.yaml
    scclip submit status s3://bucket/labels

The same command again joins the job while it runs, and starts another attempt once it has ended, which goes on where
the last one stopped. Ctrl-C leaves the job alone.
"""

import difflib
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from scclip.errors import UserError
from scclip.jobs.cli.errors import hint, warn
from scclip.jobs.cli.options import OptionParser
from scclip.jobs.cli.progress import duration
from scclip.jobs.cli.talk import say, tell
from scclip.jobs.cli.variables import forwarded
from scclip.jobs.options.submit import EXAMPLE, ActionOptions, ClusterOptions, SubmitOptions, parser
from scclip.jobs.submission.dashboard import Dashboard, Job
from scclip.jobs.submission.request import JOB_ID, Request, output_digest
from scclip.jobs.submission.wheel import DISTRIBUTION
from scclip.pipeline.storage.retries import redact
from scclip.pipeline.storage.secrets import is_secret

ACTIONS = ("status", "logs", "stop", "list")


def main(argv: Sequence[str]) -> int:
    """Submits and follows a job, or shows one; returns the job's exit code."""
    if "--" in argv:
        end = list(argv).index("--")
        cluster, options = parser().parse(argv[:end])
        return submit(cluster, options, argv[end + 1 :])
    if not set(ACTIONS) & set(argv):
        if set(argv) & {"-h", "--help"}:
            parser().parse(["--help"])
        if near := difflib.get_close_matches(" ".join(argv[:1]), ACTIONS, n=1):
            raise UserError(f"submit {argv[0]}: unknown; did you mean {near[0]}?")
        example = "scclip submit -- label INPUT OUTPUT"
        raise UserError(f"say what to run after --, as in {example}; or status, logs, stop, list")
    groups = [ClusterOptions, ActionOptions]
    return act(*OptionParser("submit", "What became of submitted jobs.", groups, EXAMPLE).parse(argv))


def submit(cluster: ClusterOptions, options: SubmitOptions, words: Sequence[str]) -> int:
    """Starts the job or joins it; follows it to its end unless --no-wait is given."""
    request, env = Request.parse(words), forwarded(options.pass_env)
    dashboard = Dashboard.connect(cluster.address)
    job, new = dashboard.submit(request, env, options.installed)
    what = f"submitted {job.id}" if new else f"joined {job.id}, which is running with the same options"
    say(f"{what} on {dashboard.url}")
    if options.no_wait:
        say(f"follow it with: scclip submit logs {job.id} --follow")
        return 0
    return follow(dashboard, job.id, env)


def follow(dashboard: Dashboard, job_id: str, env: Mapping[str, str]) -> int:
    """Shows the log until the job ends; returns its exit code. Ctrl-C stops showing it, not the job."""
    hidden = [value for name, value in env.items() if is_secret(name) and value]

    def show(text: str) -> None:
        for value in hidden:
            text = text.replace(value, "…")
        sys.stdout.write(redact(text))
        sys.stdout.flush()

    try:
        job = dashboard.follow(job_id, show)
    except KeyboardInterrupt:
        how = f"follow it with `scclip submit logs {job_id} --follow`, end it with `scclip submit stop {job_id}`"
        raise KeyboardInterrupt(f"{job_id} goes on; {how}") from None
    if job.code():
        warn([ending(job)], "submit")
    return job.code()


def ending(job: Job) -> str:
    """Returns how a job ended, in one line."""
    if job.status == "STOPPED":
        return f"{job.id} was stopped; the same command again goes on from what is committed"
    if job.exit_code is None:
        lines = [line for line in job.message.splitlines() if line.strip()]
        return f"{job.id} {job.status.lower()}: {lines[-1].strip() if lines else 'Ray gives no reason'}"
    return f"{job.id} {job.status.lower()} with exit code {job.exit_code}"


def act(cluster: ClusterOptions, options: ActionOptions) -> int:
    """Does what the action says: status, logs, stop or list."""
    if options.action not in ACTIONS:
        remedy = hint(options.action, ACTIONS)
        raise UserError(f"submit {options.action}: unknown; {remedy}, or submit … -- VERB …")
    if (options.action == "list") == bool(options.job) or len(options.job) > 1:
        raise UserError(f"submit {options.action} takes {'no' if options.action == 'list' else 'one'} JOB or OUTPUT")
    dashboard = Dashboard.connect(cluster.address)
    if options.action == "list":
        tell(*(list(map(row, dashboard.jobs())) or ["no jobs"]))
        return 0
    job = find(dashboard, options.job[0])
    if options.action == "status":
        tell(*describe(job, dashboard.log(job.id)))
    elif options.action == "stop":
        tell(ending(dashboard.stop(job.id)) if job.running else f"{ending(job)}; nothing to stop")
    elif options.follow:
        return follow(dashboard, job.id, {})
    else:
        sys.stdout.write(redact(dashboard.log(job.id)))
    return 0


def find(dashboard: Dashboard, target: str) -> Job:
    """Returns the job of that id, or the last one that wrote that OUTPUT."""
    jobs = dashboard.jobs()
    is_id = JOB_ID.fullmatch(target)
    matches = [job for job in jobs if (job.id == target if is_id else f"-{output_digest(target)}-" in job.id)]
    if not matches:
        where = redact(dashboard.url)
        raise UserError(f"{redact(target)}: no job of that id or OUTPUT on {where}; see scclip submit list")
    return matches[-1]


def row(job: Job) -> str:
    """Returns a job as one line of the list."""
    return f"{job.id}  {job.status:9}  {moment(job.began)}  {age(job):>10}  {job.metadata.get('output', '')}"


def describe(job: Job, log: str) -> list[str]:
    """Returns a few lines about a job."""
    said = [line for line in log.splitlines() if line.strip()]
    code = "" if job.running else f", exit code {job.code()}"
    mine, theirs = version(DISTRIBUTION), job.metadata.get("version", "?")
    return [
        f"job       {job.id}: {job.status}{code}",
        f"began     {moment(job.began)}, {'running for' if job.running else 'took'} {age(job)}",
        f"output    {job.metadata.get('output', '') or '–'}",
        f"version   {theirs}" + ("" if theirs == mine else f" (here: {mine})"),
        f"last line {said[-1] if said else '–'}",
    ]


def moment(seconds: float) -> str:
    """Returns local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def age(job: Job) -> str:
    """Returns how long a job has run."""
    return duration((job.ended or time.time()) - job.began)
