"""The callback in Hugging Face's Trainer."""

import json

import pytest
import torch
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch.utils.data import Dataset, SequentialSampler
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, Trainer, TrainerCallback, TrainingArguments

from explorer import Budget, InvalidInput
from explorer.production.transformers_callback import STATE, StagedTrainingCallback
from explorer.spec.augmentation_strength import AugmentationStrength
from explorer.spec.lr_schedule import LearningRateSchedule
from tests.production.conftest import SETTINGS, WIDTHS, batch, plain_loop, tiny_model, watched

pytestmark = pytest.mark.filterwarnings("default")  # the library's own warnings


class Images(Dataset):
    """Four batches of eight."""

    def __init__(self):
        self.images, self.labels = (torch.cat(parts) for parts in zip(*map(batch, range(4)), strict=True))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


class Watch(TrainerCallback):
    """Records what each step trains with; raises an error after a number of steps."""

    def __init__(self, stop_after=None):
        self.seen, self.evaluated, self.stop_after = [], [], stop_after

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **_):
        self.seen.append(watched(model.timm_model, optimizer))
        if len(self.seen) == self.stop_after:
            raise KeyError("stopped")

    def on_prediction_step(self, args, state, control, **_):
        self.evaluated.append(state.global_step)


def wrapped(seed=0):
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4}
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=options, num_labels=5, do_pooling=True)
    model = TimmWrapperForImageClassification(config)
    model.timm_model.load_state_dict(tiny_model(seed).state_dict())
    return model


class Average(TrainerCallback):
    """A user's average of the weights, saved beside each checkpoint."""

    def __init__(self, model, resume):
        self.model, self.ema, self.staged = model, ModelEmaV3(model, decay=0.9), None
        if resume:
            self.ema.load_state_dict(torch.load(f"{resume}/average.pt"))

    def on_optimizer_step(self, args, state, control, **_):
        self.ema.update(self.model)

    def on_save(self, args, state, control, **_):
        with self.staged.training.at_full_size():
            torch.save(self.ema.state_dict(), f"{args.output_dir}/checkpoint-{state.global_step}/average.pt")


