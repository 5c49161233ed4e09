"""The callback in Lightning's Trainer."""

import copy
from contextlib import nullcontext

import lightning.pytorch as pl
import pytest
import timm
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, OnExceptionCheckpoint, StochasticWeightAveraging
from timm.utils import ModelEmaV3
from torch.nn import functional
from torch.utils.data import DataLoader

from explorer import InvalidInput, StagedTraining
from explorer.production.lightning_callback import StagedTrainingCallback
from tests.production.conftest import SETTINGS, SHAPE, WIDTHS, batch, plain_loop, tiny_model, watched

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's own warnings


class Classifier(pl.LightningModule):
    def __init__(self, seed=0, stop_after=None):
        super().__init__()
        self.model = tiny_model(seed)
        self.seen, self.stop_after = [], stop_after

    def training_step(self, images_and_labels, _):
        images, labels = images_and_labels
        self.seen.append(watched(self.model, self.optimizers().optimizer))
        if self.stop_after and len(self.seen) > self.stop_after:
            raise KeyError("stopped")
        return functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Average(pl.Callback):
    """A user's average of the weights, saved in each checkpoint."""

    def __init__(self, module):
        self.ema = ModelEmaV3(module.model, decay=0.9)
        self.staged = StagedTrainingCallback(WIDTHS, **SETTINGS, ema=self.ema)

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.ema.update(pl_module.model)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        with self.staged.training.at_full_size():
            checkpoint["average"] = copy.deepcopy(self.ema.state_dict())

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        self.ema.load_state_dict(checkpoint["average"])


def fit(module, folder, callback=None, batches=4, resume=None, others=(), **options):
    callback = callback or StagedTrainingCallback(WIDTHS, **SETTINGS)
    keep = ModelCheckpoint(folder, every_n_train_steps=5, save_top_k=-1, filename="{step}")
    settings = {"max_epochs": -1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False, **options}
    trainer = pl.Trainer(callbacks=[callback, *others, keep], enable_model_summary=False, **settings)
    loader = DataLoader([batch(number) for number in range(batches)], batch_size=None)
    trainer.fit(module, loader, ckpt_path=resume)
    return callback, trainer


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_same_steps_and_weights_as_in_a_plain_loop(tmp_path):
    seen, model = plain_loop(batches_in_epoch=4)
    module = Classifier()
    callback, trainer = fit(module, tmp_path)
    assert module.seen == seen
    assert same(module.model, model)
    assert trainer.global_step == callback.training.plan.steps == len(seen)


