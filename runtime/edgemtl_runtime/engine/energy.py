"""Power and energy by the meters of a board or a processor.

A Jetson measures rails with INA3221 monitors, each as millivolts and milliamperes under a label; only on some models
is one of them the whole module (VDD_IN on Orin NX and Nano, POM_5V_IN before), on others, as AGX Orin and Xavier, the
whole is the sum. Thor's carrier has an INA238 on its input. Processors count microjoules a package.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RAILS, INPUTS = (f"sys/bus/i2c/drivers/{chip}/*/hwmon/hwmon*" for chip in ("ina3221", "ina238"))
PACKAGES = "sys/class/powercap/intel-rapl:?"
TOTALS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Labels of a rail that supplies the whole module."""
WITHIN = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails supplied by another one, whose figure contains theirs."""
UNUSED = ("", "NC")


@dataclass(frozen=True)
class Power:
    """Mean power in watts, and the meter: the labels of the rails, or the processor's packages."""

    watts: float
    meter: str


@dataclass(frozen=True)
class Rail:
    """A power rail: its label, and the files of millivolts and milliamperes, or of microwatts."""

    label: str
    files: tuple[Path, ...]

    def watts(self) -> float:
        """Return its present power; raises `OSError` where it is off."""
        values = [int(file.read_text()) for file in self.files]
        return float(np.prod(values)) / 1e6


@dataclass(frozen=True)
class Package:
    """A processor's energy counter in microjoules, which wraps around at ``range_uj``."""

    label: str
    file: Path
    range_uj: int

    def joules_since(self, before_uj: int) -> float:
        """Return the energy spent since the counter's value was ``before_uj``."""
        spent = int(self.file.read_text()) - before_uj
        return (spent if spent >= 0 else spent + self.range_uj) / 1e6


def power(work: Callable[[], object], seconds: float = 1.0, root: Path = Path("/")) -> Power | None:
    """Return the power of the board, or of the processor's packages, during some work; None without a meter."""
    if rails := module_rails(find_rails(root)):
        watts: list[float] = []
        end = time.monotonic() + seconds
        while not watts or time.monotonic() < end:
            work()
            watts.append(sum(rail.watts() for rail in rails))
        return Power(float(np.mean(watts)), " + ".join(rail.label for rail in rails))
    if not (packages := find_packages(root)):
        return None
    before = [int(package.file.read_text()) for package in packages]
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        work()
    spent = sum(package.joules_since(uj) for package, uj in zip(packages, before, strict=True))
    return Power(spent / (time.monotonic() - begun), " + ".join(package.label for package in packages))


def module_rails(rails: Sequence[Rail]) -> list[Rail]:
    """Return the rail that supplies the whole module, or those that add up to it."""
    by_label = {rail.label: rail for rail in rails}
    for label in TOTALS:
        if label in by_label:
            return [by_label[label]]
    return [rail for rail in rails if WITHIN.get(rail.label) not in by_label]


def find_rails(root: Path) -> list[Rail]:
    """Return the rails that can be read and are connected, by their labels."""
    rails = [Rail("VIN", (file,)) for folder in root.glob(INPUTS) for file in folder.glob("power1_input")]
    for folder in sorted(root.glob(RAILS)):
        for number in range(1, 4):
            label = _text(folder / f"in{number}_label", f"{folder.name} in{number}")
            if label not in UNUSED:
                rails.append(Rail(label, (folder / f"in{number}_input", folder / f"curr{number}_input")))
    return [rail for rail in rails if _readable(rail)]


def find_packages(root: Path) -> list[Package]:
    """Return the processor's packages that may be read, or the whole platform alone where it is counted."""
    packages = []
    for folder in sorted(root.glob(PACKAGES)):
        with contextlib.suppress(OSError, ValueError):  # most systems let the administrator alone read it
            int((folder / "energy_uj").read_text())
            limit = int(_text(folder / "max_energy_range_uj", "0"))
            packages.append(Package(_text(folder / "name", folder.name), folder / "energy_uj", limit))
    platform = [package for package in packages if package.label == "psys"]
    return platform or packages


def _readable(rail: Rail) -> bool:
    try:
        rail.watts()
    except (OSError, ValueError):
        return False
    return True


def _text(file: Path, otherwise: str) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return otherwise
