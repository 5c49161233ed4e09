"""The lower bounds of setup.cfg are the versions that `make test-lowest` installs."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("hfds", "lightning", "transformers")
"""Extras that `make test-lowest` installs too."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_lower_bound_is_a_version_that_is_tested():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = [config["options"]["install_requires"], *(config["options.extras_require"][name] for name in EXTRAS)]
    bounds = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\w.]+)$", "\n".join(listed), re.MULTILINE))
    pinned = re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE)
    versions = {normalized(name): version for name, version in pinned}
    assert len(bounds) > 15
    assert bounds == {name: versions.get(normalized(name)) for name in bounds}
