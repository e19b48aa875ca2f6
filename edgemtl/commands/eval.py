"""The commands ``edgemtl eval``, ``compare`` and ``predict``: metrics and predictions of runs and bundles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.atomic import AtomicFile
from edgemtl_runtime.bundle import MODELS
from edgemtl_runtime.cli_parser import add_examples, answer_words
from edgemtl_runtime.renamed_options import renamed

from ..other_tools import option_hint
from .data import labels_option
from .network_options import NETWORK_HELP, external_source, network_options, open_external
from .outputs import figure_file, json_option, overwrite_option
from .plugin_options import load_plugins, plugin_option, plugin_options

if TYPE_CHECKING:
    from ..config import Config, LabelPolicy
    from ..evaluate import Predictor
    from .outputs import Commands


ALSO = ", and load a NETWORK that may run code of its own"


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    _add_eval(commands)
    _add_compare(commands)
    _add_predict(commands)


def _add_eval(commands: Commands) -> None:
    evaluation = commands.add_parser("eval", help="evaluate a run or a bundle on labelled data")
    evaluation.add_argument("path", metavar="RUN|BUNDLE|NETWORK", type=Path, help=NETWORK_HELP)
    evaluation.add_argument(
        "--data", default="", metavar="PATH", help="folder, data.yaml or 'streets' (default: the run's data)"
    )
    evaluation.add_argument("--split", choices=("val", "train", "test"), default="val")
    labels_option(evaluation, None)
    evaluation.add_argument("--missing-modality", action="store_true", help="also with each modality missing in turn")
    renamed(evaluation, "--absent", "--missing-modality")
    evaluation.add_argument("--misaligned", action="store_true", help="also with the cameras shifted and rotated")
    evaluation.add_argument("--out", type=Path, metavar="FILE.png", help="draw the metrics of --misaligned")
    overwrite_option(evaluation)
    evaluation.add_argument(
        "--precision", choices=list(MODELS), default="fp32", help="of a bundle's networks (%(default)s)"
    )
    network_options(evaluation)
    plugin_options(evaluation, ALSO)
    json_option(evaluation)
    add_examples(
        evaluation,
        "runs/mine",
        "street --data DATASET --split test --precision int8",
        "runs/mine --missing-modality --misaligned --out misaligned.png",
        "yolo11n.pt --data DATASET --input-size 320 320",
    )
    answer_words(evaluation, option_hint)
    evaluation.set_defaults(command=_eval)


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="runs side by side: their metrics, and each task's change")
    compare.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="runs, or folders of runs")
    compare.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="run, or folder of runs, that changes are against (default: single)",
    )
    compare.add_argument("--no-latency", dest="latency", action="store_false", help="do not time the networks")
    compare.add_argument("--out", type=Path, metavar="FILE.png", help="draw metrics and changes as well")
    overwrite_option(compare)
    plugin_option(compare)
    json_option(compare)
    add_examples(compare, "runs/mine runs/pruned", "runs --out compared.png")
    compare.set_defaults(command=_compare)


def _add_predict(commands: Commands) -> None:
    predict = commands.add_parser("predict", help="run a run or a bundle on images without labels")
    predict.add_argument("path", metavar="RUN|BUNDLE|NETWORK", type=Path, help=NETWORK_HELP)
    predict.add_argument(
        "folder",
        metavar="IMAGES",
        type=Path,
        help="a folder of images, of two cameras rgb/ and ir/; an image; or a dataset's folder or data.yaml",
    )
    predict.add_argument("--split", default="", help="of a dataset: predict this one alone (default: all)")
    predict.add_argument(
        "--out", type=Path, required=True, help="folder to write: pictures/, results.jsonl, boxes.json"
    )
    overwrite_option(predict)
    network_options(predict)
    plugin_options(predict, ALSO)
    add_examples(
        predict, "runs/mine PICTURES --out predicted", "street PICTURES --out seen", "yolo11n.pt PICTURES --out boxes"
    )
    answer_words(predict, option_hint)
    predict.set_defaults(command=_predict)


def _eval(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError
    from ..run_files import is_run
    from .checks import check_run_or_bundle, check_source

    if args.out and not args.misaligned:
        raise EdgemtlError("--out draws the metrics of --misaligned: give both")
    source = external_source(str(args.path), args)
    if source is None:
        check_run_or_bundle(args.path)
    if (is_run(args.path) or source) and args.precision != "fp32":
        what = "a run" if source is None else str(source)
        raise EdgemtlError(f"--precision {args.precision}: {what} computes in fp32; export it with --precisions first")
    if not is_run(args.path) and not args.data:
        what = "a bundle" if source is None else str(source)
        raise EdgemtlError(f"{what} does not know its data: give --data PATH, or --data streets")
    if args.data:
        check_source(args.data)
    load_plugins(args, [args.path])
    with figure_file(args.out, args.overwrite) as figure:
        return _evaluate_and_report(args, figure)


def _evaluate_and_report(args: argparse.Namespace, figure: AtomicFile | None) -> int:
    from ..console import print_message, print_table, progress_bar
    from ..corruptions import ROTATIONS_DEG, SHIFTS_PX, misalignments, missing_modalities
    from ..data.datasets import name_of, open_datasets
    from ..errors import EdgemtlError
    from ..evaluate import evaluate, of_run
    from ..external.class_names import for_classes
    from ..metric_report import flat, table
    from ..plots import misalignment
    from ..run import Run
    from ..run_files import is_run

    run = Run.open(args.path) if is_run(args.path) else None
    predictor = of_run(run) if run else _open(args, 0.0)
    config = _with_data(run.config if run else _config_of(predictor), args.data, args.labels)
    dataset = open_datasets(config, (args.split,)).get(args.split)
    if dataset is None:
        raise EdgemtlError(f"{name_of(config.data)} has no split '{args.split}'")
    corruptions = {
        **(missing_modalities(predictor.inputs) if args.missing_modality else {}),
        **(misalignments(predictor.inputs) if args.misaligned else {}),
    }
    evaluated, note = for_classes(predictor, dataset)
    if note:
        print_message(note)
    with progress_bar("evaluating", len(dataset)) as bar:
        reports = evaluate(evaluated, dataset, lambda n: bar(n, {}), corruptions)
    if figure:
        tasks = [head.task for head in predictor.heads if head.name in dataset.classes]
        figure.write(misalignment(reports, tasks, SHIFTS_PX, ROTATIONS_DEG, figure.given.suffix[1:].lower()))
    if args.json:
        counts = {"images": len(dataset), "pictures": len(dataset)}  # pictures: for one version more
        print(json.dumps({"what": str(args.path), "data": name_of(config.data), **counts, **flat(reports)}))
    else:
        print_table(table(reports), f"{args.path} on {len(dataset)} images of {name_of(config.data)}")
    return 0


def _open(args: argparse.Namespace, threshold: float | None) -> Predictor:
    """Return the predictor of a run, a bundle or a network from elsewhere; None keeps each head's threshold."""
    from ..evaluate import open_predictor
    from ..external.predictor import predictor_of

    if source := external_source(str(args.path), args):
        return predictor_of(open_external(source, args), None, threshold)
    return open_predictor(args.path, threshold, getattr(args, "precision", "fp32"))


