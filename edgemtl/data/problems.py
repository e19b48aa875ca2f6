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
    """What is wrong: the file, the line (0: the whole file), and a message; ``num_alike`` others are left unsaid."""

    file: Path
    line: int
    message: str
    num_alike: int = 0

    def __str__(self) -> str:
        at = f"{self.file}:{self.line}" if self.line else str(self.file)
        alike = f" (and {self.num_alike} more like it)" if self.num_alike else ""
        return f"{at}: {self.message}{alike}"


@dataclass(frozen=True)
class Skipped:
    """What was skipped, or read as something else, for one reason.

    ``count`` of them, and the place of the first, "FILE:LINE: detail" or less. ``verb`` is "skipped" or "read".
    """

    reason: str
    count: int
    first: str
    verb: str = "skipped"

    def __str__(self) -> str:
        return f"{self.verb} {self.count} {self.reason}; the first: {self.first}"

    def to_dict(self) -> dict[str, str | int]:
        """Return it for programs."""
        return {"reason": f"{self.verb}: {self.reason}", "count": self.count, "first": self.first}


@dataclass
class Problems:
    """The problems of some files; iterated over, what is wrong alone."""

    wrong: list[Problem] = field(default_factory=list)
    alike: dict[str, Problem] = field(default_factory=dict)
    """What is wrong and printed once, by its kind."""
    skips: dict[str, Skipped] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Problem]:
        return iter([*self.wrong, *self.alike.values()])

    def __len__(self) -> int:
        return len(self.wrong) + len(self.alike)

    def __getitem__(self, index: int) -> Problem:
        return list(self)[index]

    def append(self, problem: Problem, kind: str = "") -> None:
        """Add what is wrong; of problems of one ``kind``, if it is given, the first is printed, with their count."""
        if not kind:
            self.wrong.append(problem)
        elif kind in self.alike:
            before = self.alike[kind]
            self.alike[kind] = replace(before, num_alike=before.num_alike + 1 + problem.num_alike)
        else:
            self.alike[kind] = problem

    def skip(self, reason: str, file: Path, line: int = 0, detail: str = "", count: int = 1) -> None:
        """Count what was skipped; ``reason`` is a plural with what and why: "boxes without area"."""
        self._add(Skipped(reason, count, _place(file, line, detail)))

    def note(self, reason: str, file: Path, line: int = 0, detail: str = "", count: int = 1) -> None:
        """Count what was read as something else; ``reason`` is a plural: "polygons as the boxes around them"."""
        self._add(Skipped(reason, count, _place(file, line, detail), "read"))

    def extend(self, other: Problems) -> None:
        """Add the problems of other files."""
        self.wrong += other.wrong
        for kind, problem in other.alike.items():
            self.append(problem, kind)
        for skipped in other.skips.values():
            self._add(skipped)

    def _add(self, skipped: Skipped) -> None:
        before = self.skips.get(skipped.reason)
        self.skips[skipped.reason] = replace(before, count=before.count + skipped.count) if before else skipped

    @property
    def skipped(self) -> list[Skipped]:
        """What was skipped, by reason."""
        return list(self.skips.values())


def _place(file: Path, line: int, detail: str) -> str:
    at = f"{file}:{line}" if line else str(file)
    return f"{at}: {detail}" if detail else at


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
