"""Distillation: its loss by hand, what its teacher costs, and what a training depends on."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from explorer import InvalidInput, Rates, Schedule, Stage
from explorer.spec.objective import Teacher
from explorer.spec.task_identity import has_foreign_code
from explorer.training.distributed import Processes
from explorer.training.loop import train
from explorer.training.stage_store import prefix_keys
from explorer.training.task import Task
from explorer.training.teacher import distillation_loss, with_digest
from tests.conftest import TINY_MODEL
from tests.objective.test_losses import task_spec
from tests.training.runs import planned

OPTIONS = {"patch_size": 2, "embed_dim": 48, "depth": 1, "num_heads": 4}
TEACHER = {"model": "vit_tiny_patch16_224", "options": OPTIONS}
CPU = torch.device("cpu")
STAGED = Schedule(stages=(Stage(rates=Rates(heads=0.5, mlp=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5)))


def teacher_model(seed=5, classes=10):
    torch.manual_seed(seed)
    return timm.create_model(TEACHER["model"], img_size=8, in_chans=1, num_classes=classes, **OPTIONS).eval()


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_file(teacher_model().state_dict(), path)
    return path


def distilled(weights, recipe=None, student=None, **teacher):
    spec = task_spec("digits", recipe=recipe, teacher={**TEACHER, "weights": str(weights), **teacher})
    return Task(spec if student is None else spec.model_copy(update={"model": spec.model.model_copy(update=student)}))


def test_hard_distillation_is_cross_entropy_with_the_teachers_classes():
    student, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.1, -1.0, 3.0]])
    expected = -torch.log_softmax(student, 1)[0, 2]
    assert distillation_loss(student, teacher, Teacher(model="m")) == pytest.approx(float(expected))


def test_soft_distillation_is_the_divergence_at_a_temperature():
    student, teacher = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.1, -1.0, 3.0]])
    p, q = (torch.softmax(each / 2, 1) for each in (teacher, student))
    expected = 4 * (p * (p / q).log()).sum()
    spec = Teacher(model="m", kind="soft", temperature=2)
    assert distillation_loss(student, teacher, spec) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_loss_is_a_mixture_of_labels_and_teacher(weights, kind):
    task = distilled(weights, kind=kind, alpha=0.3)
    images, labels = next(task.train_batches(0, 0, 1, CPU))
    outputs = torch.randn(len(images), 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        of_teacher = teacher_model()(images)
    expected = 0.7 * functional.cross_entropy(outputs, labels)
    expected += 0.3 * distillation_loss(outputs, of_teacher, task.objective.teacher.spec)
    assert task.objective.training_loss(outputs, labels, images) == pytest.approx(float(expected), rel=1e-5)


def test_a_model_with_two_heads_learns_of_both(weights):
    outputs, of_teacher_head = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(0))
    task = distilled(weights)
    images, labels = torch.zeros(4, 1, 8, 8), torch.arange(4)
    with torch.no_grad():
        predicted = teacher_model()(images).argmax(1)
    expected = functional.cross_entropy(outputs, labels) / 2 + functional.cross_entropy(of_teacher_head, predicted) / 2
    assert task.objective.training_loss((outputs, of_teacher_head), labels, images) == pytest.approx(float(expected), rel=1e-5)


def test_the_teachers_forward_pass_is_part_of_the_cost_at_all_rates(weights):
    plain, task = Task(task_spec("digits")), distilled(weights)
    extra = {
        rates: task.step_cost(rates).flops - plain.step_cost(rates).flops for rates in (Rates(), Rates(mlp=0.5, tokens=0.5))
    }
    assert len(set(extra.values())) == 1
    # By hand, for one image of 16 patches and a class token, with width 48: multiply-adds of the projections of patches (4
    # pixels), of attention (4 w^2 per token), of its products (2 n w per token), of the MLP (8 w^2 per token), and of the head.
    n, w = 17, 48
    macs = 16 * 4 * w + n * (4 * w * w + 2 * n * w + 8 * w * w) + w * 10
    assert extra[Rates()] == 2 * macs * 32
    cheap, full = (each.step_cost(Rates(heads=0.25, mlp=0.25)).flops / each.step_cost(Rates()).flops for each in (plain, task))
    assert cheap < full  # staging saves less


def test_the_teacher_is_frozen_and_no_part_of_the_model(weights):
    task = distilled(weights)
    result = train(task, planned(task, STAGED, "20%"), seed=0)
    assert not [name for name in result.model.state_dict() if "teacher" in name]
    images = next(task.train_batches(0, 0, 1, CPU))[0]
    with torch.no_grad():
        assert torch.allclose(task.objective.teacher(images), teacher_model()(images), atol=1e-6)
    assert not task.objective.teacher(images).requires_grad


def test_a_training_is_the_same_whether_the_teacher_was_there_already(weights):
    from explorer.training import teacher

    first = train(distilled(weights), planned(distilled(weights), STAGED, "10%"), seed=0)
    again = train(distilled(weights), planned(distilled(weights), STAGED, "10%"), seed=0)
    teacher._on_device.cache_clear()
    rebuilt = train(distilled(weights), planned(distilled(weights), STAGED, "10%"), seed=0)
    for other in (again, rebuilt):
        for name, tensor in first.model.state_dict().items():
            assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_the_digest_of_the_weights_is_part_of_the_keys(weights, tmp_path):
    task = distilled(weights)
    assert len(task.spec.objective.teacher.sha256) == 64
    assert has_foreign_code(task.spec)
    key = prefix_keys(task, planned(task, STAGED, "50%").segments, 0, CPU, False)[0]
    save_file(teacher_model(seed=6).state_dict(), weights)
    other = distilled(weights)
    assert prefix_keys(other, planned(other, STAGED, "50%").segments, 0, CPU, False)[0] != key
    with pytest.raises(InvalidInput, match="has the digest"):
        with_digest(task.spec.objective.teacher)


def test_smaller_images_are_enlarged_for_the_teacher(weights):
    teacher = distilled(weights).objective.teacher
    assert teacher(torch.zeros(2, 1, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"weights": "/nowhere/teacher.pt"}, "objective.teacher.weights: '/nowhere/teacher.pt': cannot be read: No such file"),
        ({"model": "no_such_model"}, "objective.teacher.model: 'no_such_model': timm .* has no such model"),
        ({"options": {"nonsense": 1}}, "objective.teacher.model: 'vit_tiny_patch16_224': cannot be built"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_refused(weights, teacher, message):
    with pytest.raises(InvalidInput, match=message):
        distilled(**{"weights": weights, **teacher})


def test_pretrained_weights_for_other_classes_are_refused():
    with pytest.raises(InvalidInput, match=r"has 1000 classes, and the data 10; set objective.teacher.weights"):
        Task(task_spec("digits", teacher={"model": "resnet18"}))


def test_weights_of_another_architecture_are_refused(weights):
    task = distilled(weights, options={**OPTIONS, "depth": 2})
    with pytest.raises(InvalidInput, match="is no file of weights of vit_tiny_patch16_224 with 10 classes"):
        task.check()


def test_deits_distilled_models_are_trained_with_both_heads(weights):
    student = {"name": "deit_tiny_distilled_patch16_224", "options": TINY_MODEL["options"]}
    task = distilled(weights, student=student)
    task.check()
    built = task.build_model().train()
    of_labels, of_teacher = built(torch.zeros(2, 1, 8, 8))
    assert of_labels.shape == of_teacher.shape == (2, 10)
    plan = planned(task, STAGED, "30%")
    result = train(task, plan, seed=0, processes=Processes())
    started = task.build_model().state_dict()
    torch.manual_seed(0)
    started = task.build_model().state_dict()
    assert not torch.equal(started["head_dist.weight"], result.model.state_dict()["head_dist.weight"])
    assert result.model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
