"""Terminal output: messages and progress on standard error, tables on standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import ranks
from .tables import Table, as_text

console = Console(stderr=True)
ProgressBar = Callable[[int, dict[str, float]], None]
"""Called with the number of steps done and the metrics to show next to it."""


def print_message(text: str) -> None:
    """Print a line on standard error, once for all processes."""
    if ranks.is_main():
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_table(table: Table, title: str = "") -> None:
    """Print a table on standard output."""
    if ranks.is_main():
        print(as_text(table, title))


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[ProgressBar]:
    """Show a progress bar, or a line at every tenth where standard error is no terminal."""
    if not (console.is_terminal and ranks.is_main()):
        yield lambda done, metrics: _print_tenth(title, done, total, metrics)
        return
    columns = (
        TextColumn(title),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, metrics="")

        def update(done: int, metrics: dict[str, float]) -> None:
            progress.update(task, completed=done, metrics=_formatted(metrics))

        yield update


@contextmanager
def progress_stages() -> Iterator[Callable[[str, int, int], None]]:
    """Give a reporter of (stage, done, total): a line for each stage, or a bar where ``total`` is not 0."""
    with ExitStack() as stack:
        bars: dict[str, ProgressBar] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                stack.close()  # the bar of the previous stage
                bars.clear()
                if not total:
                    print_message(stage)
                    return
                bars[stage] = stack.enter_context(progress_bar(stage, total))
            bars[stage](done, {})

        yield report


def _print_tenth(title: str, done: int, total: int, metrics: dict[str, float]) -> None:
    if done * 10 // total > (done - 1) * 10 // total and total >= 100:
        print_message(f"{title} {done}/{total}  {_formatted(metrics)}")


def _formatted(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in metrics.items())
