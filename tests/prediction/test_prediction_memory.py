"""Memory of a prediction does not grow with the slide: a process of its own for each size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

PREDICT = """
import sys
import torch
from stainda.config import ModelConfig, PatchConfig, TaskConfig, load_strategy
from stainda.memory import peak_mib
from stainda.prediction.predictor import Predictor
from stainda.slides import open_slide
from stainda.strategies import build
from stainda.strategies.detector import Detector, Standard

torch.set_num_threads(1)
torch.manual_seed(0)
task = TaskConfig(classes=("glomerulus",))
model = ModelConfig(name="unet", params={"depth": 2, "width": 4})
detector = Detector.build(build(load_strategy("source_only")), model, task, Standard.of([0.7] * 3, [0.2] * 3))
settings = {"patches": PatchConfig(size=128, downsample=1).model_dump(), "task": task.model_dump()}
predictor = Predictor(detector, settings, {"thresholds": {"glomerulus": 0.5}}, "memory")
with open_slide(sys.argv[1]) as slide:
    found = predictor.probabilities(slide)
    predictor.objects(found)
assert found.array.shape[1:] == slide.size[::-1] and found.array[:, 300:500, 300:500].any()
print(peak_mib())
"""


def write_slide(path: Path, side: int) -> Path:
    """Glass with a piece of tissue; a pyramid, as scanners write it."""
    rng = np.random.default_rng(0)
    tissue = rng.integers(90, 200, (768, 768, 3)).astype(np.uint8)
    with tifffile.TiffWriter(path) as writer:
        for level in range(4):
            image = np.full((side >> level, side >> level, 3), 245, np.uint8)
            step = 1 << level
            image[256 >> level : 1024 >> level, 256 >> level : 1024 >> level] = tissue[::step, ::step]
            options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "subfiletype": int(level > 0)}
            writer.write(image, resolution=(20_000 / step,) * 2, resolutionunit="CENTIMETER", **options)
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is the kernel's mark")
def test_a_slide_of_nine_times_the_pixels_takes_little_more_memory(tmp_path):
    peaks = {}
    for side in (3072, 9216):
        command = [sys.executable, "-c", PREDICT, str(write_slide(tmp_path / f"{side}.tif", side))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks[side] = float(done.stdout)
    # the map has 36 and 324 MiB, the picture three quarters of that
    assert peaks[9216] < 1024 and peaks[9216] - peaks[3072] < 100, peaks
