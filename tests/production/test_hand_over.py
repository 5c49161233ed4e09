"""`export` in a loop of one's own: the folder that plain timm opens, and what was measured on it."""

import json

import pytest
import timm
import torch
from accelerate.data_loader import BatchSamplerShard
from huggingface_hub import ModelCard
from timm.data import resolve_data_config
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from explorer import InvalidInput, Rates, Schedule, Stage, StagedTraining
from explorer.data import open_data
from explorer.production import check_export, export
from explorer.production.export_card import early_end, executed_flops
from explorer.production.model_folder import MODEL
from explorer.spec.data import DataSpec
from tests.production.loops import HALVES, one_step, same, small, staged

NAMES = ["ant", "bee", "<b>cow</b>", "dog", "eel"]
PIXELS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2), "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}


def pairs(count=4):
    generator = torch.Generator().manual_seed(7)
    return [(torch.randn(8, 3, 16, 16, generator=generator), torch.arange(8) % 5) for _ in range(count)]


def trained(steps=None, **options):
    """A training after some steps, or at its end."""
    model, optimizer = small(**options)
    training = staged(model, optimizer, full_steps=10)
    while (steps is None or training.begun < steps) and training.step():
        one_step(model, optimizer, training.begun)
    return model, optimizer, training


def opened(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@torch.no_grad()
def right(model, batches):
    """How many images plain timm's model classifies correctly, and of how many."""
    return sum(int((model(images).argmax(1) == labels).sum()) for images, labels in batches), sum(len(x) for x, _ in batches)


def refused(*words, model, training, folder, **arguments):
    """One line with all words; nothing is written."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(InvalidInput) as error:
        export(model, training, folder, **{"class_names": NAMES, "preprocessing": PIXELS, **arguments})
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(folder.parent.rglob("*")) == before


def test_timm_opens_the_model_and_the_card_has_what_was_measured(tmp_path):
    model, _, training = trained()
    exported = export(
        model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS, loader=pairs(), data="an <i>insect</i> set"
    )
    again = opened(tmp_path / "m")
    assert same(again, model)
    correct, images = right(again, pairs())
    assert (exported.measured.correct, exported.measured.images) == (correct, images)
    assert list(again.pretrained_cfg["label_names"]) == NAMES
    configuration = resolve_data_config({}, model=again)
    assert json.dumps({name: configuration[name] for name in PIXELS}) == json.dumps(PIXELS)
    assert configuration["input_size"] == (3, 16, 16)
    card = ModelCard.load(tmp_path / "m" / "README.md")
    (evaluation,) = card.data.eval_results
    assert evaluation.metric_value == correct / images
    assert (evaluation.dataset_name, evaluation.dataset_split) == ("an <i>insect</i> set", "test")
    assert evaluation.dataset_args == {"images": 32}
    assert evaluation.metric_args == {"device": "cpu", "precision": "float32", "backend": "loader", "threads": 1}
    plan = training.plan
    assert f"| executed | {plan.flops:.6g} | {plan.cost:.3%} |" in card.text
    assert f"{plan.steps} of {plan.steps} steps, 100.0% of the budget" in card.text
    assert "epochs" not in card.text.split("## Cost")[0]  # the length of an epoch is not known
    assert "- name: AdamW\n  learning_rate: 0.01\n  weight_decay: 0.01\n" in card.text
    assert "&lt;b&gt;cow&lt;/b&gt;" in card.text
    assert "<b>" not in card.text
    assert "ended early" not in card.text
    assert "license" not in json.loads((tmp_path / "m" / "config.json").read_text())["pretrained_cfg"]


def test_an_export_in_the_first_stage_has_the_full_model_and_training_does_not_see_it(tmp_path):
    straight, *_ = trained()
    model, optimizer, training = trained(steps=3)
    model.norm.eval()
    with training.at_full_size():
        expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(UserWarning, match=r"the model that is handed over has 3 of the \d+ steps of its schedule"):
        exported = export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS)
    assert exported.measured is None
    assert all(torch.equal(tensor, expected[name]) for name, tensor in opened(tmp_path / "m").state_dict().items())
    assert not model.norm.training
    assert model.training
    model.norm.train()
    text = (tmp_path / "m" / "README.md").read_text()
    assert f"**Training ended early: 3 of the {training.plan.steps} steps of the schedule, " in text
    assert "Parts of the model were not active in any step, and were not trained." in text
    assert "Nothing was measured.\n" in text
    assert "model-index" not in text
    first = training.plan.segments[0]
    assert executed_flops(training.plan, 3) == 3 * first.step_flops
    assert f"| executed | {3 * first.step_flops:.6g} |" in text
    while training.step():
        one_step(model, optimizer, training.begun)
    assert same(model, straight)


def test_an_early_end_says_only_what_is_known():
    stages = (Stage(rates=Rates(tokens=0.5), duration_ratio=0.5), Stage(rates=Rates(), duration_ratio=0.5))
    training = staged(*small(), schedule=Schedule(stages=stages, grid=4), lr_schedule=None)
    training.step()
    share = training.spent
    text = f"Training ended early: 1 of the {training.plan.steps} steps of the schedule, {share:.1%} of the budget."
    assert early_end(training) == text  # all weights were trained, and the learning rate is another's


def test_preprocessing_that_was_assumed_is_said(tmp_path):
    model, _, training = trained()
    with pytest.warns(
        UserWarning, match=r"preprocessing of vit_tiny_patch16_224 was assumed .*: std \(0\.5, 0\.5, 0\.5\), inter"
    ):
        export(model, training, tmp_path / "m", class_names=NAMES, preprocessing={"mean": [0.1, 0.2, 0.3]})
    text = (tmp_path / "m" / "README.md").read_text()
    assert "did not state std, interpolation, crop_pct, crop_mode: assumed as in timm" in text
    assert opened(tmp_path / "m").pretrained_cfg["mean"] == [0.1, 0.2, 0.3]
    whole = resolve_data_config({"input_size": (3, 16, 16)}, model=model)  # no warning: all of it is stated
    export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=whole)
    assert "assumed" not in (tmp_path / "m" / "README.md").read_text()


class Net(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(5, 5)

    def forward(self, images):
        return self.backbone(images)


def test_the_average_and_wrapped_models_are_found(tmp_path):
    model, optimizer = small()
    average = ModelEmaV3(model, decay=0.5)
    training = StagedTraining(
        model, optimizer, HALVES, budget="50%", full_steps=20, batch_size=8, image_shape=(3, 16, 16), ema=average
    )
    while training.step():
        one_step(model, optimizer, training.begun)
        average.update(model)
    for name, given, expected in (
        ("average", average, average.module),
        ("inner", average.module, average.module),
        ("model", model, model),
    ):
        export(given, training, tmp_path / name, class_names=NAMES, preprocessing=PIXELS)
        assert same(opened(tmp_path / name), expected)
        text = (tmp_path / name / "README.md").read_text()
        assert ("weights: average of the weights" in text) == (expected is average.module)
    assert not same(model, average.module)
    with pytest.warns(
        UserWarning, match=r"2 parameters outside of the timm model are not handed over, for example head\.weight"
    ):
        export(Net(model), training, tmp_path / "net", class_names=NAMES, preprocessing=PIXELS)
    assert (
        "2 parameters of modules around the timm model are not in this folder" in (tmp_path / "net" / "README.md").read_text()
    )


@pytest.mark.slow
def test_a_compiled_model_is_found(tmp_path):
    model, _, training = trained()
    export(torch.compile(model), training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS)
    assert same(opened(tmp_path / "m"), model)


def test_an_earlier_export_of_the_plan_is_replaced_and_other_folders_are_refused(tmp_path, digits_run):
    model, _, training = trained()
    folder = tmp_path / "m"
    folder.mkdir()  # empty
    export(model, training, folder, class_names=NAMES, preprocessing=PIXELS)
    (folder / "notes.txt").write_text("mine")
    with torch.no_grad():
        model.head.bias += 1
    export(model, training, folder, class_names=NAMES[::-1], preprocessing=PIXELS)
    assert same(opened(folder), model)
    assert list(opened(folder).pretrained_cfg["label_names"]) == NAMES[::-1]
    assert (folder / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]

    other = staged(*small(), budget="40%")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for there, words in (
        (folder, "holds another model"),
        (digits_run / MODEL, "holds another model"),
        (tmp_path, "other files"),
    ):
        refused("folder: ", words, "give a new or empty folder", model=other.model, training=other, folder=there)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    refused("must be a folder", model=model, training=training, folder=folder / "notes.txt")
    (tmp_path / "file").write_text("")
    refused("folder: ", "cannot be written", model=model, training=training, folder=tmp_path / "file" / "m")


def test_a_loader_that_fails_leaves_no_trace(tmp_path):
    model, _, training = trained()
    export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def failing():
        yield pairs(1)[0]
        raise OSError("a damaged image")

    with pytest.raises(OSError, match="a damaged image"):
        export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS, loader=failing())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    model, _, training = trained()
    given = {"model": model, "training": training, "folder": tmp_path / "m"}
    refused("class_names: '4 names': must be the names of the 5 outputs", **given, class_names=NAMES[:4])
    refused("class_names: 'abcde': must be a list", **given, class_names="abcde")
    refused("staged: None: must be a StagedTraining", **{**given, "training": None})
    refused("model: 'VisionTransformer': must be the model of this staged", **{**given, "model": small()[0]})
    refused("model: 'ModelEmaV3': must be the model of this staged", **{**given, "model": ModelEmaV3(model)})
    refused("preprocessing: means", "did you mean 'mean'?", **given, preprocessing={"means": 1})
    refused("preprocessing.mean: (0.1, 0.2): must have one value for each", **given, preprocessing={"mean": (0.1, 0.2)})
    refused("preprocessing: interpolation", **given, preprocessing={"interpolation": "random"})
    refused("preprocessing.input_size: (3, 32, 32)", **given, preprocessing={"input_size": (3, 32, 32)})
    images, labels = pairs(1)[0]
    for loader, words in (
        ([(torch.zeros(2, 3, 32, 32), labels[:2])], "must give preprocessed images of shape (B, 3, 16, 16)"),
        ([((images * 9).to(torch.uint8), labels)], "must give preprocessed images"),
        ([(images, labels + 1)], "loader: targets: '1 to 5': must give one class for each image, from 0 to 4"),
        ([(images, torch.zeros(8, 5))], "loader: targets: 'torch.float32 (8, 5)': must give one class"),
        ([images], "must give pairs of tensors"),
        ([{"pixels": images}], "must give pairs of tensors"),
        ([], "no batches"),
        (DataLoader(pairs(), sampler=DistributedSampler(pairs(), 2, 0)), "divides the images among 2 processes"),
        (5, "must give batches"),
    ):
        refused("loader", words, **given, loader=loader)
    refused("metric: 'mae': cannot be measured", **given, loader=pairs(), metric="mae")


def test_a_model_that_timm_would_not_open_is_refused_also_before_training(tmp_path):
    def both(*words, model, **changes):
        training = staged(model, torch.optim.AdamW(model.parameters(), lr=1e-3), **changes)
        refused(*words, model=model, training=training, folder=tmp_path / "m")
        with pytest.raises(InvalidInput) as error:
            check_export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS)
        assert all(word in str(error.value) for word in words)

    other_head = small()[0]
    other_head.head = nn.Linear(32, 5, bias=False)
    both("model: 'vit_tiny_patch16_224': timm cannot open it", "tensor: 'head.bias'", model=other_head)
    both("has no classifier", model=headless())
    both("cannot be described for timm", model=small(norm_layer=nn.LayerNorm)[0])
    from timm.models.vision_transformer import VisionTransformer

    bare = VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5)
    both("model: 'VisionTransformer': was not built by timm.create_model", model=bare)
    check_export(*accepted(), tmp_path / "m", class_names=NAMES, preprocessing=PIXELS)
    assert not any(tmp_path.iterdir())


def accepted():
    model, optimizer = small()
    return model, staged(model, optimizer)


def headless():
    model, _ = small()
    model.reset_classifier(0)
    return model


def test_a_forward_pass_that_is_not_timms_is_noticed(tmp_path):
    model, _, training = trained()
    given = {"model": model, "training": training, "folder": tmp_path / "m"}
    handle = model.register_forward_hook(lambda *arguments: arguments[-1] + torch.tensor([5.0, 0, 0, 0, 0]))
    refused("has other outputs where timm opens it (by 5)", **given)
    refused("has other outputs where timm opens it (by 5)", **given, loader=pairs())
    handle.remove()
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    refused("has outputs that are NaN or infinite", **given)


def test_a_model_in_half_precision_is_handed_over_and_measured_as_timm_opens_it(tmp_path):
    model, _, training = trained()
    model.bfloat16()
    exported = export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS, loader=pairs())
    assert exported.measured.correct == right(opened(tmp_path / "m"), pairs())[0]


@pytest.mark.filterwarnings("ignore")  # of torchmetrics
def test_other_targets_have_metrics_of_their_own(tmp_path):
    model, _, training = trained()
    targets = torch.stack([torch.arange(8) % 5 == number for number in range(5)], dim=1).float()
    loader = [{"pixel_values": images, "labels": targets} for images, _ in pairs()]
    arguments = {"class_names": NAMES, "preprocessing": PIXELS, "loader": loader, "split": "validation"}
    exported = export(model, training, tmp_path / "m", **arguments, targets="values", metric="mae")
    with torch.no_grad():
        outputs = torch.cat([opened(tmp_path / "m")(images) for images, _ in pairs()])
    assert exported.measured.value == pytest.approx(float((outputs - targets.repeat(4, 1)).abs().mean()), rel=1e-5)
    card = ModelCard.load(tmp_path / "m" / "README.md")
    assert "A model that predicts numbers from an image (5 each)" in card.text
    assert card.data.eval_results[0].dataset_split == "validation"


def test_explorer_evaluate_measures_the_same_on_the_folder(explorer, tmp_path):
    """Digits, which the loader has as `explorer evaluate` prepares them."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=8, in_chans=1, patch_size=2, embed_dim=32, depth=2, num_heads=4, num_classes=10
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    source = open_data(DataSpec(name="digits", image_size=8))
    images, labels = (
        torch.cat(parts) for parts in zip(*source.evaluation_batches("validation", torch.device("cpu")), strict=True)
    )
    training = staged(model, optimizer, full_steps=80, image_shape=(1, 8, 8), batch_size=64, epoch_steps=18)
    while training.step():
        chosen = torch.randint(len(images), (64,), generator=torch.Generator().manual_seed(training.begun))
        torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
    test = list(source.evaluation_batches("test", torch.device("cpu")))
    pixels = {"mean": [0.5], "std": [0.5], "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
    digits = [str(number) for number in range(10)]
    exported = export(model, training, tmp_path / "m", class_names=digits, preprocessing=pixels, loader=test, data="digits")
    assert 0.2 < exported.measured.value < 1
    assert exported.measured.correct == right(opened(tmp_path / "m"), test)[0]
    done = explorer("evaluate", tmp_path / "m", "--data", "digits")
    assert done.returncode == 0, done.stderr
    *_, accuracy, agreement = done.stdout.splitlines()
    assert accuracy.startswith(f"test accuracy {exported.measured.value:.4%}, ")
    stated = f"({exported.measured.value:.4%}, {exported.measured.correct} of 360 images)"
    assert (
        agreement == f"not comparable with the model card {stated}: a data loader gave the images, which it does not identify"
    )
    assert (
        "| stage | heads | mlp | tokens | depth | share of the budget | steps | epochs |"
        in (tmp_path / "m" / "README.md").read_text()
    )


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    model, _, training = trained()
    monkeypatch.setenv("RANK", "1")  # as torchrun sets it, where the process group has ended already
    assert export(model, training, tmp_path / "m", class_names=NAMES, preprocessing=PIXELS) is None
    assert not any(tmp_path.iterdir())
    with pytest.raises(InvalidInput, match="class_names"):
        export(model, training, tmp_path / "m", class_names=[], preprocessing=PIXELS)


def test_a_loader_that_accelerate_divides_is_refused(tmp_path):
    model, _, training = trained()
    half = BatchSamplerShard(BatchSampler(SequentialSampler(pairs()), 1, False), num_processes=2, process_index=0)
    shard = DataLoader(pairs(), batch_sampler=half)
    refused("divides the images among 2 processes", model=model, training=training, folder=tmp_path / "m", loader=shard)
