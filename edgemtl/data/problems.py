"""Problems in a dataset's files, of two weights: what is wrong stops, what is skipped goes on and is counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import DataError

MAX_PRINTED = 20
"""How many problems an error prints; their count is always printed."""


@dataclass(frozen=True)
class Problem:
    """What is wrong: the file, the line (0: the whole file), and a message."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True)
class Skipped:
    """What was skipped for one reason: how much of it, and the place of the first, "FILE:LINE: detail" or less."""

    reason: str
    count: int
    first: str

    def __str__(self) -> str:
        return f"skipped {self.count} {self.reason}; the first: {self.first}"

    def to_dict(self) -> dict[str, str | int]:
        """Return it for programs."""
        return {"reason": self.reason, "count": self.count, "first": self.first}


@dataclass
class Problems:
    """The problems of some files; iterated over, what is wrong alone."""

    wrong: list[Problem] = field(default_factory=list)
    skips: dict[str, Skipped] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.wrong)

    def __len__(self) -> int:
        return len(self.wrong)

    def __getitem__(self, index: int) -> Problem:
        return self.wrong[index]

    def append(self, problem: Problem) -> None:
        """Add what is wrong."""
        self.wrong.append(problem)

    def skip(self, reason: str, file: Path, line: int = 0, detail: str = "", count: int = 1) -> None:
        """Count what was skipped; ``reason`` is a plural with what and why: "boxes without area"."""
        at = f"{file}:{line}" if line else str(file)
        self._add(Skipped(reason, count, f"{at}: {detail}" if detail else at))

    def extend(self, other: Problems) -> None:
        """Add the problems of other files."""
        self.wrong += other.wrong
        for skipped in other.skips.values():
            self._add(skipped)

    def _add(self, skipped: Skipped) -> None:
        before = self.skips.get(skipped.reason)
        self.skips[skipped.reason] = replace(before, count=before.count + skipped.count) if before else skipped

    @property
    def skipped(self) -> list[Skipped]:
        """What was skipped, by reason."""
        return list(self.skips.values())


def raise_problems(root: Path, problems: Iterable[Problem]) -> None:
    """Raise `DataError` with the first twenty problems of a dataset, if there are any."""
    wrong = list(problems)
    if not wrong:
        return
    lines = [str(problem) for problem in wrong[:MAX_PRINTED]]
    if len(wrong) > MAX_PRINTED:
        lines.append(f"and {len(wrong) - MAX_PRINTED} more")
    count = f"{len(wrong)} problem{'s' if len(wrong) > 1 else ''}"
    raise DataError("\n".join([f"{root}: {count}; mend the files and run `edgemtl data check` again", *lines]))
