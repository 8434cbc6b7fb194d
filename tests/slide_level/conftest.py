"""A cohort of slides with discs, in seconds: patients differ by how many of their discs are dark."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

STUDY = """
study: discs
manifest: manifest.csv
protocol: {scheme: leave_one_centre_out, leave_out: [B], left_out_patients: test, visible: nothing, seeds: 2,
           split: [0.7, 0.3, 0.0]}
evaluation: {resamples: 200}
slide_level:
  label: verdict
  positive: [bad]
  encoder: {name: cnn, params: {depth: 2, width: 8}}
  patches: {size: 32, downsample: 1, stride: 32}
  aggregators: [mean, attention]
  training: {epochs: 4, hidden: 8, bags_per_step: 4}
"""


def make_slide(path, generator, dark: int) -> None:
    image = Image.new("RGB", (256, 256), (245, 245, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((16, 16, 240, 240), fill=(214, 170, 196))
    for number in range(12):
        x, y = generator.integers(30, 215, 2)
        draw.ellipse((x, y, x + 18, y + 18), fill=(90, 20, 80) if number < dark else (190, 120, 170))
    noise = generator.normal(0, 6, (256, 256, 3))
    Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def discs(tmp_path_factory):
    """The study file of 20 patients of two centres, one slide each; the label stands in the column ``verdict``."""
    folder = tmp_path_factory.mktemp("discs")
    generator = np.random.default_rng(5)
    rows = ["slide,patient,block,section,stain,centre,path,verdict,split"]
    for number in range(20):
        bad, centre = number % 2 == 1, "AB"[number // 10]
        split = "test" if centre == "B" else "val" if number >= 6 else "train"
        make_slide(folder / f"S{number}.png", generator, 8 if bad else 0)
        rows.append(f"S{number},P{number},B{number},1,PAS,{centre},S{number}.png,{'bad' if bad else 'good'},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "study.yaml").write_text(STUDY)
    return folder / "study.yaml"
