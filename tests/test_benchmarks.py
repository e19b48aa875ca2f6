"""The benchmarks: what they import exists, and result rows are read under today's keys and earlier ones."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results"
NAMES = sorted(file.stem for file in BENCHMARKS.glob("*.py"))
PACKAGES = ("edgemtl", "edgemtl_export", "edgemtl_models", "edgemtl_runtime")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the benchmarks leads the path, which some of them extend."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def benchmark(name: str) -> ModuleType:
    """Import a benchmark; one that needs a package that is not installed is skipped."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in (*PACKAGES, *NAMES) or (ROOT / "tests" / "runtime" / f"{package}.py").exists():
            raise
        pytest.skip(f"{package} is not installed")


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield every module of ours that is imported, function-level ones too, and the name that is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.partition(".")[0] in PACKAGES)


def missing(tree: ast.AST) -> list[str]:
    """Return the imported names of ours that do not exist."""
    names = []
    for module, name in imports(tree):
        try:
            imported = importlib.import_module(module)
            if name and getattr(imported, name, None) is None:  # which a lazy module answers too
                importlib.import_module(f"{module}.{name}")
        except ModuleNotFoundError:
            names.append(f"{module} {name}".strip())
    return names


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_imports_what_exists(name: str) -> None:
    benchmark(name)
    assert missing(ast.parse((BENCHMARKS / f"{name}.py").read_text())) == []


def test_an_import_that_does_not_exist_is_seen() -> None:
    code = "import edgemtl_runtime.nothing\ndef f():\n    from edgemtl.run import Run, Walk"
    assert missing(ast.parse(code)) == ["edgemtl_runtime.nothing", "edgemtl.run Walk"]


def test_the_scripts_of_startup_import_what_exists() -> None:
    startup = benchmark("startup")
    scripts = [startup.OURS, startup.BARE, startup.ULTRALYTICS, *startup.IMPORTS.values()]
    assert [missing(ast.parse(script)) for script in scripts] == [[]] * len(scripts)


