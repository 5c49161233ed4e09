"""A short training script that makes those calls of timm's train.py that the launcher depends on, in the same order.

It is used in place of train.py, which is not part of any package. `test_timm_calls.py` compares its calls with those of train.py.
"""

import argparse
import json
import os
from contextlib import suppress

import torch
from timm import utils
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.models import create_model
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from timm.task import ClassificationTask, resume_task_checkpoint
from timm.utils import ParseKwargs


def parse_args():
    parser = argparse.ArgumentParser()
    for name in ("data-dir", "val-split", "model", "opt", "output", "experiment", "resume"):
        parser.add_argument(f"--{name}", default="")
    for name, default in {
        "num-classes": 2,
        "epochs": 1,
        "grad-accum-steps": 1,
        "seed": 42,
        "recovery-interval": 0,
        "stop-after": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--workers", "-j", type=int, default=0)
    parser.add_argument("--batch-size", "-b", type=int, default=8)
    parser.add_argument("--input-size", type=int, nargs=3)
    parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    for flag in ("no-prefetcher", "no-aug", "model-ema"):
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    args.sched, args.momentum, args.weight_decay, args.sched_on_updates = "cosine", 0.9, 0.05, True
    return args


def main():
    args = parse_args()
    device = utils.init_distributed_device(args)
    utils.random_seed(args.seed, args.rank)
    model = create_model(args.model, num_classes=args.num_classes, **args.model_kwargs)
    data = resolve_data_config(vars(args), model=model, verbose=False)
    dataset = create_dataset("", root=args.data_dir, split="train", is_training=True)
    create_dataset("", root=args.data_dir, split="validation", is_training=False)
    options = {"batch_size": args.batch_size, "is_training": True, "no_aug": args.no_aug, "num_workers": 0}
    options |= {"use_prefetcher": False, "distributed": args.distributed}
    loader = create_loader(dataset, input_size=data["input_size"], **options)
    criterion = torch.nn.CrossEntropyLoss()
    task = ClassificationTask(model=model, criterion=criterion, device=device, dtype=None, verbose=False)
    model = task.get_trainable_module()
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args), **{})
    resume_epoch = None
    resume = args.resume
    if resume == "auto":  # train.py of timm 1.0.31 resumes from what is in the folder, if anything
        last = os.path.join(args.output, args.experiment, "last.pth.tar")
        resume = last if os.path.exists(last) else ""
    if resume:
        resume_epoch = resume_task_checkpoint(task, resume, optimizer=optimizer, loss_scaler=None, log_info=False)
    if args.distributed:
        task.prepare_distributed(device_ids=None, broadcast_buffers=True)
        model = task.get_trainable_module()
    folder = utils.get_outdir(args.output, args.experiment)
    saver = utils.CheckpointSaver(
        model=model,
        optimizer=optimizer,
        args=args,
        amp_scaler=None,
        checkpoint_dir=folder,
        recovery_dir=folder,
        decreasing=False,
        max_history=10,
        task=task,
    )
    updates = -(-len(loader) // args.grad_accum_steps)
    lr_scheduler, num_epochs = create_scheduler_v2(
        optimizer, **scheduler_kwargs(args, decreasing_metric=False), updates_per_epoch=updates
    )
    start_epoch = resume_epoch or 0
    if start_epoch > 0:
        lr_scheduler.step_update(start_epoch * updates)
    seen = []
    with suppress(KeyboardInterrupt):  # as train.py does
        for epoch in range(start_epoch, num_epochs):
            train_one_epoch(epoch, model, loader, optimizer, args, task, lr_scheduler, saver, seen)
            metric = -epoch  # falls with each epoch
            saver.save_checkpoint(epoch, metric=metric)
            lr_scheduler.step(epoch + 1, metric)
    with open(os.path.join(folder, "seen.json"), "w") as file:
        json.dump(seen, file)


def train_one_epoch(epoch, model, loader, optimizer, args, task, lr_scheduler, saver, seen):
    trainable_module = task.get_trainable_module()
    trainable_module.train()
    num_updates = epoch * -(-len(loader) // args.grad_accum_steps)
    optimizer.zero_grad()
    for batch, (images, labels) in enumerate(loader):
        result = task(images, labels)
        result["loss"].backward()
        if (batch + 1) % args.grad_accum_steps and batch + 1 < len(loader):
            continue
        optimizer.step()
        seen.append((getattr(model, "module", model).blocks[0].mlp.fc1.out_features, optimizer.param_groups[0]["lr"]))
        num_updates += 1
        optimizer.zero_grad()
        if args.recovery_interval and len(seen) % args.recovery_interval == 0:
            saver.save_recovery(epoch, batch_idx=batch)
        if len(seen) == args.stop_after:
            raise KeyboardInterrupt
        lr_scheduler.step_update(num_updates=num_updates, metric=0.0)


if __name__ == "__main__":
    main()
