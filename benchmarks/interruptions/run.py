"""What interruptions cost a staged training: updates, weights, and the files that somebody may pick up.

    python benchmarks/interruptions/run.py --table     the table of kept results
    python benchmarks/interruptions/run.py --run       makes what is missing of it: about 25 minutes
    python benchmarks/interruptions/run.py --quick     one kind of interruption per trainer, kept nowhere

timm's train.py is in no package: the environment variable TIMM_TRAIN names the file. Without it, `--run` leaves it out, and
`--quick` takes the script of our tests.

Each training is interrupted in real processes, by real signals, and started again by the same command until it ends. Said are:
the updates that the last weights are made of, of those that were planned; how often an update was made again because its
checkpoint was older; whether the final weights are those of an uninterrupted training, bit for bit; and how many files of
weights were found after each interruption, all of which must be those of the full model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file
from trainings import HOWS, TIMM, TRAINERS

KEPT = Path(__file__).parent / "results.csv"
SCRIPT = Path(__file__).parent / "trainings.py"
FULL_WIDTH = 128
"""Hidden channels of an MLP of the full model."""
KINDS: dict[str, tuple[tuple[int, str], ...]] = {
    "killed before the first checkpoint": ((2, "killed"),),
    "killed in the first stage": ((5, "killed"),),
    "killed at the stage change": ((15, "killed"),),
    "killed in the last stage": ((19, "killed"),),
    "killed twice": ((5, "killed"), (4, "killed")),
    "terminated in the first stage": ((5, "terminated"),),
    "terminated in the last stage": ((19, "terminated"),),
    "Ctrl-C in the first stage": ((5, "ctrl-c"),),
    "error of the user's code": ((5, "error"),),
    "error, then terminated, then Ctrl-C": ((4, "error"), (4, "terminated"), (4, "ctrl-c")),
}
"""After which update of each attempt a training is interrupted, and how."""


def started(trainer: str, folder: Path, stop: int | None = None, how: str = "killed") -> int:
    """Exit code of a training in a process of its own."""
    options = [] if stop is None else ["--stop", str(stop), "--how", how]
    command = [sys.executable, str(SCRIPT), trainer, str(folder), *options]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def widths(folder: Path) -> list[int]:
    """Hidden channels of the first MLP in each file of weights in a folder."""
    found = []
    for path in sorted(path for pattern in ("*.pt", "*.ckpt", "*.safetensors", "*.pth.tar") for path in folder.rglob(pattern)):
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm's checkpoints hold the options
            content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        found += [tensor.shape[0] for name, tensor in _tensors(content) if name.endswith("blocks.0.mlp.fc1.weight")]
    return found


def _tensors(content: object) -> list[tuple[str, torch.Tensor]]:
    """All named tensors in a checkpoint, however deep."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = []
    for name, value in items:
        found += [(str(name), value)] if isinstance(value, torch.Tensor) else _tensors(value)
    return found


def interrupted(trainer: str, kind: str, folder: Path, straight: Path) -> dict[str, object]:
    """A row of the table: a training that is interrupted and started again until it ends."""
    sizes: list[int] = []
    for stop, how in KINDS[kind]:
        started(trainer, folder, stop, how)  # Lightning ends with exit code 0 after SIGTERM
        if (folder / "final.pt").exists():
            raise SystemExit(f"{trainer}, {kind}: was not interrupted")
        sizes += widths(folder)
    if started(trainer, folder) != 0:
        raise SystemExit(f"{trainer}, {kind}: did not end")
    sizes += widths(folder)
    ours, theirs = (torch.load(each / "final.pt", weights_only=True) for each in (folder, straight))
    planned, made = (len((each / "updates").read_text()) for each in (straight, folder))
    return {
        "trainer": trainer,
        "interruption": kind,
        "planned": planned,
        "made": made,
        "again": made - planned,
        "equal": all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()),
        "difference": max(float((ours[name] - tensor).abs().max()) for name, tensor in theirs.items()),
        "files": len(sizes),
        "full": sum(size == FULL_WIDTH for size in sizes),
    }


def measured(kinds: list[str], keep: Path | None = None) -> pd.DataFrame:
    """The rows of some kinds of interruption, for all trainers.

    Args:
        kinds: kinds of interruption.
        keep: file to which each row is written; rows that it has are not measured again.
    """
    rows = pd.read_csv(keep).to_dict("records") if keep and keep.exists() else []
    for trainer in TRAINERS:
        missing = [kind for kind in kinds if not any((row["trainer"], row["interruption"]) == (trainer, kind) for row in rows)]
        if not missing:
            continue
        if keep and trainer == TIMM and "TIMM_TRAIN" not in os.environ:
            print(f"{trainer}: left out, because TIMM_TRAIN does not name it", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            straight = Path(folder, "straight")
            if started(trainer, straight) != 0:
                raise SystemExit(f"{trainer}: does not train")
            for kind in missing:
                rows.append(interrupted(trainer, kind, Path(folder, kind.replace(" ", "-")), straight))
                print(*rows[-1].values(), sep=", ", flush=True)
                if keep:
                    pd.DataFrame(rows).to_csv(keep, index=False)
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """The rows as Markdown: a line for each kind of interruption, a column for each trainer."""
    cells = {
        (row.interruption, row.trainer): f"{'equal' if row.equal else f'differ by {row.difference:.0e}'}, "
        f"{row.again} again, {row.full} of {row.files} files"
        for row in rows.itertuples()
    }
    trainers = list(dict.fromkeys(rows.trainer))
    lines = [f"| interruption | {' | '.join(trainers)} |", f"| --- |{' --- |' * len(trainers)}"]
    for kind in dict.fromkeys(rows.interruption):
        lines.append(f"| {kind} | {' | '.join(cells[kind, trainer] for trainer in trainers)} |")
    return "\n".join(lines)


def main() -> None:
    """Run, or print what was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="make the table, and keep it")
    parser.add_argument("--table", action="store_true", help="print the kept results")
    parser.add_argument("--quick", action="store_true", help="one kind of interruption per trainer")
    given = parser.parse_args()
    assert set(HOWS) == {how for stops in KINDS.values() for _, how in stops}
    if given.run:
        measured(list(KINDS), KEPT)
    if given.quick:
        rows = measured(["killed twice"])
        print(table(rows))
        sys.exit(not (rows.equal.all() and (rows.files == rows.full).all()))
    if given.table or given.run:
        kept = pd.read_csv(KEPT)
        print(f"Of {kept.planned.iloc[0]} updates: final weights, updates made again, files of the full model of those found\n")
        print(table(kept))


if __name__ == "__main__":
    main()
