"""Hook of mkdocs: adds pictures and a page that are kept elsewhere in the repository to the site."""

from __future__ import annotations

import re
from os.path import relpath
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PICTURES = {
    "assets/report.png": "reports/digits/report.png",
    "assets/methods.png": "benchmarks/methods/methods.png",
    "assets/fractals.png": "benchmarks/fractals.png",
    "assets/fashion_mnist_adamw.png": "benchmarks/fashion_mnist/adamw.png",
    "assets/fashion_mnist_muon.png": "benchmarks/fashion_mnist/muon.png",
}
"""Paths in the site, and where the pictures are kept."""
BENCHMARKS_MARK = "<!-- benchmarks -->"
"""In a page, replaced by benchmarks/README.md."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures to the files of the site."""
    for name, source in PICTURES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert the benchmarks, and adapt the paths of pictures: docs/ is the root of the site."""
    if BENCHMARKS_MARK in markdown:
        markdown = benchmarks()
    for name, source in PICTURES.items():
        markdown = markdown.replace(f"../{source}", name)
    return markdown


def benchmarks() -> str:
    """The page of benchmarks, with the paths of its pictures relative to docs/method."""
    page = ROOT / "benchmarks" / "README.md"
    text = without_links(page.read_text(encoding="utf-8"))
    for source in PICTURES.values():
        text = text.replace(f"]({relpath(ROOT / source, page.parent)})", f"](../../{source})")
    return text


def without_links(text: str) -> str:
    """Markdown without links to files of the repository, which are not part of the site; pictures stay."""
    return re.sub(r"(?<!!)\[([^]]+)\]\((?!https?:|#)[^)]+\)", r"\1", text)
