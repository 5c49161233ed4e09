"""Trainings that are interrupted and resumed with another number of processes: `changed_processes.py OUT save|resume TRAINING...`.

They are those of `several_processes.py`; each is saved by some processes and resumed by others.
"""

import sys
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from explorer import StagedTraining
from explorer.production import lightning_callback
from tests.production.conftest import SETTINGS, tiny_model
from tests.production.several_processes import (
    BATCH,
    SAVED_AT,
    STAGES,
    Classifier,
    Images,
    loss_of,
    optimizer_over,
    transformers_trainer,
    world,
)


def own_loop(out: Path, resume: bool) -> torch.nn.Module:
    rank, count = world()
    model = tiny_model(seed=9 if resume else 0)
    optimizer = optimizer_over(model)
    training = StagedTraining(model, optimizer, STAGES, **SETTINGS)
    if resume:
        content = torch.load(out / "state.pt", weights_only=True)
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        training.load_state_dict(content["training"])
    wrapped = DistributedDataParallel(model) if count > 1 else model
    loader = list(DataLoader(Images(), batch_size=BATCH // count))[rank::count]
    while training.step():
        optimizer.zero_grad()
        for batch in loader:
            loss_of(wrapped, batch).backward()
        optimizer.step()
        if training.begun == SAVED_AT and not resume:
            with training.at_full_size():
                states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "training": training.state_dict()}
                if rank == 0:
                    torch.save(states, out / "state.pt")
            return model
    return model


def with_lightning(out: Path, resume: bool) -> torch.nn.Module:
    _, count = world()
    callback = lightning_callback.StagedTrainingCallback(STAGES, **SETTINGS)
    keep = ModelCheckpoint(out, every_n_train_steps=SAVED_AT, save_top_k=-1, filename="{step}")
    options = {"accelerator": "cpu", "devices": count, "strategy": "ddp" if count > 1 else "auto", "logger": False}
    shown = {"enable_progress_bar": False, "enable_model_summary": False}
    module = Classifier()
    trainer = pl.Trainer(max_epochs=-1, callbacks=[callback, keep], **options, **shown)
    path = str(out / f"step={SAVED_AT}.ckpt") if resume else None
    trainer.fit(module, DataLoader(Images(), batch_size=BATCH // count), ckpt_path=path)
    return module.model


def with_transformers(out: Path, resume: bool) -> torch.nn.Module:
    trainer = transformers_trainer(out)
    trainer.train(resume_from_checkpoint=str(out / f"checkpoint-{SAVED_AT}") if resume else None)
    return trainer.own_model


TRAININGS = {"own loop": own_loop, "lightning": with_lightning, "transformers": with_transformers}


def run(out: Path, resume: bool, names: list[str]) -> None:
    """Do some trainings, and keep the weights of each in its folder."""
    for name in names:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        trained = TRAININGS[name](folder, resume)
        if world()[0] == 0:
            torch.save(trained.state_dict(), folder / "final.pt")
        if distributed.is_initialized():
            distributed.barrier()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo")
    run(Path(sys.argv[1]), sys.argv[2] == "resume", sys.argv[3:])
