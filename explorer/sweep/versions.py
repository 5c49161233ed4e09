"""Versions of the packages that results depend on: kept with a sweep, and not mixed within it without being asked for."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from explorer.errors import InvalidInput
from explorer.ledger import SweepHeader

PACKAGES = ("vit-budget-explorer", "torch", "timm", "ray", "optuna")
"""Packages whose versions a sweep keeps."""
NUMERICAL = ("torch", "timm")
"""Packages that compute: with other versions of them, the same trial may end with another result."""


def installed_versions() -> dict[str, str]:
    """Versions of Python and of `PACKAGES`, as installed here."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def numerical_versions() -> dict[str, str]:
    """Versions of `NUMERICAL`, as installed here; each record keeps them."""
    return {package: version(package) for package in NUMERICAL}


def check_versions(header: SweepHeader, *, mix: bool) -> None:
    """Check that a sweep is resumed with the versions it was started with.

    Args:
        header: of the sweep.
        mix: whether other versions are welcome.

    Raises:
        InvalidInput: when torch or timm has another version, unless `mix`.
    """
    for package, here in numerical_versions().items():
        before = header.versions.get(package, here)
        if before != here and not mix:
            allowed = (
                f"the sweep was started with {before}, and results of different versions may not be comparable; "
                "install that version, give this one another --name, or mix them with --mix-versions"
            )
            raise InvalidInput(f"version of {package}", here, allowed)
