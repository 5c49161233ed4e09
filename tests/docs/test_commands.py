"""Commands, options, files, fields and links in README and docs exist."""

import configparser
import re
import shlex

import pytest
import typer
import yaml

from explorer import Schedule
from explorer.cli import app
from explorer.errors import validated
from explorer.spec.search_space import SearchSpace
from tests.docs.blocks import PAGES, ROOT, blocks, inline_code

COMMANDS = typer.main.get_command(app).commands
EXTRAS = configparser.ConfigParser()
EXTRAS.read(ROOT / "setup.cfg")


def check(words):
    """Check one shell line."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    match words:
        case ["explorer", command, *arguments]:
            COMMANDS[command].make_context(command, list(arguments)).close()
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["pip", "install", package]:
            name, extra = re.fullmatch(r"([\w-]+)\[(\w+)\]", package).groups()
            assert name == "vit-budget-explorer"
            assert extra in EXTRAS["options.extras_require"]
        case ["python", "-m", "pytest", path]:
            assert (ROOT / path).exists()
        case ["python", script, *arguments]:
            source = (ROOT / script).read_text()
            own = arguments[: arguments.index("train.py")] if "train.py" in arguments else arguments
            for option in (word for word in own if word.startswith("--")):
                assert f'"{option}"' in source, option
        case _:
            pytest.fail(f"nothing checks {shlex.join(words)!r}; mark the block as not run, or add a check")


@pytest.mark.parametrize("page", PAGES)
def test_every_shell_line_has_commands_and_options_that_exist(page):
    for block in blocks(page):
        if block.language == "sh" and block.run:
            for words in block.commands:
                check(words)
    for code in inline_code(page):
        words = code.split()
        if words[0] == "explorer" and len(words) > 1 and words[1] in COMMANDS:
            options = {name for parameter in COMMANDS[words[1]].params for name in parameter.opts}
            for option in (word for word in words if word.startswith("--")):
                assert option in options, code


def test_a_wrong_option_is_seen():
    with pytest.raises(Exception, match=r"--nonsense"):
        check(["explorer", "report", "digits", "--nonsense"])


def merged(one, other):
    """`one`, with the values of `other` in place of its own."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return {**one, **{name: merged(one.get(name), value) for name, value in other.items()}}


@pytest.mark.parametrize("page", PAGES)
def test_every_piece_of_yaml_belongs_to_a_search_space_or_is_a_schedule(page):
    whole = yaml.safe_load((ROOT / "search_spaces" / "digits.yaml").read_text())
    del whole["proxy"], whole["search"]["spend"], whole["search"]["goal"]
    whole["search"] |= {"trials": 6, "baseline_trials": 3}  # for any number of budgets
    for block in blocks(page):
        if block.language == "yaml":
            content = yaml.safe_load(block.text)
            if "schema" in content:
                Schedule.from_dict(content)
            else:
                is_whole = {"name", "model", "data", "recipe", "budgets", "search"} <= content.keys()
                validated(SearchSpace, content if is_whole else merged(whole, content), f"{page}:{block.line}")


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_blocks_say_what_they_are():
    for page in PAGES:
        assert "\n```\n\n```\n" not in (ROOT / page).read_text()
        for block in blocks(page):
            assert block.language in ("python", "sh", "yaml", "text"), f"{page}:{block.line}"
