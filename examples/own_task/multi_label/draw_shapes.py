"""Draw small images with any number of shapes, and list them in a CSV file, as data of one's own would be.

python draw_shapes.py shapes
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 24
SPLITS = {"train": 240, "test": 60}


def draw(shapes: list[str], generator: np.random.Generator) -> Image.Image:
    """An image of noise with some shapes, each at a random place."""
    image = Image.fromarray(generator.integers(0, 80, (SIZE, SIZE, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        x, y = (int(value) for value in generator.integers(1, SIZE - 10, 2))
        box = (x, y, x + 8, y + 8)
        if shape == "circle":
            pen.ellipse(box, outline=(255, 80, 80), width=2)
        elif shape == "square":
            pen.rectangle(box, outline=(80, 255, 80), width=2)
        else:
            pen.line(box, fill=(80, 80, 255), width=3)
    return image


def main() -> None:
    """Write the images and `labels.csv` into a folder."""
    root = Path(sys.argv[1])
    (root / "images").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    rows = []
    for split, count in SPLITS.items():
        for number in range(count):
            # Lines are rare: one image in eight has one.
            chances = {"circle": 0.5, "square": 0.4, "line": 0.125}
            shapes = [shape for shape, chance in chances.items() if generator.random() < chance]
            path = f"images/{split}-{number:03d}.png"
            draw(shapes, generator).save(root / path)
            rows.append({"image": path, "split": split, "shapes": ";".join(shapes)})
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "split", "shapes"])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
