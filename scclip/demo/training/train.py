"""Trains the demo model in three stages; seeded, and a resumed training gives the same bits.

    python -m scclip.demo.training.train --output train --export scclip/demo/weights
    python -m scclip.demo.training.train --output train --stage region --steps 6000

The same command again continues from the last checkpoint. The processes of ``--workers`` have one thread each and share
every step: on busy cores they wait less for each other than the threads of one process would.
"""

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from scclip.demo.training.pool import WindowPool, build_block
from scclip.demo.training.trainee import MEAN, MODEL_CONFIG, STAGES, STD, Trainee, TrainingConfig

DEFAULTS: dict[str, dict[str, float]] = {
    "text": {"steps": 300, "batch": 16, "learning_rate": 2e-3, "workers": 1},
    "image": {"steps": 500, "batch": 24, "learning_rate": 1e-3},
    "region": {"steps": 4400, "batch": 16, "learning_rate": 4e-4},
}


def train(config: TrainingConfig) -> None:
    """Runs or resumes one stage; writes ``checkpoint.pt`` into the output directory."""
    config.output.mkdir(parents=True, exist_ok=True)
    if config.workers == 1:
        _work(0, config, None)
        return
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_work, (config, f"file://{folder}/store"), nprocs=config.workers)


def _work(rank: int, config: TrainingConfig, store: str | None) -> None:
    """One process of the training: draws its blocks of the pool, then trains with the others."""
    torch.set_num_threads(1)
    if store:
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=config.workers)
    for block in range(rank, config.blocks, config.workers):
        build_block(config.output / "pool", block)
        print(f"pool: block {block + 1} of {config.blocks}", flush=True)
    if store:
        dist.barrier()
    _run_stage(rank, config, WindowPool(config.output / "pool", config.blocks))
    if store:
        dist.destroy_process_group()


def _run_stage(rank: int, config: TrainingConfig, pool: WindowPool) -> None:
    trainee, checkpoint = Trainee(config.seed), config.output / "checkpoint.pt"
    trainee.lock(config.stage)
    optimiser = _optimiser(trainee, config)
    start = _resume(trainee, optimiser, checkpoint, config)
    shown, last = 0.0, time.monotonic()
    end = min(config.steps, config.stop_after or config.steps)
    for step in range(start, end):
        rng = np.random.default_rng([config.seed, STAGES.index(config.stage), step, rank])
        loss = _step(trainee, optimiser, trainee.loss(pool, rng, config), config, step)
        shown = loss if not shown else 0.95 * shown + 0.05 * loss
        if rank == 0 and (step % 20 == 19 or step + 1 == end):
            seconds, last = time.monotonic() - last, time.monotonic()
            done, scale = f"{config.stage} {step + 1}/{config.steps}", trainee.region_scale.exp().item()
            print(f"{done} loss {shown:.4f} scale {scale:.1f} {seconds:.0f} s", flush=True)
        if rank == 0 and (step % 100 == 99 or step + 1 == end):
            state = {"model": trainee.state_dict(), "optimiser": optimiser.state_dict()}
            temporary = checkpoint.with_suffix(f".{os.getpid()}.tmp")
            torch.save({**state, "stage": config.stage, "step": step + 1}, temporary)
            temporary.replace(checkpoint)


def _step(trainee: Trainee, optimiser: Optimizer, loss: torch.Tensor, config: TrainingConfig, step: int) -> float:
    """One optimiser step down the gradients of the loss, averaged over the processes; returns this process's loss."""
    optimiser.zero_grad()
    loss.backward()
    if config.workers > 1:
        _average_gradients(trainee, config.workers)
    nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
    for group in optimiser.param_groups:
        group["lr"] = _learning_rate(config, step)
    optimiser.step()
    return loss.item()


def _learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine that falls to 1 % of the peak."""
    progress, warm = min(1.0, (step + 1) / config.steps), min(1.0, (step + 1) / config.warmup)
    return config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _optimiser(trainee: Trainee, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that the stage trains; only matrices decay."""
    decaying, others = list[nn.Parameter](), list[nn.Parameter]()
    for name, weight in trainee.named_parameters():
        if weight.requires_grad:
            (decaying if weight.ndim == 2 and "embedding" not in name else others).append(weight)
    groups = [{"params": decaying, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), foreach=True)


def _average_gradients(trainee: Trainee, workers: int) -> None:
    """Replaces every gradient by its mean over the processes."""
    gradients = [weight.grad for weight in trainee.parameters() if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _resume(trainee: Trainee, optimiser: Optimizer, checkpoint: Path, config: TrainingConfig) -> int:
    """Loads the checkpoint if there is one; the optimiser's state counts in the same stage. Returns the first step."""
    if not checkpoint.exists():
        return 0
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if STAGES.index(saved["stage"]) > STAGES.index(config.stage):
        raise ValueError(f"{checkpoint} is of the later stage {saved['stage']!r}; train into another --output")
    trainee.load_state_dict(saved["model"])
    if saved["stage"] != config.stage:
        return 0
    optimiser.load_state_dict(saved["optimiser"])
    return saved["step"]


def export(output: Path, directory: Path) -> None:
    """Writes the checkpoint's model in open_clip's local-directory format, in half precision."""
    saved = torch.load(output / "checkpoint.pt", map_location="cpu", weights_only=True)["model"]
    state = {name.removeprefix("clip."): value for name, value in saved.items() if name.startswith("clip.")}
    state["logit_scale"] = saved["region_scale"]
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / "open_clip_model.safetensors"
    save_file({name: value.half().contiguous() for name, value in state.items()}, weights)
    weights.chmod(0o644)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": {"mean": list(MEAN), "std": list(STD)}}
    (directory / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def train_all(output: Path, **given: Any) -> None:
    """Runs the three stages in turn with their defaults; stages that the checkpoint has passed are left out."""
    checkpoint = output / "checkpoint.pt"
    for stage in STAGES:
        reached = torch.load(checkpoint, weights_only=True)["stage"] if checkpoint.exists() else stage
        if STAGES.index(reached) <= STAGES.index(stage):
            train(TrainingConfig(**{**given, **DEFAULTS[stage]}, output=output, stage=stage))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--output", type=Path, required=True, help="directory of checkpoint and training windows")
    parser.add_argument("--stage", choices=STAGES, help="only this stage; without it all three")
    parser.add_argument("--steps", type=int, help="optimiser steps of the stage")
    parser.add_argument("--batch", type=int, help="windows per worker and step")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--stop-after", type=int, help="leave off at this step, to go on later")
    parser.add_argument("--workers", type=int, help="processes with one thread each")
    parser.add_argument("--blocks", type=int, help="blocks of 2,000 windows to train on")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--export", type=Path, help="write the weights into this directory at the end")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    directory = given.pop("export", None)
    if "stage" not in given and given.keys() & {"steps", "batch", "learning_rate", "stop_after"}:
        parser.error("--steps, --batch, --learning-rate and --stop-after need --stage: they differ between stages")
    if "stage" in given:
        train(TrainingConfig(**{**DEFAULTS[given["stage"]], **given}))
    else:
        train_all(**given)
    if directory:
        export(given["output"], directory)


if __name__ == "__main__":
    main()
