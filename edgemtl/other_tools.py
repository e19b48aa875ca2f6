"""Keys and options of other training tools, ultralytics' above all, and what stands for them here."""

from __future__ import annotations

from msgspec import inspect

from .config import Config, fields_of, plain

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
