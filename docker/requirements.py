"""Prints what edgemtl-runtime with some extras needs, OpenCV without its windows: an image has no screen.

python docker/requirements.py live zenoh sign > requirements.txt
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10 (JetPack 6)
    import tomli as tomllib  # type: ignore[no-redef]

PYPROJECT = Path(__file__).parents[1] / "runtime" / "pyproject.toml"
WINDOWLESS = {"opencv-python": "opencv-python-headless"}


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Return the requirements of a project with extras, those that extras name of the project itself resolved."""
    lines: list[str] = list(project["dependencies"])
    waiting, known = list(extras), set(extras)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop(0)]:
            own = re.fullmatch(rf"{re.escape(project['name'])}\[(.+)\]", line)
            if own is None:
                lines.append(line)
                continue
            new = [extra for extra in own[1].split(",") if extra not in known]
            waiting += new
            known.update(new)
    return sorted({re.sub(r"^[\w.-]+", lambda name: WINDOWLESS.get(name[0], name[0]), line) for line in lines})


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(tomllib.loads(PYPROJECT.read_text())["project"], sys.argv[1:])) + "\n")
