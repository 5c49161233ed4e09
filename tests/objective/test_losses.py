"""Each loss against its formula, torch's or timm's own, and what is refused before any training."""

from types import SimpleNamespace

import pytest
import torch
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional

from explorer import InvalidInput
from explorer.spec.objective import ObjectiveSpec
from explorer.spec.task import TaskSpec
from explorer.training.losses import make_loss
from explorer.training.objective import example_targets
from explorer.training.task import Task
from tests.conftest import TINY_MODEL
from tests.objective.sources import Imbalanced

SOURCES = "tests.objective.sources"


def task_spec(source="Brightness", recipe=None, **objective) -> TaskSpec:
    recipe = {"epochs": 1, "batch_size": 32, "learning_rate": 2e-3, **(recipe or {})}
    name = source if source == "digits" else f"{SOURCES}:{source}"
    data = {"name": name, "image_size": 8}
    return TaskSpec.model_validate({"model": TINY_MODEL, "data": data, "recipe": recipe, "objective": objective})


def loss_of(kind, classes=3, smoothing=0.0, **objective):
    data = SimpleNamespace(inventory=Imbalanced(None).inventory, classes=classes)
    return make_loss(ObjectiveSpec(**objective), kind, smoothing, data)


def outputs(images=8, classes=3):
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(1))


def mixed(targets, classes=3, smoothing=0.0):
    """Class probabilities as timm's mixup makes them."""
    torch.manual_seed(0)
    mixup = Mixup(0.8, label_smoothing=smoothing, num_classes=classes)
    import numpy as np

    np.random.seed(0)
    return mixup(torch.zeros(len(targets), 1, 4, 4), targets)[1]


def test_cross_entropy_is_minus_the_log_probability_of_the_class():
    logits, labels = outputs(), example_targets("class", 8, 3)
    expected = -torch.log(logits.exp() / logits.exp().sum(1, keepdim=True))[range(8), labels].mean()
    assert loss_of("class")(logits, labels) == pytest.approx(float(expected))


def test_cross_entropy_of_soft_targets_is_timms():
    logits, targets = outputs(), mixed(example_targets("class", 8, 3))
    assert ((targets > 0) & (targets < 1)).any()  # really mixed
    assert loss_of("class")(logits, targets) == pytest.approx(float(SoftTargetCrossEntropy()(logits, targets)))


@pytest.mark.parametrize("options", [{}, {"target_threshold": 0.2}, {"sum_classes": True}])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_timms_with_labels_and_with_mixed_targets(options, smoothing):
    logits, labels = outputs(), example_targets("class", 8, 3)
    loss = loss_of("class", smoothing=smoothing, loss="binary_cross_entropy", loss_options=options)
    timms = BinaryCrossEntropy(smoothing=smoothing, **options)
    assert loss(logits, labels) == pytest.approx(float(timms(logits, labels)))
    # timm's mixup smooths the targets, ours leaves that to the loss
    smoothed_by_mixup = mixed(labels, smoothing=smoothing)
    assert loss(logits, mixed(labels)) == pytest.approx(float(timms(logits, smoothed_by_mixup)), abs=1e-6)


def test_binary_cross_entropy_of_several_labels_is_one_decision_each():
    logits, labels = outputs(), example_targets("labels", 8, 3)
    p = logits.sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert loss_of("labels", loss="binary_cross_entropy")(logits, labels) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("mean_squared_error", {}, lambda e: (e**2).mean()),
        ("mean_absolute_error", {}, lambda e: e.abs().mean()),
        ("huber", {"delta": 0.5}, lambda e: torch.where(e.abs() < 0.5, e**2 / 2, 0.5 * (e.abs() - 0.25)).mean()),
    ],
)
def test_losses_of_values(name, options, formula):
    predicted, values = outputs(), example_targets("values", 8, 3)
    loss = loss_of("values", loss=name, loss_options=options)
    assert loss(predicted, values) == pytest.approx(float(formula(predicted - values)))


def test_class_weights_multiply_the_loss_of_each_image():
    logits, labels = outputs(classes=2), example_targets("class", 8, 2)
    each = functional.cross_entropy(logits, labels, reduction="none")
    weighted = loss_of("class", 2, class_weights=(1.0, 3.0))
    expected = (each * torch.tensor([1.0, 3.0])[labels]).mean()
    assert weighted(logits, labels) == pytest.approx(float(expected))
    halves = (weighted(logits[:4], labels[:4]) + weighted(logits[4:], labels[4:])) / 2
    assert halves == pytest.approx(float(expected))  # as parts of a batch, or processes, see it


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_multiply_the_smoothed_cross_entropy_of_each_image(smoothing):
    logits, labels = outputs(), example_targets("class", 8, 3)
    weight, log_p = torch.tensor([1.0, 3.0, 5.0]), logits.log_softmax(1)
    each = -((1 - smoothing) * log_p[range(8), labels] + smoothing * log_p.mean(1))
    loss = loss_of("class", 3, smoothing, class_weights=(1.0, 3.0, 5.0))
    assert loss(logits, labels) == pytest.approx(float((weight[labels] * each).mean()))
    p = mixed(labels)
    each = -((1 - smoothing) * (p * log_p).sum(1) + smoothing * log_p.mean(1))
    expected = ((p * weight).sum(1) * each).mean()  # the mean of the classes' weights
    assert loss(logits, p) == pytest.approx(float(expected))


