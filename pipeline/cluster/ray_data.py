"""Settings of Ray Data."""

import logging
import os

from ray.data import DataContext

from scclip.pipeline.cluster.resources import Resources

ACTOR_STARTS = 8  # that may fail in a row before the job does

BUSY = "0.4"  # share of a cluster's CPUs or GPUs from which it may grow; an actor holds half of a node of 2, not 0.75

RESERVED = 0.1  # of the cluster for the single stages; at Ray's 0.5 a pool of CPU actors stops at 60 % of it


def configure_ray_data(resources: Resources | None = None) -> None:
    """Every chunk its own block, no console output but ours, no time-out while a cluster scales up."""
    context = DataContext.get_current()
    context.target_max_block_size = 1  # a chunk is a block: merged small chunks would wait for each other
    context.target_min_block_size = 1
    if resources and resources.mixed:
        context.scheduling_strategy = "DEFAULT"  # Ray's hybrid policy, which spares nodes with GPUs
    if resources and resources.device == "cpu" and resources.min_actors < resources.max_actors:
        context.op_resource_reservation_ratio = RESERVED  # task stages reserve no GPUs anyway
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    if hasattr(context, "max_consecutive_actor_init_deaths"):  # a process killed while it loads the weights
        context.max_consecutive_actor_init_deaths = ACTOR_STARTS
    os.environ.setdefault("RAY_DATA_CLUSTER_SCALING_UP_UTIL_THRESHOLD", BUSY)  # read when the first graph runs
    logging.getLogger("ray.data").setLevel(logging.ERROR)
