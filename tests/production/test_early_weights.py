"""Weights that were saved in an early stage are named as such, wherever they are loaded."""

import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import VisionTransformer
from transformers import Trainer, TrainingArguments

from explorer import InvalidInput, Rates, StagedTraining
from explorer.elastic import ElasticModel
from explorer.production.model_folder import ModelFolder, timm_config, write_model_folder
from explorer.production.transformers_callback import StagedTrainingCallback
from explorer.spec.model import ModelSpec
from explorer.training.initial_weights import fitted_weights
from explorer.training.tensor_shapes import early_stage_clause
from tests.production.conftest import SETTINGS, WIDTHS, tiny_model
from tests.production.test_lightning import Classifier, fit
from tests.production.test_transformers import Images, wrapped

STAGE = r"as in an early stage of a schedule: if it was saved there by an early release, or outside of .*at_full_size\(\)"


def early(model, **rates):
    """The state of a model in an early stage, as releases without `at_full_size` saved it."""
    ElasticModel(model, image_size=16).set_rates(Rates(**rates))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("rates", "parts"),
    [
        ({"heads": 0.5}, "(6 tensors are narrower)"),  # qkv weight and bias, proj weight, of two blocks
        ({"mlp": 0.25}, "(6 tensors are narrower)"),  # fc1 weight and bias, fc2 weight
        ({"depth": 0.5}, "(blocks.1 are missing)"),
        ({"heads": 0.5, "mlp": 0.5, "depth": 0.5}, "(6 tensors are narrower and blocks.1 are missing)"),
    ],
)
def test_an_early_stage_is_told_by_its_shapes(rates, parts):
    assert parts in early_stage_clause(shapes(early(tiny_model(), **rates)), shapes(tiny_model().state_dict()))


@pytest.mark.parametrize(
    "options",
    [
        {"embed_dim": 16},
        {"patch_size": 8},
        {"num_classes": 3},
        {"depth": 3},
        {"class_token": False, "global_pool": "avg"},
        {"mlp_ratio": 8},
    ],
)
def test_other_architectures_are_none(options):
    settings = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5, **options}
    other = timm.create_model("vit_tiny_patch16_224", **settings)
    assert early_stage_clause(shapes(other.state_dict()), shapes(tiny_model().state_dict())) == ""
    assert early_stage_clause(shapes(tiny_model().state_dict()), shapes(tiny_model().state_dict())) == ""


def test_hierarchical_models_and_those_of_torchvision_are_known_too():
    swin = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    model, full = (timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **swin) for _ in range(2))
    ElasticModel(model, image_size=32).set_rates(Rates(heads=0.5, mlp=0.5))
    assert "tensors are narrower" in early_stage_clause(shapes(model.state_dict()), shapes(full.state_dict()))
    other = {"image_size": 16, "patch_size": 4, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64}
    narrower = early(VisionTransformer(**other), mlp=0.5)
    assert "tensors are narrower" in early_stage_clause(shapes(narrower), shapes(VisionTransformer(**other).state_dict()))


def test_as_weights_to_start_from(tmp_path):
    save_file(early(tiny_model(), heads=0.5, depth=0.5), tmp_path / "early.safetensors")
    spec = ModelSpec(name="vit_tiny_patch16_224", checkpoint=str(tmp_path / "early.safetensors"))
    with pytest.raises(InvalidInput, match=rf"^model\.checkpoint: .*has weights of another architecture: .*{STAGE}") as refused:
        fitted_weights(tiny_model(), spec)
    assert "\n" not in str(refused.value)


def test_as_a_model_folder(tiny_task, tmp_path):
    with warnings.catch_warnings(action="ignore"):
        model = tiny_task.build_model()
        ElasticModel(model, image_size=8).set_rates(Rates(mlp=0.5))
    write_model_folder(tmp_path / "model", timm_config(tiny_task), dict(model.state_dict()), "card")
    with pytest.raises(InvalidInput, match=rf"fc1\.weight': has shape \(64, 32\) in the file, .*{STAGE}"):
        ModelFolder(tmp_path / "model").load_model()


def test_in_a_loop_of_ones_own():
    model = tiny_model()
    staged = StagedTraining(model, torch.optim.AdamW(model.parameters()), WIDTHS, **SETTINGS)
    whole = torch.nn.ModuleDict({"backbone": model})
    state = early(tiny_model(), heads=0.5, depth=0.5)
    with pytest.raises(InvalidInput, match=STAGE):
        model.load_state_dict(state, strict=False)
    with pytest.raises(InvalidInput, match=STAGE):
        whole.load_state_dict({f"backbone.{name}": value for name, value in state.items()})
    with pytest.warns(UserWarning, match=STAGE), pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(early(tiny_model(), depth=0.5))
    other = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=4)
    with pytest.raises(RuntimeError, match="size mismatch"):  # torch's own
        model.load_state_dict(other.state_dict())
    model.load_state_dict(tiny_model().state_dict())
    staged.step()
    with staged.at_full_size():
        model.load_state_dict(tiny_model().state_dict())


@pytest.mark.filterwarnings("default")
def test_in_lightnings_checkpoint(tmp_path):
    fit(Classifier(), tmp_path)
    path = tmp_path / "step=5.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {f"model.{name}": value for name, value in early(tiny_model(), heads=0.5, mlp=0.5).items()}
    torch.save(content, path)
    with pytest.raises(InvalidInput, match=STAGE):
        fit(Classifier(), tmp_path / "again", resume=path)


@pytest.mark.filterwarnings("default")
def test_in_transformers_checkpoint(tmp_path):
    model, callback = wrapped(), StagedTrainingCallback(WIDTHS, **SETTINGS)
    arguments = TrainingArguments(str(tmp_path), max_steps=callback.steps_for(model), report_to="none", use_cpu=True)
    trainer = Trainer(model, arguments, train_dataset=Images(), callbacks=[callback])
    with pytest.raises(InvalidInput, match=STAGE):
        trainer.model.timm_model.load_state_dict(early(tiny_model(), heads=0.5, mlp=0.5))
