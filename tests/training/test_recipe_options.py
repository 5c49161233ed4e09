"""Mixed images, averaged weights, accumulated gradients, checkpoints within a segment."""

import pytest
import timm
import torch
from timm.utils import ModelEmaV3
from torch.nn import functional

from explorer import InvalidInput, Rates, Schedule
from explorer.spec.data import DataSpec
from explorer.spec.recipe import Augmentation
from explorer.training import loop
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import Interrupted, assert_resumes_exactly, planned, same_weights

CPU = torch.device("cpu")


def task_with(spec, **recipe) -> Task:
    return Task(spec.model_copy(update={"recipe": spec.recipe.model_copy(update=recipe)}))


def test_mixed_targets_are_fractions_of_the_two_labels_that_were_mixed(tiny_spec):
    task = task_with(tiny_spec, augmentation=Augmentation(mixup=0.8))
    plain = Task(tiny_spec)
    images, shares = next(task.train_batches(3, 0, 1, CPU))
    unmixed, labels = next(plain.train_batches(3, 0, 1, CPU))
    own = shares[range(32), labels]
    share = own[labels != labels.flip(0)][0].item()  # one for the whole batch
    assert 0 < share < 1
    assert torch.allclose(images, share * unmixed + (1 - share) * unmixed.flip(0), atol=1e-6)
    wanted = share * functional.one_hot(labels, 10) + (1 - share) * functional.one_hot(labels.flip(0), 10)
    assert torch.allclose(shares, wanted, atol=1e-6)


def test_cutmix_pastes_a_box_and_counts_its_pixels(tiny_spec):
    task = task_with(tiny_spec, augmentation=Augmentation(cutmix=1.0))
    (images, shares), (unmixed, labels) = (next(each.train_batches(3, 1, 1, CPU)) for each in (task, Task(tiny_spec)))
    differ = labels != labels.flip(0)
    share = shares[range(32), labels][differ][0].item()
    kept = (images == unmixed).flatten(1).float().mean(1)[differ]
    assert torch.all(kept >= share - 1e-6)  # pixels outside the box, and equal ones within


def test_mixing_depends_on_seed_and_step_alone(tiny_spec):
    task = task_with(tiny_spec, augmentation=Augmentation(mixup=0.8, cutmix=1.0))
    whole = list(task.train_batches(5, 0, 6, CPU))
    late = list(task.train_batches(5, 4, 2, CPU))
    for (images, shares), (later, later_shares) in zip(whole[4:], late, strict=True):
        assert torch.equal(images, later)
        assert torch.equal(shares, later_shares)
    assert not torch.equal(whole[0][0], next(task.train_batches(6, 0, 1, CPU))[0])


def test_mixing_leaves_the_random_numbers_of_training_steps_alone(tiny_spec):
    """Each process has seeded its own: dropped tokens and blocks must not be the same in all of them."""

    def numbers_of_steps(task):
        torch.manual_seed(7)
        return [torch.rand(1).item() for _ in task.train_batches(5, 0, 3, CPU)]

    assert numbers_of_steps(task_with(tiny_spec, augmentation=Augmentation(mixup=0.8))) == numbers_of_steps(Task(tiny_spec))


def test_the_average_is_timms(tiny_spec):
    """Compared with a plain loop that uses timm's ModelEmaV3."""
    task = task_with(tiny_spec, ema_decay=0.9)
    plan = planned(task, Schedule.full_model(), "20%")
    ours = train(task, plan, seed=0)
    torch.manual_seed(0)
    model = timm.create_model(**task.model_arguments())
    average = ModelEmaV3(model, 0.9, use_warmup=True)
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=2e-3, weight_decay=0.05, fused=True)
    factors = [s.learning_rate_factor(i) for s in plan.segments for i in range(s.steps)]
    batches = task.train_batches(0, 0, plan.steps, CPU)
    for step, ((images, labels), factor) in enumerate(zip(batches, factors, strict=True), start=1):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 2e-3 * factor
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
    assert same_weights(ours.model, average.module)
    assert not same_weights(ours.model, model)