def test_it_resumes_in_the_middle_of_a_stage(tmp_path):
    straight = Classifier()
    callback, _ = fit(straight, tmp_path / "straight", batches=1)
    stages = callback.training.plan.stages()
    for number, stop_after in enumerate((7, stages[0].steps + 2)):  # in the first stage, and in the second
        stopped = Classifier(stop_after=stop_after)
        with pytest.raises(KeyError):
            fit(stopped, tmp_path / f"stopped{number}", batches=1)
        latest = max((tmp_path / f"stopped{number}").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
        content = torch.load(latest, weights_only=True)
        weights = {name.removeprefix("model."): tensor for name, tensor in content["state_dict"].items()}
        tiny_model().load_state_dict(weights, strict=True)  # plain timm loads its weights
        resumed = Classifier(seed=5)
        fit(resumed, tmp_path / "resumed", batches=1, resume=str(latest))
        done = int(latest.stem.split("=")[1])
        assert 0 < done <= stop_after
        assert resumed.seen == straight.seen[done:]
        assert same(resumed.model, straight.model)


def test_it_resumes_with_an_average_of_the_weights(tmp_path):
    def run(folder, seed=0, stop_after=None, resume=None):
        module = Classifier(seed, stop_after)
        average = Average(module)
        fit(module, folder, average.staged, batches=1, resume=resume, others=[average])
        return module.model, average.ema.module

    straight = run(tmp_path / "straight")
    with pytest.raises(KeyError):
        run(tmp_path / "stopped", stop_after=7)
    resumed = run(tmp_path / "resumed", seed=5, resume=str(tmp_path / "stopped" / "step=5.ckpt"))
    assert same(resumed[0], straight[0])
    assert same(resumed[1], straight[1])
    assert not same(*straight)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("other", [EMAWeightAveraging(decay=0.9), StochasticWeightAveraging(1e-2, swa_epoch_start=1)])
def test_weight_averaging_by_lightning_is_refused(tmp_path, other, first):
    ours = StagedTrainingCallback(WIDTHS, **SETTINGS)
    given = {"callback": other, "others": [ours]} if first else {"callback": ours, "others": [other]}
    with pytest.raises(InvalidInput, match=f"callbacks: '{type(other).__name__}': cannot be used with stages: .*ema="):
        fit(Classifier(), tmp_path, **given)


def test_accumulated_batches_are_one_step(tmp_path):
    module = Classifier()
    callback, trainer = fit(module, tmp_path, accumulate_grad_batches=2)
    assert trainer.global_step == callback.training.plan.steps
    assert len(module.seen) == 2 * callback.training.plan.steps
    assert module.seen[::2] == module.seen[1::2]


@pytest.mark.parametrize("how", ["callback", "ctrl_c"])
def test_however_training_ends_the_model_is_full_and_an_early_end_is_said(tmp_path, how):
    class Ends(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                if how == "ctrl_c":
                    raise KeyboardInterrupt
                trainer.should_stop = True

    module = Classifier()
    exits = pytest.raises(SystemExit) if how == "ctrl_c" else nullcontext()
    with exits, pytest.warns(UserWarning, match="training ended at step 3 of the 14 of its schedule"):
        fit(module, tmp_path, others=[Ends()])
    tiny_model().load_state_dict(module.model.state_dict(), strict=True)


def test_a_checkpoint_that_is_written_after_an_error_resumes_exactly(tmp_path):
    straight, stopped, resumed = Classifier(), Classifier(stop_after=4), Classifier(seed=5)
    fit(straight, tmp_path / "straight", batches=1)
    with pytest.raises(KeyError), pytest.warns(UserWarning, match="training ended at step 5 of the 14 of"):
        fit(stopped, tmp_path / "stopped", batches=1, others=[OnExceptionCheckpoint(tmp_path)])
    fit(resumed, tmp_path / "resumed", batches=1, resume=str(tmp_path / "on_exception.ckpt"))
    assert resumed.seen == straight.seen[4:]  # the update of the step that failed was not made
    assert same(resumed.model, straight.model)


def test_checkpoints_of_weights_alone_hold_the_full_model(tmp_path):
    weights_only = ModelCheckpoint(tmp_path / "weights", every_n_train_steps=3, save_top_k=-1, save_weights_only=True)
    fit(Classifier(), tmp_path, others=[weights_only])
    files = list((tmp_path / "weights").glob("*.ckpt"))
    assert len(files) == 4
    for file in files:
        content = torch.load(file, weights_only=True)
        assert "optimizer_states" not in content
        tiny_model().load_state_dict({name.removeprefix("model."): t for name, t in content["state_dict"].items()}, strict=True)


def test_choosing_the_best_checkpoint_among_models_of_different_sizes_is_refused(tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="loss", save_top_k=1)
    with pytest.raises(InvalidInput, match=r"callbacks: .*monitor='loss'.*: cannot choose among checkpoints of a staged"):
        fit(Classifier(), tmp_path, others=[best])


class WithTwoOptimizers(Classifier):
    automatic_optimization = False

    def training_step(self, images_and_labels, _):
        images, labels = images_and_labels
        self.seen.append(watched(self.model, self.optimizers()[0].optimizer))
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(functional.cross_entropy(self.model(images), labels))
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self):
        parts = [[p for p in self.parameters() if (p.ndim == 2) is matrices] for matrices in (True, False)]
        return [torch.optim.AdamW(part, lr=1e-2) for part in parts]


def test_two_optimizers_end_where_one_ends(tmp_path):
    one, two = Classifier(), WithTwoOptimizers()
    fit(one, tmp_path / "one")
    fit(two, tmp_path / "two")
    assert two.seen == one.seen
    assert same(one.model, two.model)


def test_missing_and_unknown_arguments_are_type_errors():
    with pytest.raises(TypeError, match="batch_size"):
        StagedTrainingCallback(WIDTHS, budget="50%", full_steps=20)
    with pytest.raises(TypeError, match="subset"):
        StagedTrainingCallback(WIDTHS, **SETTINGS, subset="random")


def test_stages_with_batches_of_their_own_are_refused():
    first = WIDTHS.stages[0].model_copy(update={"batch_factor": 2.0})
    schedule = WIDTHS.model_copy(update={"stages": (first, *WIDTHS.stages[1:])})
    with pytest.raises(InvalidInput, match=r"schedule: stages\.0\.batch_factor: 2\.0: must be 1 here: the loop reads its own"):
        StagedTrainingCallback(schedule, **SETTINGS)


def test_the_plan_is_that_of_staged_training(tmp_path):
    callback, _ = fit(Classifier(), tmp_path)
    model = tiny_model()
    plain = StagedTraining(model, torch.optim.AdamW(model.parameters(), lr=1e-2), WIDTHS, **SETTINGS)
    assert callback.training.plan == plain.plan


def test_a_trainer_with_a_limit_of_its_own_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"max_epochs: .*both must be -1: training ends when the budget is spent"):
        fit(Classifier(), tmp_path, max_epochs=3)


def test_a_module_without_a_timm_model_or_with_two_is_refused(tmp_path):
    module = Classifier()
    module.model = torch.nn.Linear(3, 5)
    with pytest.raises(InvalidInput, match="model: 'Classifier': must contain one timm model; it contains 0"):
        fit(module, tmp_path)
    module = Classifier()
    module.teacher = timm.create_model(
        "vit_tiny_patch16_224", img_size=SHAPE[1], patch_size=4, depth=1, embed_dim=32, num_heads=2
    )
    with pytest.raises(InvalidInput, match="it contains 2"):
        fit(module, tmp_path)
