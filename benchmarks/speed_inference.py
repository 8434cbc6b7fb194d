"""A whole slide through a small network: stainda beside the network alone, and beside tiatoolbox; memory at its peak.

    python benchmarks/speed_inference.py

The network (a U-Net of depth 3, width 8) is cheap, so that what surrounds it shows. "Bare forward" is the network on
tiles already in memory, as many as stainda looks at; these overlap, so that it is also compared with as many pixels as
the slide has. The tissue mask, made once per slide of its thumbnail, is not counted. tiatoolbox runs without overlap,
on patches of 512 pixels. Peak memory is that of a process of its own which predicts a slide of 20,480 pixels, most of
it glass, and finds its objects.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import Line, Work, absent, arguments, measured, ratio, show, take_turns, write_slide

SIDE, LARGE = 2048, 20_480


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory is not None:
        _predict_once(given.memory)
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = [*_compare(Path(folder), given.rounds), _memory(Path(folder))]
    show(lines, given, "torch", "tiatoolbox", "openslide-python")


def _predictor():  # type: ignore[no-untyped-def]
    import torch

    from stainda.config import ModelConfig, PatchConfig, TaskConfig, load_strategy
    from stainda.prediction.predictor import Predictor
    from stainda.strategies import build
    from stainda.strategies.detector import Detector, Standard

    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = TaskConfig(classes=("glomerulus",))
    model = ModelConfig(name="unet", params={"depth": 3, "width": 8, "upsampling": "bilinear"})
    detector = Detector.build(build(load_strategy("source_only")), model, task, Standard.of([0.7] * 3, [0.2] * 3))
    detector.network.to(memory_format=torch.channels_last).eval()
    settings = {"patches": PatchConfig(size=128, downsample=1).model_dump(), "task": task.model_dump()}
    return Predictor(detector, settings, {"thresholds": {"glomerulus": 0.5}}, "speed")


def _compare(folder: Path, rounds: int) -> list[Line]:
    import torch

    from stainda.memory import freed_memory_kept
    from stainda.slides import open_slide

    predictor, path = _predictor(), write_slide(folder / "slide.tif", SIDE)
    network = predictor.detector.network
    slide = open_slide(path)
    region = predictor.region(slide)
    plan = predictor.plan(region)
    tiles, size = plan.shown(region), max(1, 2**19 // plan.tile**2)
    batch = torch.rand(size, 3, plan.tile, plan.tile).contiguous(memory_format=torch.channels_last)
    passes = -(-tiles // size)

    def ours(number: int) -> float:
        found = predictor.probabilities_region(region, None, "slide", slide.mpp)
        assert found.array.shape == (1, SIDE, SIDE)
        return 1.0

    def bare(number: int) -> float:
        with torch.no_grad():
            for _ in range(passes):
                network(batch)
        return passes * size / tiles

    candidates: dict[str, Work] = {"stainda": ours, "bare forward, same tiles": bare}
    if not absent("tiatoolbox"):
        candidates["tiatoolbox"] = _tiatoolbox(path, network, folder)
    with freed_memory_kept():
        rates = take_turns(candidates, rounds)
    slide.close()
    pixels = SIDE**2 / (tiles * plan.tile**2)
    once = type(rates["stainda"])(*(tuple(rate / pixels for rate in kind) for kind in (
        rates["bare forward, same tiles"].cpu, rates["bare forward, same tiles"].wall)))  # fmt: skip
    rates["bare forward, every pixel once"] = once
    work, unit = f"whole slide, {SIDE} px", "slides/CPU s"
    lines = [
        ratio(work, rates, "stainda", "bare forward, same tiles", unit=unit, least=0.9),
        ratio(work, rates, "stainda", "bare forward, every pixel once", unit=unit),
    ]
    if "tiatoolbox" in rates:
        lines.append(ratio(work, rates, "stainda", "tiatoolbox", unit=unit, least=4))
        lines.append(ratio(f"{work}, wall clock", rates, "stainda", "tiatoolbox", unit="slides/s", wall=True))
    return lines


def _tiatoolbox(path: Path, network, folder: Path) -> Work:  # type: ignore[no-untyped-def]
    import torch
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC

    class Wrapped(ModelABC):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def forward(self, images):  # type: ignore[no-untyped-def]
            return self.net(images)

        @staticmethod
        def infer_batch(model, batch_data, *, device):  # type: ignore[no-untyped-def]
            with torch.inference_mode():
                images = batch_data.to(device=device, dtype=torch.float32).permute(0, 3, 1, 2).div(255)
                return torch.softmax(model(images), 1).permute(0, 2, 3, 1).cpu().numpy()

        @staticmethod
        def preproc(image):  # type: ignore[no-untyped-def]
            return image

        @staticmethod
        def postproc(image):  # type: ignore[no-untyped-def]
            return np.argmax(image, -1)

    scale = [{"units": "baseline", "resolution": 1.0}]
    config = IOSegmentorConfig(
        input_resolutions=scale, output_resolutions=scale, patch_input_shape=(512, 512), patch_output_shape=(512, 512),
        stride_shape=(512, 512), save_resolution=scale[0],
    )  # fmt: skip
    engine = SemanticSegmentor(model=Wrapped(), batch_size=8, num_workers=0, device="cpu", verbose=False)

    def work(number: int) -> float:
        engine.run(
            images=[path], patch_mode=False, ioconfig=config, save_dir=folder / "tiatoolbox", overwrite=True,
            output_type="zarr", auto_get_mask=False, memory_threshold=80,
        )  # fmt: skip
        return 1.0

    return work


def _memory(folder: Path) -> Line:
    path = write_slide(folder / "large.tif", LARGE, tissue=2048)
    command = [sys.executable, __file__, "--memory", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = float(done.stdout.split()[-1])
    return measured(f"whole slide, {LARGE} px", "peak memory of the process", [peak], "MiB", most=1024)


def _predict_once(path: Path) -> None:
    from stainda.memory import peak_mib
    from stainda.slides import open_slide

    predictor = _predictor()
    with open_slide(path) as slide:
        found = predictor.probabilities_region(predictor.region(slide), None, "slide", slide.mpp)
        predictor.objects(found)
    print(peak_mib())


if __name__ == "__main__":
    main()
