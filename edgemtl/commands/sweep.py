"""The command ``edgemtl sweep``: one training for each value of a key, accuracy over latency."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgemtl_runtime.cli_parser import add_examples, answer_words

from ..other_tools import setting_hint
from .outputs import json_option
from .plugin_options import TRUST, load_configured

if TYPE_CHECKING:
    from ..config import Config
    from .outputs import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    sweep = commands.add_parser(
        "sweep",
        help="train once for each value of a key; accuracy over latency",
        description="Train once for each value of KEY, export and time the networks, and draw accuracy over latency.\n"
        "The same command again goes on where it was interrupted.",
    )
    sweep.add_argument("config", metavar="CONFIG", help="YAML file, or KEY=A,B,… at once")
    sweep.add_argument("overrides", nargs="*", default=[], metavar="KEY=A,B,… key=value")
    sweep.add_argument("--seeds", default="", metavar="0,1,2", help="train each value with these (default: one)")
    sweep.add_argument("--out", type=Path, required=True, help="folder to write: a run a value, sweep.json, sweep.png")
    sweep.add_argument("--trust", action="store_true", help=TRUST)
    json_option(sweep)
    add_examples(
        sweep,
        "mine.yaml sparsity.target=0,0.25,0.5,0.75 --out runs/front",
        "network=rgbir-n,rgbir-lite0 data.source=DATASET epochs=12 --seeds 0,1,2 --out runs/networks",
    )
    answer_words(sweep, setting_hint)
    sweep.set_defaults(command=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    words, file = list(args.overrides), args.config
    if "=" in file and not Path(file).exists():
        words, file = [file, *words], None
    key, configs = _configs(args, words, file)
    from ..console import print_message, print_table, progress_bar
    from ..experiments.sweep import as_json, check_runs, draw, points, rows, train_all

    flat = {folder: config for by_folder in configs.values() for folder, config in by_folder.items()}
    check_runs(flat)
    args.out.mkdir(parents=True, exist_ok=True)
    train_all(flat, print_message)
    with progress_bar("measuring", len(flat)) as bar:
        swept = points({value: list(runs) for value, runs in configs.items()}, lambda n: bar(n, {}))
    tasks = list(dict.fromkeys(task for config in flat.values() for task in config.tasks))
    from edgemtl_runtime.atomic import write_file

    from ..sweep_values import OUTPUTS

    text = json.dumps(as_json(swept, key), indent=1)
    for name, content in zip(OUTPUTS, (text.encode(), draw(swept, key, tasks)), strict=True):
        write_file(args.out / name, content)
    if args.json:
        print(text)
    else:
        print_table(rows(swept, key, tasks))
        print(f"\nwrote {args.out}/: sweep.png, sweep.json, {len(flat)} runs")
    return 0


def _configs(args: argparse.Namespace, words: list[str], file: str | None) -> tuple[str, dict[str, dict[Path, Config]]]:
    """Return the key, and by value the configurations of its runs by their folders; all are checked."""
    from ..config_file import load
    from ..errors import ConfigError
    from ..sweep_values import check_outputs, folder_of, seeds_of, split_values
    from ..used_keys import check_used
    from .checks import check_config, check_data

    if not words:
        raise ConfigError("sweep: give the key to sweep with its values, like sparsity.target=0,0.5")
    key, values = split_values(words[0])
    check_outputs(args.out, key)
    configs: dict[str, dict[Path, Config]] = {}
    for value in values:
        overrides = [f"{key}={value}", *words[1:]]
        config = load_configured(load(file, overrides), file, overrides, args.trust)
        check_config(config)
        check_used(config)
        configs[value] = {folder_of(args.out, key, value, c.seed): c for c in seeds_of(config, args.seeds)}
        check_data(config)
    folders = [folder for runs in configs.values() for folder in runs]
    if repeated := [folder.name for folder in folders if folders.count(folder) > 1]:
        raise ConfigError(f"{words[0]}: two values would be written to {repeated[0]}; sweep them apart")
    return key, configs
