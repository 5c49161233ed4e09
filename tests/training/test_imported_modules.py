"""`import`: modules of the user's register models and layouts before a model is built."""

import sys

import pytest

from explorer import InvalidInput
from explorer.errors import validated
from explorer.spec.search_space import SearchSpace
from explorer.spec.task import TaskSpec
from explorer.spec.task_file import TaskFile
from explorer.spec.task_identity import has_foreign_code
from explorer.training.task import Task
from tests.test_cli import explorer  # noqa: F401 (a fixture)

MODULE = """
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

@register_model
def {name}(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **options):
    return VisionTransformer(patch_size=2, embed_dim=32, depth=1, num_heads=4, **options)
"""


def importing(spec: TaskSpec, *modules: str, **model: object) -> TaskSpec:
    return validated(TaskSpec, {**spec.model_dump(), "import": list(modules), "model": model}, "task")


def test_a_registered_model_is_built_after_its_module_is_imported(tiny_spec, tmp_path, monkeypatch):
    (tmp_path / "registers_own_vit.py").write_text(MODULE.format(name="registered_own_vit"))
    monkeypatch.syspath_prepend(tmp_path)
    spec = importing(tiny_spec, "registers_own_vit", name="registered_own_vit")
    assert "registers_own_vit" not in sys.modules  # reading a file imports nothing
    task = Task(spec)
    task.check()
    assert task.model_parameters == sum(parameter.numel() for parameter in task.build_model().parameters())
    assert has_foreign_code(spec)  # another sweep's trainings may be of another version of the module


def test_imports_are_kept_by_what_derives_from_a_task(tiny_spec):
    spec = importing(tiny_spec, "json", name="vit_tiny_patch16_224")
    assert spec.model_dump()["import"] == ("json",)
    assert validated(TaskSpec, spec.model_dump(mode="json"), "task") == spec
    assert spec.with_settings(1e-3, 16).imports == ("json",)
    assert "import" not in tiny_spec.model_dump()


def test_a_file_has_imports_at_its_top_level(space_file):
    path = space_file
    path.write_text(f"import: [json, os.path]\n{path.read_text()}proxy: {{images: 0.5}}\n")
    space = SearchSpace.load(path)
    assert space.task.imports == space.proxy_space(1).task.imports == ("json", "os.path")
    assert space.model_dump(mode="json")["import"] == ["json", "os.path"]
    assert TaskFile.load_task(path).task.imports == ("json", "os.path")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "raise RuntimeError('no licence\\nfound')",
            "import: 'failing_model': failing_model cannot be imported: RuntimeError: no lic",
        ),
        ("import sys; sys.exit(3)", "failing_model cannot be imported: SystemExit: 3"),
        (
            "import no_such_package",
            "ModuleNotFoundError: No module named 'no_such_package'; install its package or add its folder to PY",
        ),
        ("def f(:", "failing_model cannot be imported: SyntaxError: "),
    ],
)
def test_a_module_that_fails_is_refused_with_its_own_error(content, message, tiny_spec, tmp_path, monkeypatch):
    (tmp_path / "failing_model.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "failing_model", raising=False)
    with pytest.raises(InvalidInput) as caught:
        Task(importing(tiny_spec, "failing_model", name="vit_tiny_patch16_224"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["my models", "../models", "models.py:", "", "a..b"])
def test_only_names_of_modules_are_taken(name, tiny_spec):
    with pytest.raises(InvalidInput, match="must be the dotted name of a Python module"):
        importing(tiny_spec, name, name="vit_tiny_patch16_224")


def test_the_command_fails_with_one_line(explorer, space_file):  # noqa: F811
    space_file.write_text(f"import: [no.such.module]\n{space_file.read_text()}")
    done = explorer("plan", "--schedule", "paper", "--task", space_file, "--budget", "25%")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("explorer: import: 'no.such.module': no.such.module cannot be imported: ModuleNotFoundError")
