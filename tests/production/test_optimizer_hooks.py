"""A schedule executed by hooks, in a training loop that does not know about it."""

import copy

import pytest
import torch
from torch.nn import functional

from explorer import InvalidInput, Staging
from tests.production.conftest import WIDTHS
from tests.production.loops import same, small, staged


class Loop:
    """A training loop that knows nothing about schedules, with its own scheduler, accumulation, and evaluations."""

    def __init__(self, model, optimizer, accumulate=1):
        self.model, self.optimizer, self.accumulate = model, optimizer, accumulate
        self.widths, self.rates, self.evaluated = [], [], []

    def run(self, updates, first=1):
        for update in range(first, first + updates):
            self.model.train()
            self.optimizer.zero_grad()
            for part in range(self.accumulate):
                generator = torch.Generator().manual_seed(update * self.accumulate + part)
                images = torch.randn(8, 3, 16, 16, generator=generator)
                torch.manual_seed(update)  # of dropped tokens
                functional.cross_entropy(self.model(images), torch.arange(8) % 5).backward()
            for group in self.optimizer.param_groups:
                group["lr"] = 7.0  # its scheduler
            self.optimizer.step()
            self.widths.append(self.model.blocks[0].mlp.fc1.out_features)
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            self.model.eval()
            with torch.inference_mode():
                self.model(torch.zeros(1, 3, 16, 16))
            self.evaluated.append(self.model.blocks[0].mlp.fc1.out_features)


@pytest.mark.parametrize("token_policy", ["drop", "resize"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_following_an_optimizer_is_equivalent_to_calling_step(token_policy, accumulate):
    model, optimizer = small(dynamic_img_size=True)
    called = staged(model, optimizer, staging=Staging(token_policy=token_policy))
    widths, rates = [], []
    while called.step():
        optimizer.zero_grad()
        for part in range(accumulate):
            generator = torch.Generator().manual_seed(called.begun * accumulate + part)
            images = torch.randn(8, 3, 16, 16, generator=generator)
            torch.manual_seed(called.begun)
            functional.cross_entropy(model(images), torch.arange(8) % 5).backward()
        optimizer.step()
        widths.append(model.blocks[0].mlp.fc1.out_features)
        rates.append(optimizer.param_groups[0]["lr"])

    theirs, optimizer = small(dynamic_img_size=True)
    followed = staged(theirs, optimizer, staging=Staging(token_policy=token_policy))
    followed.follow_optimizer()
    loop = Loop(theirs, optimizer, accumulate)
    loop.run(followed.plan.steps)
    assert followed.done
    assert (loop.widths, loop.rates) == (widths, rates)
    assert loop.evaluated == loop.widths  # an evaluation sees the model that was trained
    assert same(theirs, model)
    loop.run(2, first=100)  # beyond the plan: nothing changes
    assert loop.rates[-2:] == [0, 0]
    assert same(theirs, model)


def test_following_resumes_from_a_checkpoint_at_a_stage_change():
    model, optimizer = small()
    straight = staged(model, optimizer)
    straight.follow_optimizer()
    whole_loop = Loop(model, optimizer)
    whole_loop.run(straight.plan.steps)

    for stop in (5, straight.plan.stages()[0].steps, straight.plan.stages()[0].steps + 2):
        stopped, optimizer = small()
        training = staged(stopped, optimizer)
        training.follow_optimizer()
        Loop(stopped, optimizer).run(stop)
        with training.at_full_size():
            kept = copy.deepcopy([each.state_dict() for each in (stopped, optimizer, training)])
        resumed, optimizer = small(seed=1)
        training = staged(resumed, optimizer)
        for each, state in zip((resumed, optimizer, training), kept, strict=True):
            each.load_state_dict(state)
        training.follow_optimizer()
        loop = Loop(resumed, optimizer)
        loop.run(training.plan.steps - stop, first=stop + 1)
        assert loop.widths == whole_loop.widths[stop:]
        assert same(resumed, model)


def test_following_without_a_learning_rate_schedule_leaves_the_rates_to_the_scheduler():
    model, optimizer = small()
    training = staged(model, optimizer, lr_schedule=None)
    training.follow_optimizer()
    loop = Loop(model, optimizer)
    loop.run(3)
    assert loop.rates == [7.0] * 3


def by_parts(model, images):
    return model.forward_head(model.forward_features(images))


def evaluated(model, images):
    return model.eval()(images)


@pytest.mark.parametrize("forward", [by_parts, evaluated])
def test_a_loop_in_which_no_step_can_begin_is_refused_in_its_second_update(forward):
    model, optimizer = small()
    training = staged(model, optimizer, WIDTHS)
    training.follow_optimizer()
    forward(model, torch.zeros(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    forward(model, torch.zeros(2, 3, 16, 16)).sum().backward()
    said = "model: 'VisionTransformer': made no forward pass in training mode between two optimizer steps, so no step of the"
    with pytest.raises(InvalidInput, match=said):
        optimizer.step()


def test_several_optimizers_of_a_followed_loop_step_after_one_forward_pass():
    model, _ = small()
    parts = [[each for each in model.parameters() if (each.ndim == 2) is matrices] for matrices in (True, False)]
    optimizers = [torch.optim.AdamW(part, lr=1e-2) for part in parts]
    training = staged(model, optimizers, WIDTHS)
    training.follow_optimizer()
    for _ in range(training.plan.steps + 1):
        model(torch.randn(2, 3, 16, 16)).sum().backward()
        with torch.no_grad():
            model(torch.zeros(2, 3, 16, 16))  # as of a teacher
        for optimizer in optimizers:
            optimizer.step()
    assert training.done


@pytest.mark.parametrize("fused", [False, True])
def test_an_update_that_a_gradient_scaler_skips_is_repeated(fused):
    """The scaler calls a fused optimizer in any case, and the optimizer skips the update."""
    model, _ = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    training = staged(model, optimizer, WIDTHS)
    training.follow_optimizer()
    scaler = torch.amp.GradScaler("cpu")
    begun = []
    for scale in (1.0, float("inf"), float("inf"), 1.0, 1.0):
        scaler.scale(scale * model(torch.randn(2, 3, 16, 16)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        begun.append(training.begun)
    assert begun == [1, 2, 2, 2, 3]
