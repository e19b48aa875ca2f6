"""Faults that users met: each has a name, and tests of its kind marked with it: ``@pytest.mark.fault("D1")``."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
FAULTS = {
    "D1": "labels made for another image size",
    "D2": "one file, two decoders, two images",
    "D3": "16-bit thermal images read as colour",
    "D4": "several cameras in COCO JSON; unequal sizes; keys and folders that nobody reads",
    "D5": "ids that are not unique, names that are no list of words, names without labels",
    "D6": "truncated images, boxes outside, false-colour thermal, a dataset without one box",
    "D7": "weights loaded by shape where the order carries meaning",
    "D8": "rejections that mislead: the form found and the form wanted",
    "D9": "rejections of what others take: skipped, with a count",
    "D10": "the cache's budget; predict and record on datasets",
    "L1": "any YAML spelling of a value; errors of command-line words",
    "L2": "a log that outgrows the checkpoint's header",
    "L3": "a strength that is given and not used",
    "L4": "distillation by a second training pass",
    "L5": "evaluation one by one on the CPU",
    "L6": "metrics, batch entries and labels that share a name",
    "L7": "the cost of the proximal step",
    "L8": "compare without sizes, FLOPs, latency",
    "L9": "torch's global generator; WORLD_SIZE without a launcher",
    "L10": "an accuracy gate over too few images",
    "L11": "a mirrored camera that calibrates",
    "L12": "a task added in one file",
    "S1": "networks in the form in which their library builds them",
    "S2": "tensors that forward makes, casts, autocast blocks",
    "S3": "the logarithm over constants",
    "S4": "a network whose outputs have become constant",
    "S5": "sums with what is constantly zero",
    "C1": "a mistake is answered within a second; help with examples and choices",
    "C2": "errors of words name the word",
    "C3": "how a training and an export end",
    "C4": "figures, reports and pages",
}


def marked(file: Path) -> set[str]:
    """Return the names of the faults that a file's tests are marked with."""
    return {
        str(argument.value)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def test_every_fault_has_tests_and_every_mark_a_fault() -> None:
    assert set().union(*map(marked, TESTS.rglob("test_*.py"))) == FAULTS.keys()
