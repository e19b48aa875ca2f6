"""Reading ahead: what takes long to read is read by several threads, in order, and not too much of it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def read_ahead(read: Callable[[int], T], indices: Iterable[int], threads: int) -> Generator[T, None, None]:
    """Yield ``read(index)`` in the order of ``indices``, with so many reads under way at most.

    What was not begun when the caller stops is not read.
    """
    remaining = iter(indices)
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[T]] = deque(pool.submit(read, index) for index in islice(remaining, threads))
        try:
            while pending:
                value = pending.popleft().result()
                pending.extend(pool.submit(read, index) for index in islice(remaining, 1))
                yield value
        finally:
            for future in pending:
                future.cancel()