def _config_of(predictor: Predictor) -> Config:
    """Return the configuration by which a dataset is opened for a bundle: its input size and tasks."""
    from ..config import Config

    spec = next(iter(predictor.inputs.values()))
    return Config(input_size=(spec.height, spec.width), tasks=tuple(head.task for head in predictor.heads))


def _with_data(config: Config, source: str, label_policy: LabelPolicy | None) -> Config:
    """Return a configuration with another data source and label policy, where they are given."""
    import msgspec

    data = config.data
    if source:
        data = msgspec.structs.replace(data, source=source)
    if label_policy:
        data = msgspec.structs.replace(data, label_policy=label_policy)
    return msgspec.structs.replace(config, data=data)


def _compare(args: argparse.Namespace) -> int:
    from ..run_files import runs_in

    folders = [folder for path in args.runs for folder in runs_in(path)]
    baseline = runs_in(args.baseline) if args.baseline else []
    load_plugins(args)
    with figure_file(args.out, args.overwrite) as figure:
        return _compare_and_report(folders, baseline, args, figure)


def _compare_and_report(
    folders: list[Path], baseline: list[Path], args: argparse.Namespace, figure: AtomicFile | None
) -> int:
    from ..compare import columns, draw, has_changes, rows
    from ..console import print_message, print_table

    columns(folders, baseline=baseline)  # what is wrong with a run is reported before its network is measured
    compared = columns(folders, _costs(folders, args.latency), baseline)
    if args.json:
        print(json.dumps({column.name: {"seeds": column.seeds, **column.values} for column in compared}))
    else:
        print_table(rows(compared))
    if not has_changes(compared):
        print_message(
            "no Δm: no single-task runs (method=single) of the same protocol next to these; or --baseline RUN"
        )
    if figure:
        against = str(args.baseline) if baseline else "single-task networks"
        figure.write(draw(compared, against, figure.given.suffix[1:].lower()))
    return 0


def _costs(folders: list[Path], with_latency: bool) -> dict[Path, dict[str, float]]:
    """Return the runs' costs; of a run whose network cannot be measured none, with a line that gives the reason."""
    from ..console import print_message, progress_bar
    from ..run_cost import run_costs

    with progress_bar("removing channels", len(folders)) as bar:
        costs, failures = run_costs(folders, with_latency, lambda done: bar(done, {}))
    for folder, reason in failures.items():
        print_message(f"{folder}: its network could not be measured ({reason})")
    return costs


def _predict(args: argparse.Namespace) -> int:
    from ..errors import DataError
    from ..run_files import PREDICTION
    from .checks import check_out, check_run_or_bundle

    if external_source(str(args.path), args) is None:
        check_run_or_bundle(args.path)
    if not args.folder.exists():
        raise DataError(f"{args.folder}: there is no such folder")
    check_out(args.out, PREDICTION, overwrite=args.overwrite)
    load_plugins(args, [args.path])
    from ..console import print_message
    from ..predict import predict

    prediction = predict(_open(args, None), args.folder, args.out, args.overwrite, args.split)
    for skipped in prediction.skipped:
        print_message(str(skipped))
    print(f"wrote {args.out}: {prediction.count} images")
    return 0
