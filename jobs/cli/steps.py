"""Says what a job is at where a step of this process alone takes long: listing inputs, loading a model."""

from scclip.jobs.cli.errors import warn
from scclip.pipeline.cluster.silence import Silence

LISTING, LOADING = "the inputs are being listed", "the model is being loaded"
READING, ENCODING = "OUTPUT is being read", "the queries are being encoded"


def watched_step(verb: str, what: str) -> Silence:
    """Says after half a minute, and then from time to time, that the verb waits because `what`."""
    return Silence(lambda: what, lambda line: warn([line], verb))
