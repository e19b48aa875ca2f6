"""Keys and options of other training tools, ultralytics' above all, and what stands for them here."""

from __future__ import annotations

import difflib

from msgspec import inspect

from .config import Config
from .config_bounds import fields_of, plain
from .renamed_keys import RENAMED

OTHER_TOOLS = {
    "imgsz": "input_size=[HEIGHT,WIDTH]",
    "img_size": "input_size=[HEIGHT,WIDTH]",
    "image_size": "input_size=[HEIGHT,WIDTH]",
    "img": "input_size=[HEIGHT,WIDTH]",
    "resolution": "input_size=[HEIGHT,WIDTH]",
    "lr0": "lr",
    "learning_rate": "lr",
    "base_lr": "lr",
    "lrf": "not chosen: the rate falls to a hundredth",
    "lr_scheduler": "not chosen: half a cosine",
    "cos_lr": "not chosen: half a cosine, always",
    "workers": "data.num_workers",
    "num_workers": "data.num_workers",
    "optimizer": "not chosen: AdamW",
    "momentum": "not chosen: AdamW",
    "amp": "precision",
    "half": "precision",
    "fp16": "precision",
    "bf16": "precision",
    "warmup_epochs": "warmup_steps",
    "warmup_ratio": "warmup_steps",
    "name": "--out RUN",
    "project": "--out RUN",
    "save_dir": "--out RUN",
    "output_dir": "--out RUN",
    "work_dir": "--out RUN",
    "exist_ok": "--overwrite",
    "resume": "--resume",
    "model": "network",
    "cfg": "network",
    "backbone": "network",
    "arch": "network",
    "pretrained": "init_from",
    "checkpoint": "init_from",
    "ckpt": "init_from",
    "weights_decay": "weight_decay",
    "wd": "weight_decay",
    "grad_clip": "grad_clip_norm",
    "gradient_clip_val": "grad_clip_norm",
    "clip_grad": "grad_clip_norm",
    "max_grad_norm": "grad_clip_norm",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "epoch_num": "epochs",
    "max_steps": "steps",
    "iterations": "steps",
    "max_iters": "steps",
    "bs": "batch_size",
    "batch-size": "batch_size",
    "train_batch_size": "batch_size",
    "dataset": "data.source",
    "data_dir": "data.source",
    "dataset_dir": "data.source",
    "classes": "names in data.yaml",
    "nc": "names in data.yaml",
    "task": "tasks",
    "device": "not chosen: a GPU is used where there is one; CUDA_VISIBLE_DEVICES= hides it",
    "gpus": "not chosen: torchrun starts a process a GPU",
    "cache": "data.cache_mb",
    "fraction": "data.val_fraction, of the training images",
    "val_split": "data.val_fraction",
    "val_interval": "num_evals",
    "eval_interval": "num_evals",
    "eval_steps": "num_evals",
    "save_period": "checkpoint_interval_s",
    "save_interval": "checkpoint_interval_s",
    "patience": "not there: every training runs to its end, on averaged weights (ema_decay)",
    "random_seed": "seed",
    "ema": "ema_decay",
    "hsv_h": "augment.hue",
    "hsv_s": "augment.saturation",
    "hsv_v": "augment.brightness",
    "degrees": "augment.rotate_deg",
    "fliplr": "augment.flip",
    "close_mosaic": "augment.mosaic_until",
    "prune": "sparsity.target",
    "pruning_ratio": "sparsity.target",
    "sparsity_ratio": "sparsity.target",
    "modality": "modalities",
    "cameras": "modalities",
}
"""Keys of other training tools, and ours."""


def known_elsewhere(key: str, value: object = None) -> str:
    """Return what stands for another tool's key here, or the section that has the key; nothing where it is unknown."""
    plain_key = key.replace("-", "_").lower()
    if known := OTHER_TOOLS.get(plain_key):
        if known.startswith("input_size") and str(value).isdecimal():
            return f"input_size=[{value},{value}] (height, width)"
        return known
    sections = [
        f"{section}.{plain_key}"
        for section, type_ in fields_of(Config).items()
        if isinstance(struct := plain(type_), inspect.StructType) and plain_key in fields_of(struct.cls)
    ]
    return " or ".join(sections[:3])


def setting_hint(name: str, value: str) -> str:
    """Return the word that stands for an option like ``--epochs 4`` of a training; nothing where it is unknown."""
    key = name.lstrip("-").replace("-", "_")
    renamed_key = RENAMED[""].get(key, key)
    if _is_key(renamed_key):
        return f"settings are words: write {renamed_key}={value or 'VALUE'}"
    known = known_elsewhere(key, value)
    if _is_key(known):
        return f"settings are words: write {known}={value or 'VALUE'}"
    if known:
        return f"here it is {known}"
    near = difflib.get_close_matches(key, fields_of(Config), n=1, cutoff=0.75)
    return f"settings are words: did you mean {near[0]}={value or 'VALUE'}?" if near else ""


def _is_key(key: str) -> bool:
    """Whether a configuration has a key, like "epochs" or "sparsity.target"."""
    section, _, name = key.partition(".")
    type_ = fields_of(Config).get(section)
    if type_ is None or not name:
        return type_ is not None
    struct = plain(type_)
    return isinstance(struct, inspect.StructType) and name in fields_of(struct.cls)


OPTIONS = {
    "model": "the run or bundle is the first word",
    "weights": "the run or bundle is the first word",
    "source": "the images are a word after the run or bundle",
    "imgsz": "the size is that of the training (input_size)",
    "conf": "of a live run: `edgemtl run BUNDLE --threshold HEAD=SCORE`",
    "iou": "not chosen: boxes need no suppression of overlaps",
    "device": "not chosen: a run is computed where torch finds a device, a bundle by ONNX Runtime",
    "format": "always a bundle with ONNX; --tensorrt builds engines from it",
    "include": "always a bundle with ONNX; --tensorrt builds engines from it",
    "half": "--precisions fp16",
    "fp16": "--precisions fp16",
    "int8": "--precisions int8",
    "dynamic": "--dynamic-batch",
    "batch": "--dynamic-batch leaves the batch size open",
    "opset": "not chosen: one opset, which every engine of ours reads",
    "simplify": "always: removal leaves a graph without needless operators",
    "task": "the tasks are those of the run",
    "save": "--out is always written",
    "project": "--out",
    "name": "--out",
    "output": "--out",
    "exist_ok": "--overwrite",
    "force": "--overwrite",
}
"""Options of other tools for what follows a training, and ours."""


def option_hint(name: str, _value: str) -> str:
    """Return what stands for another tool's option of an evaluation, prediction or export here."""
    return OPTIONS.get(name.lstrip("-").replace("-", "_"), "")
