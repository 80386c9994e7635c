"""Waiting for many small requests at once.

>>> sizes = list(map_threads(lambda url: info(url).size, urls))
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int = 16) -> Iterator[Result]:
    """Calls `function` on every item in `threads` threads and yields the results in the order of the items.

    Raises what `function` raises, when its result would be yielded.
    """
    items = list(items)
    if len(items) == 1:  # a thread takes longer to start than most requests
        yield function(items[0])
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, items)
