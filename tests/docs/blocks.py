"""Code blocks of Markdown pages.

Every fenced block of Python is run, every `explorer ...` line is parsed; a comment before a block says why not:
`<!-- not run: needs several devices -->`.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, and the line it starts on."""

    page: str
    language: str
    text: str
    line: int
    run: bool

    @property
    def code(self):
        """Compiled so that errors name the page's line."""
        return compile("\n" * self.line + self.text, self.page, "exec")

    @property
    def commands(self):
        """Shell lines split into words, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def blocks(page):
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            match[1],
            _included(match[2]),
            text[: match.start()].count("\n") + 1,
            not NOT_RUN.search(text[: match.start()]),
        )
        for match in FENCE.finditer(text)
    ]


def _included(text):
    """The content of the file that a block includes; its own text if it includes none."""
    include = re.fullmatch(r"--8<--\n(\S+)\n--8<--\n", text)
    return (ROOT / include[1]).read_text(encoding="utf-8") if include else text


def inline_code(page):
    """What stands between single backticks, outside of blocks."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