def trained(folder, *, seed=0, stop_after=None, resume=None, callback=None, model=None, others=(), evaluated=None, **arguments):
    model = model or wrapped(seed)
    callback = callback or StagedTrainingCallback(WIDTHS, **SETTINGS)
    watch = Watch(stop_after)
    settings = {
        "max_steps": callback.steps_for(model),
        "per_device_train_batch_size": 8,
        "max_grad_norm": 0,
        "save_steps": 6,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **arguments,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trainer = InOrder(
        model,
        TrainingArguments(str(folder), **settings),
        train_dataset=Images(),
        eval_dataset=evaluated or Images(),
        optimizers=(optimizer, None),
        callbacks=[callback, *others, watch],
    )
    trainer.train(resume_from_checkpoint=resume)
    return model.timm_model, watch, callback


def close(one, other):
    return all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_the_same_steps_and_weights_as_in_a_plain_loop(tmp_path):
    seen, model = plain_loop(batches_in_epoch=4)
    theirs, watch, callback = trained(tmp_path)
    assert watch.seen == seen
    assert close(theirs, model)
    assert callback.training.done


def test_it_resumes_in_the_middle_of_a_stage(tmp_path):
    straight, whole_run, callback = trained(tmp_path / "straight")
    first = callback.training.plan.stages()[0].steps
    for stop_after in (8, first + 4):
        folder = tmp_path / f"stopped{stop_after}"
        with pytest.raises(KeyError):
            trained(folder, stop_after=stop_after)
        latest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        weights = {name.removeprefix("timm_model."): tensor for name, tensor in load_file(latest / "model.safetensors").items()}
        tiny_model().load_state_dict(weights, strict=True)  # plain timm loads its weights
        done = int(latest.name.split("-")[1])
        resumed, watch, _ = trained(folder, seed=5, resume=str(latest))
        assert 0 < done < stop_after
        assert watch.seen == whole_run.seen[done:]
        assert close(resumed, straight)


@pytest.mark.parametrize("restore", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_it_resumes_with_a_learning_rate_schedule_and_an_average_of_the_weights(tmp_path, restore):
    def run(folder, seed=0, resume=None, **options):
        model = wrapped(seed)
        average = Average(model.timm_model, resume)
        settings = {**SETTINGS, "budget": Budget(0.5), "lr_schedule": LearningRateSchedule(kind="cosine", warmup=0.1)}
        average.staged = StagedTrainingCallback(WIDTHS, **settings, ema=average.ema)
        options["restore_callback_states_from_checkpoint"] = restore
        ended, watch, _ = trained(folder, resume=resume, callback=average.staged, model=model, others=[average], **options)
        return ended, average.ema.module, watch.seen

    straight, average, seen = run(tmp_path / "straight")
    with pytest.raises(KeyError):
        run(tmp_path / "stopped", stop_after=8)
    resumed, resumed_average, seen_after = run(tmp_path / "stopped", seed=5, resume=str(tmp_path / "stopped" / "checkpoint-6"))
    assert seen_after == seen[6:]
    assert close(resumed, straight)
    assert close(resumed_average, average)
    assert not close(average, straight)


def test_evaluation_sees_the_model_of_the_stage_and_a_checkpoint_the_full_one(tmp_path):
    widths = []

    class Recorder(StagedTrainingCallback):
        def on_prediction_step(self, args, state, control, model=None, **_):
            widths.append(self.training.rates.mlp)

    trained(tmp_path, callback=Recorder(WIDTHS, **SETTINGS), eval_strategy="steps", eval_steps=6, save_steps=6)
    assert widths[0] == 0.5
    assert widths[-1] == 1.0
    weights = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    # transformers before 5 leaves out the prefix "timm_model.".
    (weight,) = (tensor for name, tensor in weights.items() if name.endswith("blocks.0.mlp.fc1.weight"))
    assert weight.shape == (128, 32)


@pytest.mark.filterwarnings("error:state_dict")
def test_all_data_sets_are_evaluated_with_the_model_of_the_stage(tmp_path):
    """The Trainer tells of each set that it was evaluated, and of a checkpoint when it is written."""
    evaluated = []

    class Recorder(TrainerCallback):
        def on_evaluate(self, args, state, control, model, metrics, **_):
            (loss,) = (value for name, value in metrics.items() if name.endswith("_loss"))
            evaluated.append((state.global_step, model.timm_model.blocks[0].mlp.fc1.out_features, loss))

    sets = {"first": Images(), "second": Images(), "third": Images()}
    _, _, callback = trained(tmp_path, others=[Recorder()], evaluated=sets, eval_strategy="steps", eval_steps=6)
    by_step = [evaluated[number : number + 3] for number in range(0, len(evaluated), 3)]
    assert all(one == other == third for one, other, third in by_step)
    assert [each[0][:2] for each in by_step][:2] == [(6, 64), (12, 128)]
    for step in (6, 12):
        weights = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        (weight,) = (tensor for name, tensor in weights.items() if name.endswith("blocks.0.mlp.fc1.weight"))
        assert weight.shape == (128, 32)
        kept = torch.load(tmp_path / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)["state"].values()
        assert any(state["exp_avg"].shape == (128, 32) for state in kept)
        assert json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())["stateful_callbacks"][STATE]
    assert callback.training.done


def test_accumulated_batches_are_one_step(tmp_path):
    _, watch, callback = trained(tmp_path, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    assert len(watch.seen) == callback.training.plan.steps


def test_an_early_end_leaves_the_full_model_and_is_said(tmp_path):
    class Stops(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 3

    with pytest.warns(UserWarning, match="training ended at step 3 of the 14 of its schedule"):
        model, *_ = trained(tmp_path, others=[Stops()])
    tiny_model().load_state_dict(model.state_dict(), strict=True)


def test_weights_that_are_saved_after_an_error_are_said_to_be_partial(tmp_path):
    callback, model = StagedTrainingCallback(WIDTHS, **SETTINGS), wrapped()
    with pytest.raises(KeyError):
        trained(tmp_path, callback=callback, model=model, stop_after=3)
    with pytest.warns(UserWarning, match="lacks the weights that are inactive now"):
        model.state_dict()
    with pytest.warns(UserWarning, match="training ended at step"):
        callback.training.finish()
    tiny_model().load_state_dict(model.timm_model.state_dict(), strict=True)


def test_stages_with_augmentations_of_their_own_are_refused():
    first = WIDTHS.stages[0].model_copy(update={"augmentation": AugmentationStrength(mixup=0.5)})
    schedule = WIDTHS.model_copy(update={"stages": (first, *WIDTHS.stages[1:])})
    with pytest.raises(InvalidInput, match=r"schedule: stages\.0\.augmentation\.mixup: 0\.5: must be 1 here"):
        StagedTrainingCallback(schedule, **SETTINGS)


def test_other_numbers_of_steps_and_foreign_checkpoints_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"max_steps: 3: must be \d+, which steps_for\(model\) returns"):
        trained(tmp_path / "few", max_steps=3)
    with pytest.raises(InvalidInput, match="save_strategy: 'best': must be steps, epoch or no"):
        trained(tmp_path / "best", save_strategy="best", eval_strategy="steps", metric_for_best_model="loss")
    with pytest.raises(InvalidInput, match="load_best_model_at_end: True: must be False: checkpoints of early stages"):
        trained(tmp_path / "end", load_best_model_at_end=True, eval_strategy="steps", eval_steps=6)
    with pytest.raises(KeyError):
        trained(tmp_path / "foreign", stop_after=8)
    state = tmp_path / "foreign" / "checkpoint-6" / "trainer_state.json"
    content = json.loads(state.read_text())
    del content["stateful_callbacks"]["StagedTraining"]
    state.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="resume_from_checkpoint: 6: was saved without this callback"):
        trained(tmp_path / "foreign", resume=str(state.parent))