@pytest.mark.parametrize(("options", "terms"), [({}, 1), ({"sum_classes": True}, 3), ({"target_threshold": 0.2}, 1)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_multiply_the_binary_cross_entropy_of_each_image(options, terms, smoothing):
    logits, labels = outputs(), example_targets("class", 8, 3)
    weight = torch.tensor([1.0, 3.0, 5.0])
    loss = loss_of("class", 3, smoothing, loss="binary_cross_entropy", loss_options=options, class_weights=(1.0, 3.0, 5.0))
    for targets in (labels, mixed(labels)):
        p = functional.one_hot(labels, 3).float() if targets.ndim == 1 else targets
        aims = p * (1 - smoothing) + smoothing / 3
        aims = (aims > options["target_threshold"]).float() if "target_threshold" in options else aims
        each = -(aims * logits.sigmoid().log() + (1 - aims) * (1 - logits.sigmoid()).log()).mean(1)
        expected = terms * ((p * weight).sum(1) * each).mean()
        assert loss(logits, targets) == pytest.approx(float(expected))
        halves = (loss(logits[:4], targets[:4]) + loss(logits[4:], targets[4:])) / 2
        assert halves == pytest.approx(float(expected))


def test_balanced_binary_cross_entropy_gives_both_classes_half_of_the_gradient():
    """304 images of one class and 16 of the other: of equal outputs, the best ones have a probability of .5."""
    loss = loss_of("class", 2, loss="binary_cross_entropy", class_weights="balanced")
    logits, labels = torch.zeros(320, 2, requires_grad=True), (torch.arange(320) % 20 == 0).long()
    loss(logits, labels).backward()
    assert logits.grad.sum(0).abs().max() < 1e-6
    assert float(logits.grad[labels == 1].abs().sum() / logits.grad.abs().sum()) == pytest.approx(0.5)


def test_balanced_weights_are_those_of_scikit_learn():
    """`compute_class_weight("balanced")`: images / (classes * images of the class), 320 / (2 * 304) and 320 / (2 * 16)."""
    logits, labels = outputs(classes=2), example_targets("class", 8, 2)
    balanced = loss_of("class", 2, class_weights="balanced")(logits, labels)
    given = loss_of("class", 2, class_weights=(320 / 608, 10.0))(logits, labels)
    assert balanced == pytest.approx(float(given))


def test_several_labels_are_weighted_by_images_without_over_images_with_them():
    logits, labels = outputs(classes=2), example_targets("labels", 8, 2)
    loss = loss_of("labels", 2, loss="binary_cross_entropy", class_weights="balanced")
    weight = torch.tensor([16 / 304, 304 / 16])
    expected = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
    assert loss(logits, labels) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("objective", "source", "field", "message"),
    [
        ({}, "Brightness", "objective.loss", "'cross_entropy': cannot be computed with values .regression.: use mean_squared"),
        ({}, "BrightHalves", "objective.loss", "with any number of labels per image: use binary_cross_entropy"),
        ({"loss": "huber"}, "Imbalanced", "objective.loss", "with one class per image: use cross_entropy or binary"),
        ({"metric": "mae"}, "Imbalanced", "objective.metric", "use one of accuracy, balanced_accuracy, f1, auc"),
        ({"loss": "huber"}, "Brightness", "objective.metric", "'accuracy': cannot be measured with values .* r2, mae, rmse"),
        ({"loss": "huber", "metric": "r2", "also": "f1"}, "Brightness", "objective.also", "use one of r2, mae, rmse"),
        ({"loss_options": {"delta": 1}}, "Imbalanced", "objective.loss_options.delta", "cross_entropy has no options"),
        ({"class_weights": [1, 2, 3]}, "Imbalanced", "objective.class_weights", "must be 2 numbers, one per class"),
        ({"sampling": "balanced", "loss": "huber", "metric": "mae"}, "Brightness", "objective.sampling", "one class per image"),
        ({"sampling": "balanced"}, "Unlabelled", "objective.sampling", "does not say the labels of its images"),
        ({"loss": f"{SOURCES}:nothing"}, "Brightness", "objective.loss", "the module tests.objective.sources has no 'nothing'"),
        (
            {"loss": "tests.nowhere:loss"},
            "Brightness",
            "objective.loss",
            "cannot be imported: ModuleNotFoundError: No module named",
        ),
        (
            {"loss": "tests.objective.broken:loss"},
            "Brightness",
            "objective.loss",
            "cannot be imported: RuntimeError: the user's own error",
        ),
        (
            {"loss": "huber", "metric": f"{SOURCES}:without_direction"},
            "Brightness",
            "objective.metric",
            "set without_direction.dir",
        ),
        (
            {"loss": "huber", "metric": f"{SOURCES}:NotAMetric"},
            "Brightness",
            "objective.metric",
            "must be a torchmetrics.Metric",
        ),
        ({"loss": "huber", "metric": f"{SOURCES}:marked_up"}, "Brightness", "marked_up: label", "'<b>bold</b>'"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_in_one_line(objective, source, field, message):
    with pytest.raises(InvalidInput, match=message) as error:
        Task(task_spec(source, **objective))
    assert field in error.value.field
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("without_gradient", "has no gradient: it must be computed from the outputs by differentiable operations of torch"),
        ("per_image", r"must return a scalar tensor, and returns shape \(8,\) for outputs \(8, 2\) and targets \(8, 2\)"),
        ("in_numpy", "must return a scalar tensor, and returns float"),
        ("failing", "fails with outputs .8, 2. and targets .8, 2. of torch.float32: RuntimeError: three lines of text"),
    ],
)
def test_a_loss_that_cannot_be_trained_is_found_on_a_tiny_batch(loss, message):
    task = Task(task_spec(loss=f"{SOURCES}:{loss}", metric="mae"))
    with pytest.raises(InvalidInput, match=message) as error:
        task.check()
    assert error.value.field == "objective.loss"


@pytest.mark.parametrize("metric", ["not_a_number", "failing_metric"])
def test_a_metric_that_is_no_number_is_found_on_a_tiny_batch(metric, monkeypatch):
    from tests.objective import sources

    def failing_metric(outputs, targets):
        return outputs[:, 99]

    failing_metric.direction = "maximize"
    monkeypatch.setattr(sources, "failing_metric", failing_metric, raising=False)
    task = Task(task_spec(loss="huber", metric=f"{SOURCES}:{metric}"))
    with pytest.raises(InvalidInput, match=r"not a number is nan for a batch of 8 images|IndexError") as error:
        task.check()
    assert error.value.field == "objective.metric"


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"loss": "cross_entropie"}, "unknown loss; did you mean 'cross_entropy'"),
        ({"metric": "acuracy"}, "unknown metric; did you mean 'accuracy'"),
        ({"also": "accuracy"}, "accuracy is the metric itself"),
        ({"metric_options": {"a": 1}}, "accuracy has no options"),
        ({"loss": "huber", "class_weights": "balanced"}, "the loss huber takes none"),
        ({"unit": "years"}, "unit: is that of mae and rmse; it does not apply to accuracy"),
        ({"loss": "huber", "metric": "r2", "unit": "years"}, "it does not apply to r2"),
        ({"metric": "auc", "also": "f1", "unit": "years"}, "it does not apply to auc and f1"),
        ({"teacher": {"model": "vit_tiny_patch16_224", "temperature": 2}}, "acts with kind: soft only"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveSpec.model_validate(objective)


def test_mixing_is_for_classes():
    recipe = {"augmentation": {"mixup": 0.2}}
    with pytest.raises(InvalidInput, match=r"mixup: 0.2: mixes classes, and the data has values"):
        Task(task_spec(recipe=recipe, loss="huber", metric="mae"))
    Task(task_spec("Imbalanced", recipe=recipe, loss="binary_cross_entropy")).check()


def test_the_default_objective_is_not_written(tiny_spec):
    """Keys of trainings and files are those of releases without objectives."""
    assert "objective" not in tiny_spec.model_dump(mode="json")
    other = tiny_spec.model_copy(update={"objective": ObjectiveSpec(metric="f1")})
    assert other.model_dump(mode="json")["objective"] == {"metric": "f1"}
    assert TaskSpec.model_validate(other.model_dump(mode="json")) == other


def test_a_loss_of_ones_own_gets_its_options():
    options = {"scale": 2.0}
    loss = Task(task_spec(loss=f"{SOURCES}:squared", loss_options=options, metric="mae")).objective.training_loss
    assert loss(torch.ones(4, 2), torch.zeros(4, 2), torch.zeros(4, 1, 8, 8)) == pytest.approx(2.0)
