"""`export` at the end of Lightning's fit and of Hugging Face's train; expected values are those of plain timm."""

import lightning.pytorch as pl
import pytest
import timm
import torch
from torch.utils.data import DataLoader

from explorer import InvalidInput
from explorer.production import export, lightning_callback, transformers_callback
from tests.production.conftest import SETTINGS, WIDTHS, batch
from tests.production.test_lightning import Average, Classifier, fit, same
from tests.production.test_transformers import Images, trained, wrapped

pytestmark = pytest.mark.filterwarnings("default")  # the trainers' own warnings
NAMES = ["ant", "bee", "cow", "dog", "eel"]
PIXELS = {"mean": (0.5,), "std": (0.25,), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"}
GIVEN = {"class_names": NAMES, "preprocessing": PIXELS, "data": "noise"}


@torch.no_grad()
def accuracy_in_timm(folder):
    """Of the batches 0 to 3, which all trainers are given."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in map(batch, range(4)))
    return model, right / 32


def test_after_lightnings_fit(tmp_path):
    module = Classifier()
    callback, _ = fit(module, tmp_path / "checkpoints")
    loader = DataLoader([batch(number) for number in range(4)], batch_size=None)
    exported = export(module, callback.training, tmp_path / "m", **GIVEN, loader=loader)
    model, accuracy = accuracy_in_timm(tmp_path / "m")
    assert same(model, module.model)
    assert exported.measured.value == accuracy > 0.2
    assert model.pretrained_cfg["mean"] == [0.5, 0.5, 0.5]  # one value is that of each channel


def test_the_average_of_a_lightning_training_resumed_from_a_checkpoint(tmp_path):
    module = Classifier(stop_after=7)
    average = Average(module)
    with pytest.raises(KeyError):
        fit(module, tmp_path / "stopped", average.staged, batches=1, others=[average])
    resumed = Classifier(seed=5)
    average = Average(resumed)
    checkpoint = str(tmp_path / "stopped" / "step=5.ckpt")
    callback, _ = fit(resumed, tmp_path / "resumed", average.staged, batches=1, resume=checkpoint, others=[average])
    exported = export(average.ema, callback.training, tmp_path / "m", **GIVEN, loader=[batch(n) for n in range(4)])
    model, accuracy = accuracy_in_timm(tmp_path / "m")
    assert same(model, average.ema.module)
    assert not same(model, resumed.model)
    assert exported.measured.value == accuracy
    text = (tmp_path / "m" / "README.md").read_text()
    assert "ended early" not in text
    assert f"{callback.training.plan.steps} of {callback.training.plan.steps} steps" in text


def test_a_lightning_training_that_ended_early_is_handed_over_with_a_warning(tmp_path):
    class Stops(pl.Callback):
        def on_train_epoch_end(self, trainer, *_):  # of four batches
            trainer.should_stop = True

    module = Classifier()
    with pytest.warns(UserWarning, match="training ended at step 4"):
        callback, _ = fit(module, tmp_path / "checkpoints", others=[Stops()])
    with pytest.warns(UserWarning, match="has 4 of the 14 steps of its schedule"):
        export(module, callback.training, tmp_path / "m", **GIVEN)
    assert same(accuracy_in_timm(tmp_path / "m")[0], module.model)
    assert "Training ended early: 4 of the 14 steps" in (tmp_path / "m" / "README.md").read_text()


def test_a_callback_that_has_not_trained_has_nothing_to_hand_over(tmp_path):
    for kind in (lightning_callback, transformers_callback):
        callback = kind.StagedTrainingCallback(WIDTHS, **SETTINGS)
        with pytest.raises(
            InvalidInput, match=r"staged: None: must be a StagedTraining; that of a callback is callback\.training"
        ):
            export(Classifier(), callback.training, tmp_path / "m", **GIVEN)


def test_after_hugging_faces_train(tmp_path):
    model = wrapped()
    inner, _, callback = trained(tmp_path / "trainer", model=model)
    loader = DataLoader(Images(), batch_size=5)  # batches are mappings, the last one is smaller
    exported = export(model, callback.training, tmp_path / "m", **GIVEN, loader=loader)
    again, accuracy = accuracy_in_timm(tmp_path / "m")
    assert same(again, inner)
    assert (exported.measured.value, exported.measured.images) == (accuracy, 32)


@pytest.mark.slow
def test_after_a_hugging_face_training_that_was_resumed_with_the_trainers_own_loader(tmp_path):
    with pytest.raises(KeyError):
        trained(tmp_path / "trainer", stop_after=8)
    checkpoint = str(tmp_path / "trainer" / "checkpoint-6")
    loaders = []

    class Keeps(transformers_callback.StagedTrainingCallback):
        def on_evaluate(self, args, state, control, eval_dataloader=None, **others):
            loaders.append(eval_dataloader)
            super().on_evaluate(args, state, control, **others)

    model = wrapped(5)
    callback = Keeps(WIDTHS, **SETTINGS)
    evaluates = {"eval_strategy": "steps", "eval_steps": 6}
    trained(tmp_path / "trainer", resume=checkpoint, model=model, callback=callback, **evaluates)
    exported = export(model, callback.training, tmp_path / "m", **GIVEN, loader=loaders[-1])
    assert exported.measured.value == accuracy_in_timm(tmp_path / "m")[1]
