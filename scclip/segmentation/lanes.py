"""Images side by side on the cores of a CPU, each lane with few threads of PyTorch.

    Lanes().run(work, items, most=8)   # work takes an iterator; every lane takes its next item when it needs one

Threads that share one operation wait for each other at its end, and what is small or not parallel leaves all but one
idle: two lanes of one thread label 1.1 to 1.2 times as many images as one of two (ViT-B/16, two cores).
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

MOST_LANES = 8  # each holds the activations of one batch of windows, and the scores of one image

T = TypeVar("T")


class Shared(Iterator[T]):
    """An iterator that several threads share: every item goes to one of them."""

    def __init__(self, items: Iterable[T]) -> None:
        self.items, self.lock = iter(items), threading.Lock()

    def __next__(self) -> T:
        with self.lock:
            return next(self.items)

    def close(self) -> None:
        """Ends the iteration for all threads."""
        with self.lock:
            self.items = iter(())


class Lanes:
    """A pool of threads that starts with its first use."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None

    def run(self, work: Callable[[Iterator[T]], None], items: Iterable[T], most: int) -> None:
        """Calls `work` in several lanes at once: as many as PyTorch has threads, which the lanes divide among them.

        An error of a lane is raised here, after the other lanes have finished the items that they work on.

        Args:
            work: takes an iterator of items; it is called once in every lane.
            items: every item goes to one lane.
            most: most lanes.
        """
        threads = torch.get_num_threads()
        lanes = min(threads, most, MOST_LANES)
        if lanes < 2:
            return work(iter(items))
        queue = Shared(items)

        def lane() -> None:
            torch.set_num_threads(threads // lanes)  # of this thread, and of those that PyTorch has not met yet
            try:
                work(queue)
            except BaseException:
                queue.close()
                raise

        self.pool = self.pool or ThreadPoolExecutor(MOST_LANES, thread_name_prefix="lane")
        futures = [self.pool.submit(lane) for _ in range(lanes)]
        wait(futures)
        torch.set_num_threads(threads)
        for future in futures:
            future.result()
