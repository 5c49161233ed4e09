"""`model.checkpoint`: files that are read, what is fitted to the task, what is refused, and when trainings are the same."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from explorer import InvalidInput
from explorer.errors import validated
from explorer.spec.model import ModelSpec
from explorer.spec.task import TaskSpec
from explorer.spec.task_identity import described_task, has_foreign_code
from explorer.training.initial_weights import checkpoint_noted, fitted_weights
from explorer.training.loop import train
from explorer.training.task import Task
from tests.conftest import TINY_MODEL
from tests.training.runs import planned, same_weights

NAME, OPTIONS = TINY_MODEL["name"], TINY_MODEL["options"]


def vit(**options) -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.create_model(NAME, **{"img_size": 8, "in_chans": 1, "num_classes": 10, **OPTIONS, **options})


def starting_from(spec: TaskSpec, path, **options) -> TaskSpec:
    model = {"name": NAME, "options": {**OPTIONS, **options}, "checkpoint": str(path)}
    return validated(TaskSpec, {**spec.model_dump(), "model": model}, "task")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(vit().state_dict(), path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "plain", "state_dict", "model", "model_ema"])
def test_weights_are_read_as_timm_reads_them(kind, tiny_spec, tmp_path, monkeypatch):
    path, state = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt"), vit().state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if kind == "plain" else {kind: state, "epoch": 3}, path)
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    task = Task(starting_from(tiny_spec, f"$WEIGHTS/{path.name}"))
    task.check()
    assert same_weights(task.build_model(), vit())
    assert task.warnings == Task(tiny_spec).warnings  # nothing had to be changed


def test_classes_channels_and_image_size_are_those_of_the_task_and_it_is_said(tiny_spec, tmp_path):
    source = vit(img_size=16, in_chans=3, num_classes=7)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    task = Task(starting_from(tiny_spec, tmp_path / "w.pt"))
    (said,) = (line for line in task.warnings if line.startswith("model.checkpoint"))
    assert said == (
        "model.checkpoint: pos_embed is resampled from (1, 65, 32) to (1, 17, 32); patch_embed.proj.weight is converted from 3 "
        "to 1 channels; head.weight is new: that of the file is for 7 classes"
    )
    torch.manual_seed(5)
    model = task.build_model()
    torch.manual_seed(5)
    fresh = Task(tiny_spec).build_model()
    assert torch.equal(model.head.weight, fresh.head.weight)
    assert torch.equal(model.blocks[1].mlp.fc2.weight, source.blocks[1].mlp.fc2.weight)
    expected = resample_abs_pos_embed(source.pos_embed, [4, 4], num_prefix_tokens=1)
    torch.testing.assert_close(model.pos_embed, expected)
    # timm sums the weights of the three channels for images of one.
    torch.testing.assert_close(model.patch_embed.proj.weight, source.patch_embed.proj.weight.sum(1, keepdim=True))


def test_position_embeddings_without_a_conversion_of_timms_are_resampled(tmp_path):
    class Plain(torch.nn.Module):
        def __init__(self, tokens):
            super().__init__()
            self.pos_embedding = torch.nn.Parameter(torch.randn(1, tokens, 6))
            self.scores = torch.nn.Linear(6, 3)

    source, target = Plain(5), Plain(17)  # a class token, and 2 x 2 or 4 x 4 patches
    torch.save(source.state_dict(), tmp_path / "w.pth")
    spec = ModelSpec(name="plain", checkpoint=str(tmp_path / "w.pth"))
    fitted = fitted_weights(target, spec)
    assert fitted.changes == ("pos_embedding is resampled from (1, 5, 6) to (1, 17, 6)",)
    fitted.load(target)
    torch.testing.assert_close(target.pos_embedding, resample_abs_pos_embed(source.pos_embedding, [4, 4]))
    assert torch.equal(target.scores.weight, source.scores.weight)


class Payload:
    """An object that a pickle would execute."""

    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            {},
            {"depth": 3},
            r"another architecture: blocks\.2\.norm1\.weight is missing in the file, and has shape \(32,\) in vit",
        ),
        (
            {},
            {"depth": 1},
            r"another architecture: blocks\.1\.norm1\.weight has shape \(32,\) in the file, and is missing in vit",
        ),
        ({}, {"embed_dim": 48}, r"cls_token has shape \(1, 1, 32\) in the file, and has shape \(1, 1, 48\) in vit_tiny"),
        ({"epoch": 3}, {}, r"must contain tensors, by name or under state_dict or model: epoch is none"),
        ({"payload": Payload()}, {}, r"must contain tensors only: .*builtins\.print"),
    ],
)
def test_other_weights_are_refused_in_one_line(content, options, message, tiny_spec, tmp_path, capsys):
    torch.save({**vit().state_dict(), **content}, tmp_path / "w.pt")
    with pytest.raises(InvalidInput, match=message) as caught:
        Task(starting_from(tiny_spec, tmp_path / "w.pt", **options)).check()
    assert str(caught.value).startswith("model.checkpoint: ")
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.pt", "there is no such file"),
        ("w.npz", r"must be a file of weights: \.safetensors, \.pt, \.pth, \.bin"),
        ("damaged.safetensors", "must contain tensors only"),
    ],
)
def test_files_that_cannot_be_read_are_refused(name, message, tiny_spec, tmp_path):
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    with pytest.raises(InvalidInput, match=message):
        Task(starting_from(tiny_spec, tmp_path / name)).check()


def test_a_file_and_a_download_exclude_each_other(tiny_spec, weights):
    content = tiny_spec.model_dump() | {"model": {"name": NAME, "pretrained": True, "checkpoint": str(weights)}}
    with pytest.raises(InvalidInput, match=r"model: .*pretrained: true downloads weights, and checkpoint reads a file"):
        validated(TaskSpec, content, "task")


def test_trainings_are_the_same_where_the_content_is(tiny_spec, weights, tmp_path):
    inventory = Task(tiny_spec).data.inventory
    first = checkpoint_noted(starting_from(tiny_spec, weights))
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    assert described_task(checkpoint_noted(starting_from(tiny_spec, moved)), inventory) == described_task(first, inventory)
    assert not has_foreign_code(first)
    save_file({name: tensor + 1 for name, tensor in vit().state_dict().items()}, weights)
    changed = checkpoint_noted(starting_from(tiny_spec, weights))
    assert described_task(changed, inventory) != described_task(first, inventory)
    with pytest.raises(
        InvalidInput, match=r"model\.checkpoint: .*its SHA-256 is \w{64}, and must be \w{64}.*the file has changed"
    ):
        Task(first)
    assert "checkpoint" not in described_task(tiny_spec, inventory)["model"]


def test_a_run_does_not_resume_with_other_weights(tiny_spec, weights, three_stages, tmp_path):
    task = Task(starting_from(tiny_spec, weights))
    plan = planned(task, three_stages, "10%")
    train(task, plan, seed=0, checkpoint=tmp_path / "checkpoint.pt")
    save_file({name: tensor + 1 for name, tensor in vit().state_dict().items()}, weights)
    other = Task(starting_from(tiny_spec, weights))
    with pytest.raises(InvalidInput, match=r"model\.weights_sha256"):
        train(other, plan, seed=0, checkpoint=tmp_path / "checkpoint.pt")
