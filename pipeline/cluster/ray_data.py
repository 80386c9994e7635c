"""Settings of Ray Data.

configure_ray_data(resources)   # before the graph is built
"""

import logging
import os
import warnings

from ray.data import DataContext
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from scclip.pipeline.cluster.nodes import private
from scclip.pipeline.cluster.resources import Resources

ACTOR_STARTS = 8  # so many may fail in a row before the job does
BUSY = "0.4"  # share of CPUs or GPUs in use from which a cluster may grow; an actor holds half of a node, not 0.75
BUSY_NAMES = ("CLUSTER_SCALING_UP", "DEFAULT_CLUSTER_SCALING_UP_CPU", "DEFAULT_CLUSTER_SCALING_UP_GPU")
AHEAD = 10.0  # times what a stage works on may wait before it; small blocks would all wait, 50 KB of the driver each
QUEUED = 0.5  # share of the places for waiting calls that are taken when the pool grows; all of them hardly ever are
RESERVED = 0.1  # share of the cluster kept for the single stages; at Ray's 0.5 CPU actors get 60 % of it at most


def configure_ray_data(resources: Resources | None = None) -> None:
    """Sets Ray Data up in this process: a block for every chunk, no output, no time-out while a cluster grows.

    Args:
        resources: what `divide` returned; None for a graph without actors.
    """
    context = DataContext.get_current()
    # A chunk is a block: merged small chunks would wait for each other.
    context.target_max_block_size = context.target_min_block_size = 1
    context.downstream_capacity_backpressure_ratio = AHEAD
    policy = private("ray.data._internal.execution.backpressure_policy", "DownstreamCapacityBackpressurePolicy")
    policy.OBJECT_STORE_BUDGET_UTIL_THRESHOLD = 0.0  # not only where the object store is half full
    if resources and resources.mixed:
        context.scheduling_strategy = "DEFAULT"  # Ray's hybrid policy, which spares nodes with GPUs
    if resources and resources.group is not None:
        with warnings.catch_warnings():  # Ray Data would rather choose, but it cannot know of the group
            warnings.simplefilter("ignore")
            context.scheduling_strategy = PlacementGroupSchedulingStrategy(resources.group)
            context.scheduling_strategy_large_args = PlacementGroupSchedulingStrategy(resources.group)
    if resources and resources.device == "cpu" and resources.min_actors < resources.max_actors:
        context.op_resource_reservation_ratio = RESERVED  # task stages reserve no GPUs anyway
    if resources:  # each actor has a place for one more call than it works on: Ray's 1.75 is out of reach for two
        context.autoscaling_config.actor_pool_util_upscaling_threshold = 1 + QUEUED / resources.calls_in_flight
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    if hasattr(context, "max_consecutive_actor_init_deaths"):  # a process killed while it loads the weights
        context.max_consecutive_actor_init_deaths = ACTOR_STARTS
    for name in BUSY_NAMES:
        os.environ.setdefault(f"RAY_DATA_{name}_UTIL_THRESHOLD", BUSY)  # read when the first graph runs
    loud = logging.getLogger("scclip").isEnabledFor(logging.DEBUG)  # the command's -v
    # what goes wrong is raised, and said in one line
    logging.getLogger("ray.data").setLevel(logging.INFO if loud else logging.CRITICAL)
