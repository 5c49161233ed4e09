"""A short training script that creates optimizer, scheduler and checkpoints as timm's train.py does, in the same order.

It is used in place of train.py, which is not part of any package. With `TIMM_TRAIN=/path/to/train.py` the tests also run the
real one.
"""

import argparse
import json
import os
from contextlib import suppress

import torch
from timm import utils
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import create_model, resume_checkpoint
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.utils import ParseKwargs


def main():
    parser = argparse.ArgumentParser()
    for name, default in {"data-dir": "", "model": "", "opt": "adamw", "output": "", "experiment": "", "resume": ""}.items():
        parser.add_argument(f"--{name}", default=default)
    for name, default in {
        "num-classes": 2,
        "epochs": 1,
        "grad-accum-steps": 1,
        "seed": 42,
        "workers": 0,
        "recovery-interval": 0,
        "stop-after": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch-size", "-b", type=int, default=8)
    parser.add_argument("--input-size", type=int, nargs=3)
    parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    for flag in ("no-prefetcher", "model-ema"):
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    args.sched, args.momentum, args.weight_decay, args.sched_on_updates = "cosine", 0.9, 0.05, True

    utils.init_distributed_device(args)
    utils.random_seed(args.seed, args.rank)
    model = create_model(args.model, num_classes=args.num_classes, **args.model_kwargs)
    data = resolve_data_config(vars(args), model=model)
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args))
    start = resume_checkpoint(model, args.resume, optimizer) if args.resume else 0
    dataset = create_dataset("", root=args.data_dir, split="train", is_training=True)
    create_dataset("", root=args.data_dir, split="validation", is_training=False)
    loader = create_loader(dataset, data["input_size"], args.batch_size, is_training=True, use_prefetcher=False, num_workers=0)
    folder = utils.get_outdir(args.output, args.experiment)
    saver = utils.CheckpointSaver(model, optimizer, args, checkpoint_dir=folder, recovery_dir=folder)
    updates = -(-len(loader) // args.grad_accum_steps)
    scheduler, epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=updates)
    seen = []
    with suppress(KeyboardInterrupt):  # as train.py does
        train(args, start, epochs, model, loader, optimizer, scheduler, updates, saver, seen)
    with open(os.path.join(folder, "seen.json"), "w") as file:
        json.dump(seen, file)


def train(args, start, epochs, model, loader, optimizer, scheduler, updates, saver, seen):
    for epoch in range(start, epochs):
        model.train()
        optimizer.zero_grad()
        for batch, (images, labels) in enumerate(loader):
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            if (batch + 1) % args.grad_accum_steps and batch + 1 < len(loader):
                continue
            optimizer.step()
            seen.append((model.blocks[0].mlp.fc1.out_features, optimizer.param_groups[0]["lr"]))
            optimizer.zero_grad()
            if args.recovery_interval and len(seen) % args.recovery_interval == 0:
                saver.save_recovery(epoch, batch_idx=batch)
            if len(seen) == args.stop_after:
                raise KeyboardInterrupt
            scheduler.step_update(epoch * updates + batch // args.grad_accum_steps + 1)
        saver.save_checkpoint(epoch, metric=-epoch)
        scheduler.step(epoch + 1)


if __name__ == "__main__":
    main()
