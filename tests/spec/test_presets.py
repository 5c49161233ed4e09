"""Known-good schedules: what they are, by hand from their sources, and for which models."""

from pathlib import Path

import pandas as pd
import pytest
import timm

from explorer import Budget, InvalidInput, Schedule, compile_plan
from explorer.spec.model import ModelSpec
from explorer.spec.presets import PRESETS, load_schedule
from explorer.spec.task import TaskSpec
from explorer.training.task import Task

DIGITS = Path(__file__).parents[2] / "reports" / "digits"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_schedule_that_files_keep(name, tmp_path):
    schedule = Schedule.preset(name, "deit_small_patch16_224")
    assert Schedule.load(schedule.save(tmp_path / "s.yaml")) == schedule
    assert [count / schedule.grid for count in schedule.slots()] == pytest.approx([s.duration_ratio for s in schedule.stages])
    assert all((PRESETS[name].summary, PRESETS[name].source, PRESETS[name].measured))


def test_the_papers_stages():
    """Tables 1 and 6: 29, 49 and 50 epochs at .69, 1.91 and 4.61 G are 20.0, 93.6 and 230.5 of 344.1."""
    first, second, full = Schedule.preset("paper", "deit_small_patch16_224").stages
    assert [stage.duration_ratio for stage in (first, second, full)] == [0.06, 0.27, 0.67]
    assert (first.rates.heads, first.rates.mlp, first.rates.tokens) == pytest.approx((1 / 3, 1 / 4, 100 / 196))
    assert (second.rates.heads, second.rates.mlp, second.rates.tokens) == pytest.approx((2 / 3, 1 / 2, 144 / 196))
    assert Schedule.preset("paper", "deit_small_patch16_224").staging == {"growth": "copy", "token_policy": "center"}


def test_pyramids_have_the_papers_heads_at_each_level():
    first, second, _ = Schedule.preset("paper", "pvt_v2_b2_li").stages
    assert (first.rates.heads, second.rates.heads) == ((1, 1, 2, 2), (1, 2, 4, 4))


def test_efficienttrain_grows_images_and_magnitude():
    """The authors' script for DeiT-S: ten pieces of equal cost, images of 96 x2, 160 x4, 192 x2, 224 x2, magnitudes 0 to 9."""
    schedule = Schedule.preset("efficienttrain-like", "deit_small_patch16_224")
    sizes = [round(224 * stage.rates.tokens**0.5) for stage in schedule.stages]
    assert sizes == [96] * 2 + [160] * 4 + [192] * 2 + [224] * 2
    assert [round(9 * stage.augmentation.magnitude) for stage in schedule.stages] == list(range(10))
    assert schedule.staging == {"token_policy": "resize"}


def test_the_schedule_of_digits_is_that_of_the_kept_report():
    kept = Schedule.load(DIGITS / "schedules" / "20pct.json")
    known = Schedule.preset("sweep-digits", "vit_tiny_patch16_224")
    assert (known.stages, known.grid) == (kept.stages, kept.grid)
    winners = pd.read_csv(DIGITS / "frontier.csv").query("budget == '20%'").set_index("kind").test_mean
    blocks = {2: "two", 4: "four"}[kept.provenance.task.model.options["depth"]]
    assert PRESETS["sweep-digits"].measured == (
        f"digits, a ViT of {blocks} blocks at 20 %: {100 * winners['staged']:.1f} % against {100 * winners['baseline']:.1f} % of "
        "the tuned baseline, intervals overlap"
    )


def test_the_schedule_of_fractals_is_that_of_the_benchmarks_page():
    page = (DIGITS.parents[1] / "benchmarks" / "README.md").read_text()
    assert "| sweep over all axes | 25% | 60% all 0.5 depth 0.5 > 40% full |" in page
    early, full = Schedule.preset("sweep-fractals", "vit_tiny_patch16_224").stages
    assert (early.duration_ratio, full.duration_ratio) == (0.6, 0.4)
    assert set(early.rates.model_dump().values()) == {0.5}
    table = page.partition("| method | 6.25% | 12.5% | 25% |")[2].partition("\n\n")[0].splitlines()
    means = {cells[1].strip(): cells[4].split()[0] for line in table[2:] if (cells := line.split("|"))}
    accuracies = f"{means['sweep over all axes']} % against {means['baseline']} % of the tuned baseline"
    assert PRESETS["sweep-fractals"].measured == f"fractals, a ViT of four blocks at 25 %: {accuracies}"


def test_the_full_model_is_a_known_schedule():
    assert Schedule.preset("full", "deit_small_patch16_224") == Schedule.full_model()


def test_epochs_replace_the_shares():
    schedule = Schedule.preset("paper", "deit_small_patch16_224", (29, 49, 50))
    assert [stage.epochs for stage in schedule.stages] == [29, 49, 50]
    with pytest.raises(InvalidInput, match=r"epochs: \[29, 49\]: must be 3 numbers, one for each stage of paper"):
        Schedule.preset("paper", "deit_small_patch16_224", (29, 49))


def test_models_may_be_given_in_several_ways():
    built = timm.create_model("vit_tiny_patch16_224", depth=1)
    named = Schedule.preset("paper", "vit_tiny_patch16_224")
    assert Schedule.preset("paper", built) == Schedule.preset("paper", ModelSpec(name="vit_tiny_patch16_224")) == named
    with pytest.raises(InvalidInput, match="model: 'int': must be the name of a timm model"):
        Schedule.preset("paper", 3)


def test_a_file_beside_a_preset_is_read_with_its_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Schedule.full_model().save("paper.json")
    assert load_schedule("paper.json", "") == Schedule.full_model()
    assert load_schedule("paper", "deit_small_patch16_224") == Schedule.preset("paper", "deit_small_patch16_224")


def test_a_preset_for_a_model_without_the_axis_is_refused_in_one_line():
    """PoolFormer has no attention, and so no heads."""
    spec = TaskSpec.model_validate(
        {
            "model": {"name": "poolformer_s12"},
            "data": {"name": "fractals", "image_size": 64, "fractals": {"classes": 3, "instances": 20, "held_out": 5}},
            "recipe": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
        }
    )
    task = Task(spec)
    with pytest.raises(InvalidInput, match=r"rates\.heads: .*cannot be reduced on this axis, only on") as refused:
        compile_plan(Schedule.preset("paper", "poolformer_s12"), task, Budget(0.5), task.step_cost)
    assert "\n" not in str(refused.value)