def test_accumulated_parts_add_up_to_the_batch(tiny_spec):
    """Width and depth only: tokens to drop would be drawn in another order for parts than for batches."""
    tiny = tiny_spec.model_copy(update={"recipe": tiny_spec.recipe.model_copy(update={"optimizer": "sgd"})})
    results = []
    for parts in (1, 4):
        task = task_with(tiny, accumulation=parts)
        schedule = Schedule.model_validate(
            {
                "stages": [
                    {"rates": Rates(heads=0.5, mlp=0.5, depth=0.5), "duration_ratio": 0.5},
                    {"rates": Rates(), "duration_ratio": 0.5},
                ]
            }
        )
        results.append(train(task, planned(task, schedule, "20%"), seed=0))
    for one, other in zip(results[0].model.parameters(), results[1].model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert results[0].segments[-1].mean_loss == pytest.approx(results[1].segments[-1].mean_loss, rel=1e-4)


def test_a_run_with_all_options_resumes_exactly(tiny_spec, three_stages, tmp_path):
    task = task_with(tiny_spec, augmentation=Augmentation(mixup=0.8, cutmix=1.0), ema_decay=0.95, accumulation=2)
    plan = planned(task, three_stages.model_copy(update={"grid": 10}), "25%")
    assert_resumes_exactly(task, plan, (2, 4, 9), tmp_path)


def test_a_checkpoint_within_a_segment_resumes_exactly(tiny_spec, three_stages, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOSS_CHECK_STEPS", 3)
    task = task_with(tiny_spec, ema_decay=0.95)
    plan = planned(task, three_stages.model_copy(update={"grid": 5}), "20%")
    straight = train(task, plan, seed=1)
    assert plan.segments[0].steps > 10
    checks = []

    def interrupt(progress):
        checks.append(progress.unfinished.steps)
        if len(progress.segments) == 1 and progress.unfinished.steps == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(task, plan, seed=1, checkpoint=tmp_path / "c.pt", checkpoint_every=0, on_loss_check=interrupt)
    assert checks[:2] == checks[-2:] == [3, 6]
    seen = []
    resumed = train(task, plan, seed=1, checkpoint=tmp_path / "c.pt", on_loss_check=lambda p: seen.append(p.steps))
    assert same_weights(straight.model, resumed.model)
    assert (resumed.steps, resumed.flops) == (straight.steps, straight.flops)
    assert [s.steps for s in resumed.segments] == [s.steps for s in straight.segments]
    assert [s.mean_loss for s in resumed.segments] == pytest.approx([s.mean_loss for s in straight.segments])
    # The interruption came before the checkpoint at step 6: the run resumed at step 3 of the second segment.
    assert seen[0] == plan.segments[0].steps + 6


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"accumulation": 5}, r"recipe\.accumulation: 5: must divide the batch of 32 images equally"),
        (
            {"batch_size": 31, "augmentation": Augmentation(mixup=0.1)},
            r"recipe\.batch_size: 31: must be even if images are mixed",
        ),
    ],
)
def test_batches_that_cannot_be_divided_are_refused(tiny_spec, recipe, message):
    with pytest.raises(InvalidInput, match=message):
        task_with(tiny_spec, **recipe)


def test_augmentation_that_would_be_ignored_is_refused(tiny_spec, image_folder):
    with pytest.raises(
        InvalidInput, match=r"recipe\.augmentation\.transform: .* does not apply to 'digits', .* by shift, flip"
    ):
        task_with(tiny_spec, augmentation=Augmentation(transform={"re_prob": 0.5}))
    data = DataSpec(name="folder", root=str(image_folder), image_size=8)
    with pytest.raises(InvalidInput, match=r"recipe\.augmentation\.flip: True: does not apply to 'folder', .* by transform"):
        task_with(tiny_spec.model_copy(update={"data": data}), augmentation=Augmentation(flip=True))