@pytest.mark.parametrize("name", [n for n in NAMES if "ArgumentParser" in (BENCHMARKS / f"{n}.py").read_text()])
def test_a_benchmark_has_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = benchmark(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0 and f"usage: {name}.py" in capsys.readouterr().out


def test_the_commands_that_destroy_runs_are_known(tmp_path: Path) -> None:
    from edgemtl.cli import parser

    commands = benchmark("destroy").commands(tmp_path)
    assert {"train", "export", "calibrate", "record"} <= commands.keys()
    for command in commands.values():
        for overwrite in (False, True):
            parser().parse_args(command.line(tmp_path, overwrite)[3:])


def rows(name: str) -> Any:
    """Return what a committed results file holds."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_documents_are_what_the_benchmarks_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrinking, rgbir, methods = (benchmark(f"{name}_page") for name in ("shrinking", "rgbir", "methods"))
    for module, name in ((shrinking, "shrinking"), (rgbir, "rgbir"), (methods, "methods-measured")):
        monkeypatch.setattr(module, "PAGE", tmp_path / f"{name}.md")
    for module in (rgbir, methods):
        monkeypatch.setattr(module, "DOCS", tmp_path)
    shrinking.write_page()
    rgbir.write_page(rows("rgbir")["runs"], list(benchmark("rgbir").VARIANTS))
    methods.write_page(rows("methods"), list(benchmark("methods").METHODS))
    (tmp_path / "joint.md").write_text(benchmark("joint").page(rows("joint")))
    (tmp_path / "latency.md").write_text(benchmark("engine_page").page(rows("engine")["runs"]))
    pages = sorted(tmp_path.glob("*.md"))
    assert [page.name for page in pages] == [
        "joint.md",
        "latency.md",
        "methods-measured.md",
        "rgbir.md",
        "shrinking.md",
    ]
    for page in pages:
        assert page.read_text() == (ROOT / "docs" / page.name).read_text(), f"docs/{page.name}: write it again"
    assert {plot.name for plot in tmp_path.glob("*.png")} <= {plot.name for plot in (ROOT / "docs").glob("*.png")}


def test_the_measured_parts_of_documents_are_what_the_benchmarks_write() -> None:
    with_section = benchmark("page_section").with_section
    live, deploy = benchmark("live_page"), benchmark("deploy_page")
    parts = [(live.PAGE, name, text) for name, text in live.sections().items()]
    parts.append((deploy.PAGE, deploy.SECTION, deploy.section(rows("deploy")["bundles"])))
    cpp = benchmark("cpp_page")
    parts.append((cpp.PAGE, cpp.SECTION, cpp.section(rows("cpp")["runs"])))
    readme = benchmark("readme_page")
    parts.append((readme.PAGE, readme.SECTION, readme.section()))
    for page, name, text in parts:
        assert with_section(page.read_text(), name, text) == page.read_text(), f"{page.name}, {name}: write it again"
        assert with_section(page.read_text(), name, f"{text}\n| more |") != page.read_text()


def test_a_document_without_the_section_is_refused() -> None:
    with pytest.raises(ValueError, match="there are not one"):
        benchmark("page_section").with_section("# Page\n", "loop", "| a |")


def renamed(value: Any, names: dict[str, str]) -> Any:
    """Return JSON with some of its keys renamed, at any depth."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(item, names) for key, item in value.items()}
    return [renamed(item, names) for item in value] if isinstance(value, list) else value


def test_rows_of_rgbir_are_read_by_both_keys() -> None:
    page = benchmark("rgbir_page")
    runs, order = rows("rgbir")["runs"], ["mid", "aligned_sparse"]
    today = renamed(runs, {"ap50_rgb_absent": "ap50_rgb_missing", "ap50_ir_absent": "ap50_ir_missing"})
    assert today != runs
    assert page.whole_table(page.Variants(today, order)) == page.whole_table(page.Variants(runs, order))


def test_rows_of_methods_are_read_by_both_names() -> None:
    page = benchmark("methods_page")
    runs = rows("methods")["runs"]
    today = [r | {"method": "deepest taps"} if r["method"] == "no exits" else r for r in runs]
    assert today != runs
    tables = [
        page.matrix_table(page.Matrix(r, "kitchen", "rgbir-mobilenetv2"), ["deepest taps"]) for r in (runs, today)
    ]
    assert tables[0] == tables[1] and "| deepest taps |" in tables[0][-2]


def test_head_taps_are_read_by_both_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = benchmark("methods")
    taps = methods.lomt_head_taps("kitchen", "rgbir-mobilenetv2")
    file = tmp_path / "methods.json"
    file.write_text(json.dumps(renamed({"exits": rows("methods")["exits"]}, {"exits": "head_taps"})))
    monkeypatch.setattr(methods, "RESULTS", file)
    assert methods.lomt_head_taps("kitchen", "rgbir-mobilenetv2") == taps and set(taps) >= {"depth", "semantic"}


def test_rows_of_joint_are_read_by_both_keys() -> None:
    joint, results = benchmark("joint"), rows("joint")
    today = results | {"step_cost": renamed(results["step_cost"], {"balance": "task_weighting"})}
    assert today != results and joint.page(today) == joint.page(results)


def test_rows_of_deploy_are_read_by_both_keys() -> None:
    deploy = benchmark("deploy")
    row = rows("deploy")["bundles"][0] | {"refused": {"int8": "loses too much"}}
    today = renamed(row, {"refused": "rejected", "way": "config"})
    assert deploy.lines(today) == deploy.lines(row) and deploy.lines(row)[-1][3:5] == ["rejected", "loses too much"]


def test_rows_of_fuzz_are_read_by_both_names() -> None:
    fuzz = benchmark("fuzz")
    read = fuzz.read_rows(RESULTS / "fuzz.json")
    assert read.keys() == benchmark("fuzz_targets").TARGETS.keys()
    assert all(row["rejected"] + row["used"] == row["mutations"] for row in read.values())


def test_rows_of_latency_are_read_by_both_keys() -> None:
    page, results = benchmark("shrinking_page"), rows("latency")
    today = renamed(results, {"zeroed": "pruned"})
    assert today != results and page.latency(today) == page.latency(results)


def test_rows_of_live_are_read_by_both_keys(capsys: pytest.CaptureFixture[str]) -> None:
    live_table, results = benchmark("live_table"), rows("live")
    today = renamed(results, {"told_after_s": "event_after_s", "results_of_no_new_picture": "stale_results"})
    assert today != results
    tables = []
    for report in (results, today):
        live_table.show(report)
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] and "ultralytics" in tables[0]


