"""Keeps a GPU busy: pinned uploads on a stream of their own, and the tower as one CUDA graph.

    upload, forward = Uploader(model.device), GraphedTower(model, (model.calibration,), window=224)
    ((features, anomalies),) = forward(normalise(upload(image)))

On the CPU both call PyTorch directly. Several threads may call them: an actor has two chunks in flight.

Shapes: B windows of a batch, N patches, E joint embedding.
"""

import gc
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scclip.encoder.calibration import CalibrationConfig
from scclip.encoder.tower import SelfCalibratedCLIP
from scclip.errors import one_line

CAPTURING = threading.Lock()  # a process records one graph at a time, and frees nothing meanwhile
WARM_UPS = 3  # runs before a capture: libraries choose their kernels and allocate their workspaces then


class TowerOutOfMemory(torch.OutOfMemoryError):
    """A batch of windows does not fit the GPU's memory: fewer may."""


class Uploader:
    """Copies uint8 arrays to the device through two pinned buffers, while the device computes."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.lock = device, threading.Lock()
        if device.type == "cuda":
            self.stream: Any = torch.cuda.Stream(device)
            self.buffers = [torch.empty(0, dtype=torch.uint8) for _ in range(2)]
            self.copied: list[Any] = [torch.cuda.Event() for _ in range(2)]

    def __call__(self, image: np.ndarray) -> Tensor:
        """Copies a uint8 array of any shape to the device; returns a tensor of the same shape."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            source = torch.from_numpy(np.ascontiguousarray(image))
        if self.device.type != "cuda":
            return source.to(self.device)
        with self.lock:
            return self._pinned(source)

    def _pinned(self, source: Tensor) -> Tensor:
        """Copies to the buffer that has been idle for longer, and from there to the device without waiting."""
        self.copied[0].synchronize()
        if self.buffers[0].numel() < source.numel():
            self.buffers[0] = torch.empty(source.numel(), dtype=torch.uint8, pin_memory=True)
        buffer = self.buffers[0][: source.numel()].view(source.shape)
        buffer.copy_(source)
        with torch.cuda.stream(self.stream):
            uploaded = buffer.to(self.device, non_blocking=True)
            self.copied[0].record(self.stream)
        current = torch.cuda.current_stream(self.device)
        current.wait_event(self.copied[0])
        uploaded.record_stream(current)
        self.buffers.reverse()
        self.copied.reverse()
        return uploaded


class GraphedTower:
    """A tower under some settings; on a GPU a batch of full windows is replayed as one CUDA graph.

    The graph is that of the shortest batch so far; a longer one is replayed in parts.
    """

    def __init__(self, model: SelfCalibratedCLIP, variants: Sequence[CalibrationConfig], window: int) -> None:
        self.model, self.variants, self.window, self.lock = model, tuple(variants), window, threading.Lock()
        self.graphs = model.device.type == "cuda"
        self.free: Any = torch.cuda.Event() if self.graphs else None  # recorded when the outputs have been copied
        if self.graphs:
            quicken_tower(model)
        self.forget()

    def forget(self) -> None:
        """Drops the graph and frees its memory."""
        self.graph: Any = None
        self.pixels, self.outputs = torch.empty(0), list[tuple[Tensor, Tensor]]()

    def __call__(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Does what `SelfCalibratedCLIP.encode_variants` does, by the graph where the windows are of full size.

        Args:
            pixels: (B, 3, H, W) float, normalised, on the device.

        Returns:
            For each of the variants: features (B, N, E) and anomalous tokens (B,) int64.

        Raises:
            TowerOutOfMemory: the batch does not fit the GPU's memory.
        """
        try:
            return self._forward(pixels)
        except torch.OutOfMemoryError as error:
            raise TowerOutOfMemory(str(error)) from None

    def _forward(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        if not self.graphs or pixels.shape[-2:] != (self.window, self.window):
            return self.model.encode_variants(pixels, self.variants)
        with self.lock, torch.inference_mode():
            if self.graph is None or len(pixels) < len(self.pixels):
                self.forget()  # first, so that a halved batch has the memory of the whole one
                self._capture(pixels)
            if self.graph is None:
                return self.model.encode_variants(pixels, self.variants)
            # While one thread has halved its batches, another sends whole ones until its call ends. They run in parts:
            # graphs of both lengths would push each other out at every batch.
            parts = [self._replay(part) for part in pixels.split(len(self.pixels))]
            if len(parts) == 1:
                return parts[0]
            variants = (zip(*of_variant, strict=True) for of_variant in zip(*parts, strict=True))
            return [(torch.cat(features), torch.cat(anomalies)) for features, anomalies in variants]

    def _replay(self, pixels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Runs the graph on a batch of at most its length."""
        current, length = torch.cuda.current_stream(self.model.device), len(pixels)
        current.wait_event(self.free)  # another thread's stream may still read what the graph gave it
        self.pixels[:length].copy_(pixels)
        self.graph.replay()
        outputs = [(features[:length].clone(), anomalies[:length].clone()) for features, anomalies in self.outputs]
        self.free.record(current)
        return outputs

    def _capture(self, pixels: Tensor) -> None:
        """Records the graph for this shape of pixels; where that fails it warns and goes on without a graph."""
        device = self.model.device
        current, side, graph = torch.cuda.current_stream(device), torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        static = pixels.clone()
        with CAPTURING:
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self.model.encode_variants(static, self.variants)
            current.wait_stream(side)
            try:
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may upload meanwhile
                    outputs = self.model.encode_variants(static, self.variants)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.graphs = False
                warnings.warn(f"the tower runs without a CUDA graph: {one_line(error)}", stacklevel=2)
                return
            finally:
                torch.cuda.set_stream(current)  # a capture that fails leaves its own
        self.graph, self.pixels, self.outputs = graph, static, outputs


def quicken_tower(model: SelfCalibratedCLIP) -> None:
    """Gives a tower on a GPU its own kernels; where Triton is missing or cannot compile it stays as it is."""
    try:
        from scclip.encoder.quick import quicken

        quicken(model.visual)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        warnings.warn(f"the tower runs without its own kernels, slower: {one_line(error)}", stacklevel=3)


def free_cache() -> None:
    """Gives the GPU's unused memory back; waits while a graph is recorded."""
    with CAPTURING:
        gc.collect()
        torch.cuda.empty_cache()
