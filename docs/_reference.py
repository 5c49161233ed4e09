"""Write the reference pages that are made from the code: `python docs/_reference.py`, or `make reference`.

With `--check` nothing is written; the exit code is 1 if a page differs from what the code gives.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from _reference_commands import command_line  # noqa: E402
from _reference_python import python_package  # noqa: E402
from _reference_space import search_space  # noqa: E402

PAGES = {"command-line": command_line, "search-space": search_space, "python": python_package}
NOTE = "<!-- Made from the code by `make reference`; do not edit. -->"


def main() -> None:
    """Write the pages that have changed, or name them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, make in PAGES.items():
        path = ROOT / "docs" / "reference" / f"{name}.md"
        text = f"{NOTE}\n\n{make()}"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'out of date, run `make reference`' if check else 'written'}: {', '.join(stale)}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
