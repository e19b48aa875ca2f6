"""What a person sees: lines and progress on standard error, tables on standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import distributed

WIDTH = 200
console = Console(stderr=True, quiet=not distributed.is_main())
# A table in a file or a pipe keeps its words whole.
output = Console(soft_wrap=True, quiet=not distributed.is_main(), width=None if sys.stdout.isatty() else WIDTH)
Bar = Callable[[int, dict[str, float]], None]


def say(text: str) -> None:
    """Print a line for a person."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """Show a bar; call what it gives with how much is done and the figures to show beside it.

    Where standard error is no terminal, a line is printed at every tenth instead.
    """
    if not console.is_terminal:
        yield lambda done, figures: _tenth(title, done, total, figures)
        return
    columns = (
        TextColumn(title),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, figures="")

        def update(done: int, figures: dict[str, float]) -> None:
            progress.update(task, completed=done, figures=_told(figures))

        yield update


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Give what tells of work in parts: each part a line, one that comes in steps (done, total) a bar."""
    with ExitStack() as bars:
        shown: dict[str, Bar] = {}

        def tell(text: str, done: int, total: int) -> None:
            if text not in shown:
                bars.close()  # the bar of the part before
                shown.clear()
                if not total:
                    say(text)
                    return
                shown[text] = bars.enter_context(progress_bar(text, total))
            shown[text](done, {})

        yield tell


def _tenth(title: str, done: int, total: int, figures: dict[str, float]) -> None:
    if done * 10 // total > (done - 1) * 10 // total and total >= 100:
        say(f"{title} {done}/{total}  {_told(figures)}")


def _told(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in figures.items())


def print_table(rows: list[list[str]], title: str = "") -> None:
    """Print rows of words, the first one as the header, on standard output."""
    table = Table(title=title or None, title_justify="left")
    for index, head in enumerate(rows[0]):
        table.add_column(head, justify="right" if index else "left")
    for row in rows[1:]:
        table.add_row(*row)
    output.print(table)