def test_a_saved_row_replaces_the_one_of_its_identity(tmp_path: Path) -> None:
    save_row, file = benchmark("common").save_row, tmp_path / "rows.json"
    for seed, value in ((0, 1.0), (1, 2.0), (0, 3.0)):
        save_row(file, "runs", {"method": "joint", "seed": seed, "value": value}, "method", "seed")
    assert [(row["seed"], row["value"]) for row in json.loads(file.read_text())["runs"]] == [(1, 2.0), (0, 3.0)]


def test_tied_shares_are_of_every_convolution_of_the_streams() -> None:
    import edgemtl_models
    from edgemtl_models.aligned import AlignedTrunk

    fusion = {"kind": "aligned", "fuse_at": ["p3", "p4", "p5"]}
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 64), pretrained=False, fusion=fusion)
    assert isinstance(network.trunk, AlignedTrunk)
    path, convs = next(iter(network.trunk.alignable().items()))
    convs[1].weight.data[:] = convs[0].weight.data
    convs[1].weight.data[0] += 1.0
    shares = benchmark("rgbir").tied_shares(SimpleNamespace(network=network))
    assert shares.keys() >= network.trunk.alignable().keys() and shares[path] == 1 - 1 / len(convs[0].weight)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llvip", *(pytest.param(n, marks=pytest.mark.long) for n in ("flir", "m3fd"))])
def test_the_table_of_a_public_set_is_computed_from_a_folder_in_its_layout(name: str, tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "training"))
    layouts = importlib.import_module("layouts")
    public = benchmark("public")
    getattr(layouts, name)(tmp_path / "set")
    assert public.input_size(tmp_path / "set") == [480, 640]
    words = ["steps=2", "batch_size=2", "input_size=[64,96]", "network=rgbir-n"]
    variants = {"llvip": ["ir"], "flir": ["sparse"], "m3fd": ["concat"]}[name]
    table = public.table_of(tmp_path / "set", tmp_path / "out", "imagenet", variants, [0], words)
    assert all(f"| edgemtl {variant} | imagenet |" in table for variant in variants) and "COCO" in table
    kept = (tmp_path / "out" / "rows.json").read_text()
    assert public.table_of(tmp_path / "set", tmp_path / "out", "imagenet", variants, [0], words) == table
    assert (tmp_path / "out" / "rows.json").read_text() == kept  # nothing was computed again


def test_a_folder_in_no_public_layout_is_one_line(tmp_path: Path) -> None:
    from edgemtl.errors import EdgemtlError

    public = benchmark("public")
    for folder, message in ((tmp_path / "nowhere", "there is no such folder"), (tmp_path, "in the layout of none of")):
        with pytest.raises(EdgemtlError, match=message):
            public.set_of(folder)


def test_the_script_for_a_gpu_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script: Any = benchmark("gpu")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "find_gpu", lambda: "no NVIDIA driver here")
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    script.main()
    assert "skipped: no NVIDIA driver here" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["gpu.py", "engine"])
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 2 and "there is no part 'engine'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_part_that_fails_on_a_gpu_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script: Any = benchmark("gpu")

    def fail(_: object) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(script.PARTS, "evaluation", fail)
    target = script.Target("tensorrt", (), tmp_path)
    assert "illegal memory access" in script.tried("evaluation", target, float("inf"))["failed"]
    assert "were over" in script.tried("evaluation", target, 0.0)["skipped"]
