"""`recipe.compile: auto` and `reduce-overhead`. Graphs are traced, not optimized, so that compiling takes no minutes."""

import re

import pytest

from explorer import InvalidInput, Rates
from explorer.training import compile_choice
from explorer.training.calibration import Calibration
from explorer.training.compilation import CompiledCode
from explorer.training.loop import train
from explorer.training.task import Task
from tests.training.runs import planned, same_weights
from tests.training.test_compilation import two_stages

pytestmark = pytest.mark.usefixtures("traced_only")


def test_a_short_training_is_not_compiled_and_nothing_is_measured(tiny_spec):
    before = CompiledCode.so_far()
    choice = compile_choice.compile_choice(Task(tiny_spec.with_compilation("auto")), lambda _: 29.0, 3, "cpu")
    assert not choice.compile  # 3 sizes take at least 15 s, and half of 29 s is less
    assert choice.reason == "the model is not compiled: training takes 29.0 s, too short for 3 sizes"
    assert CompiledCode.so_far().since(before) == CompiledCode()


def test_a_long_training_is_compiled_if_that_saves_more_than_it_takes(tiny_spec):
    choice = compile_choice.compile_choice(Task(tiny_spec.with_compilation("auto")), lambda step: 1e9 * step, 3, "cpu")
    found = re.fullmatch(
        r"the model is (not )?compiled: a compiled step takes ([\d.]+) of the time, which saves ([\d.]+) (s|min) of [\d.]+ min; "
        r"compiling 3 sizes takes [\d.]+ (s|min)",
        choice.reason,
    )
    assert found, choice.reason
    assert choice.compile == (found[1] is None)
    assert choice.compile == (float(found[3]) > 0)  # of so long a training, any saving is more than compiling takes


def test_a_machine_without_a_compiler_does_not_compile(tiny_spec, monkeypatch):
    monkeypatch.setattr(compile_choice, "can_compile", lambda _: False)
    choice = compile_choice.compile_choice(Task(tiny_spec.with_compilation("auto")), lambda _: 1e9, 3, "cpu")
    assert (choice.compile, choice.reason) == (False, "the model is not compiled: this machine cannot")


def test_a_training_that_chooses_ends_as_one_that_was_told(tiny_spec):
    results = []
    for value in ("auto", False):
        task = Task(tiny_spec.with_compilation(value))
        results.append(train(task, planned(task, two_stages(0.5), "20%"), seed=0))
    assert results[0].compiled is None
    assert same_weights(results[0].model, results[1].model)


def test_step_times_are_of_a_model_that_is_compiled_or_not(tiny_spec):
    with pytest.raises(InvalidInput, match=r"recipe\.compile: 'auto': must be true or false"):
        Calibration.measure(Task(tiny_spec.with_compilation("auto")), [Rates()], "cpu", seconds=0.1)


@pytest.mark.filterwarnings("ignore:eager backend ignoring extra kwargs")
def test_small_stages_are_compiled_as_a_whole_for_cuda_graphs(tiny_spec):
    """On a CPU nothing is recorded, but the same code is traced: the small stage as one graph, the full size block by block."""
    results = []
    for value in ("reduce-overhead", False):
        task = Task(tiny_spec.with_compilation(value))
        results.append(train(task, planned(task, two_stages(0.5), "20%"), seed=0))
    assert results[0].compiled == CompiledCode(graphs=2, graph_breaks=0)
    assert results[0].segments[-1].mean_loss == pytest.approx(results[1].segments[-1].mean_loss, rel=1e-4)
