"""The command ``edgemtl prune``: a trained network made small and fast, whoever trained it."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemtl_runtime.cli_parser import add_examples, answer_words

from ..other_tools import option_hint
from .network_options import NETWORK_HELP, check_images, external_source, network_options, open_external
from .outputs import json_option, overwrite_option
from .plugin_options import load_plugins, plugin_options

if TYPE_CHECKING:
    from ..prune.options import PruneOptions
    from .outputs import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    prune = commands.add_parser(
        "prune",
        help="make a trained network smaller and faster: decide, train, remove, export",
        description="Prune channels of a trained network while it is trained on, remove them exactly, and write the\n"
        "narrow program, ONNX, a bundle and a report. With --images the network teaches its smaller self, without\n"
        "any labels; with --data labels count too: of an ultralytics checkpoint in ultralytics' own training.",
    )
    prune.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    data = prune.add_mutually_exclusive_group()
    data.add_argument(
        "--images", nargs="+", type=Path, metavar="FOLDER", help="images without labels, the more the better"
    )
    data.add_argument("--data", metavar="DATA", help="a labelled dataset: its folder or data.yaml")
    prune.add_argument("--target", type=float, default=0.5, help="the share of the metric that goes (%(default)s)")
    prune.add_argument("--metric", choices=("latency", "flops", "parameters"), default="latency")
    prune.add_argument("--costs", default="", metavar="FILE", help="of latency: costs.json of edgemtl-runtime profile")
    prune.add_argument(
        "--engine", default="", metavar="BACKEND/PRECISION/THREADS", help="of latency: what counts, if not as --costs"
    )
    prune.add_argument("--steps", type=int, help="training steps (default: 2000; of a run a third of its own)")
    prune.add_argument("--batch-size", type=int, help="images a step (default: 8; of a run its own)")
    prune.add_argument(
        "--lr",
        type=float,
        help="learning rate (default: 0.016 of the size of each filter, less below 160 steps; of a run a fifth of its "
        "own)",
    )
    prune.add_argument("--seed", type=int, default=0)
    prune.add_argument(
        "--train", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of ultralytics' training, like epochs=20"
    )
    prune.add_argument(
        "--finetune", action="store_true", help="of a run of ours, which is trained on with its own data and settings"
    )
    prune.add_argument("--out", type=Path, required=True, metavar="DIR")
    overwrite_option(prune)
    network_options(prune)
    plugin_options(prune, ", and load a file that may run code of its own")
    json_option(prune)
    add_examples(
        prune,
        "yolo11n.pt --images PICTURES --target 0.5 --input-size 320 320 --out small",
        "yolo11n.pt --data mine.yaml --train epochs=20 --out small",
        "detector.onnx --images PICTURES --costs costs.json --out small",
        "timm:resnet18 --weights resnet18.safetensors --images PICTURES --metric flops --out small",
        "runs/mine --finetune --target 0.6 --out small",
    )
    answer_words(prune, option_hint)
    prune.set_defaults(command=_prune)


def _prune(args: argparse.Namespace) -> int:
    from ..errors import EdgemtlError
    from ..prune.arguments import training_arguments
    from ..run_files import PRUNING, check_run, is_run
    from .checks import check_out, check_source

    _check_numbers(args)
    path = Path(args.network)
    if is_run(path):
        check_run(path)
        external_source(args.network, args)
        if args.images or args.data:
            raise EdgemtlError("--images and --data are of networks trained elsewhere: a run has its data")
    else:
        if args.finetune:
            raise EdgemtlError(f"--finetune: is of a run of ours, and {args.network} is none")
        source = external_source(args.network, args)
        if source is None:
            raise EdgemtlError(f"{args.network}: no network here; give {NETWORK_HELP}")
        if not (args.images or args.data):
            raise EdgemtlError(f"give --images FOLDER: {args.network} teaches its smaller self on them; or --data DATA")
        check_images(args.images or ())
        if args.data:
            check_source(args.data)
        if args.data and source.kind in (".pt", ".pth"):
            for name, other in (("steps", "epochs"), ("lr", "lr0"), ("batch_size", "batch")):
                if getattr(args, name) is not None:
                    option = name.replace("_", "-")
                    raise EdgemtlError(f"--{option}: with labels ultralytics trains: --train {other}=VALUE")
        training_arguments(args.train)
        if args.train and not (args.data and source.kind in (".pt", ".pth")):
            raise EdgemtlError("--train: arguments of ultralytics' training, of an ultralytics checkpoint with --data")
    if args.costs and not Path(args.costs).is_file():
        raise EdgemtlError(f"--costs {args.costs}: there is no such file")
    check_out(args.out, PRUNING, overwrite=args.overwrite)
    load_plugins(args, [path])
    return _prune_run(args, path) if is_run(path) else _prune_external(args)


def _check_numbers(args: argparse.Namespace) -> None:
    from ..errors import EdgemtlError

    if not 0 < args.target < 1:
        raise EdgemtlError(f"--target {args.target:g}: is the share that goes, above 0 and below 1")
    for name, value, least in (("steps", args.steps, 1), ("batch-size", args.batch_size, 1), ("seed", args.seed, 0)):
        if value is not None and value < least:
            raise EdgemtlError(f"--{name} {value}: is {least} or more")
    if args.lr is not None and not 0 < args.lr < 10:
        raise EdgemtlError(f"--lr {args.lr:g}: is above 0 and below 10")
    if args.metric != "latency" and (args.costs or args.engine):
        raise EdgemtlError(f"--costs and --engine are of --metric latency, not of {args.metric}")


def _options(args: argparse.Namespace, train: dict[str, Any]) -> PruneOptions:
    from ..prune.options import PruneOptions

    given = {name: value for name in ("steps", "lr", "batch_size") if (value := getattr(args, name)) is not None}
    return PruneOptions(
        target=args.target,
        metric=args.metric,
        costs=args.costs,
        engine=args.engine,
        seed=args.seed,
        train=train,
        **given,
    )


def _prune_external(args: argparse.Namespace) -> int:
    from ..console import print_message, progress_stages
    from ..external.images import labelled, unlabelled
    from ..external.source import parse
    from ..prune.arguments import training_arguments
    from ..prune.labelled import prune_with_labels
    from ..prune.pruning import by_teacher, prune
    from ..prune.summary import as_json, summary

    source = parse(args.network)
    assert source is not None
    options = _options(args, training_arguments(args.train))
    network = open_external(source, args)
    data = labelled(network, args.data) if args.data else unlabelled(network, args.images)
    for line in data.notes:
        print_message(line)
    with_labels = args.data and network.trains_with_labels
    with nullcontext(lambda *_: None) if args.json else progress_stages() as progress:
        train = prune_with_labels(args.data) if with_labels else by_teacher
        result = prune(network, data, args.out, options, progress, args.overwrite, train)
    print(json.dumps(as_json(result)) if args.json else summary(result))
    return 0


def _prune_run(args: argparse.Namespace, path: Path) -> int:
    from ..console import progress_stages
    from ..prune.finetune import prune_run
    from ..prune.summary import as_json, summary
    from ..run import Run

    with nullcontext(lambda *_: None) if args.json else progress_stages() as progress:
        result = prune_run(
            Run.open(path), args.out, _options(args, {}), args.steps, args.lr, args.batch_size, progress, args.overwrite
        )
    print(json.dumps(as_json(result)) if args.json else summary(result))
    return 0
