"""Changes of stain at 256 pixels, one thread: stainda beside torchstain and scikit-image.

    python benchmarks/speed_augmentation.py [--patches FOLDER_OF_PNGS]

In: uint8 images. Out: float images as a network takes them (turning bytes into floats is counted on both sides).
torchstain estimates the stains of every image, stainda those of every slide, once and not timed here; torchstain has no
HED change, so that HED and jitter stand beside its Macenko augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from side_by_side import Line, Work, absent, arguments, ratio, show, stained, take_turns

SIZE = 256


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--patches", type=Path, help="PNG files of at least 256 pixels; default: made-up tissue")
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    import torch

    from stainda.memory import freed_memory_kept

    torch.set_num_threads(1)
    images = _images(given.patches, given.batch)
    with freed_memory_kept():
        rates = take_turns({**_ours(images), **_scikit_image(images[:8]), **_torchstain(images[:8])}, given.rounds)
    lines: list[Line] = []
    for ours in ("HED", "jitter", "Macenko"):
        for beside in ("torchstain augmentation", "torchstain Macenko, torch", "torchstain Macenko, numpy"):
            if beside in rates and (ours == "Macenko") == ("Macenko" in beside):
                lines.append(ratio("stain augmentation, 256 px", rates, ours, beside, unit="images/CPU s", least=8))
        if ours == "HED":
            least = 3.5
            lines.append(ratio("stain augmentation, 256 px", rates, ours, "scikit-image HED",
                               unit="images/CPU s", least=least))  # fmt: skip
    show(lines, given, "torchstain", "scikit-image", "torch")


def _images(folder: Path | None, count: int) -> np.ndarray:
    from PIL import Image

    files = sorted(folder.glob("*.png")) if folder else []
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files] or [stained(1024, 1024, 5)]
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        y, x = (int(rng.integers(side - SIZE + 1)) for side in picture.shape[:2])
        found.append(picture[y : y + SIZE, x : x + SIZE])
    return np.stack(found)


def _ours(images: np.ndarray) -> dict[str, Work]:
    import torch

    from stainda.stains import ColourJitter, ColourNormaliser, HedJitter

    tissue = {f"slide {at}": image.reshape(-1, 3)[::16].copy() for at, image in enumerate(images[:4])}
    slides = [f"slide {at % 4}" for at in range(len(images))]
    normaliser = ColourNormaliser.fit("macenko", tissue, ["slide 0"])
    generator = torch.Generator().manual_seed(0)

    def floats() -> torch.Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255.0)

    changes: dict[str, Callable[[], object]] = {
        "HED": lambda: HedJitter()(floats(), None, generator),
        "jitter": lambda: ColourJitter()(floats(), None, generator),
        "Macenko": lambda: normaliser.apply(floats(), slides),
    }

    def work(change: Callable[[], object]) -> Work:
        def round_(number: int) -> float:
            change()
            return len(images)

        return round_

    return {name: work(change) for name, change in changes.items()}


def _scikit_image(images: np.ndarray) -> dict[str, Work]:
    from skimage.color import hed2rgb, rgb2hed

    rng = np.random.default_rng(0)

    def work(number: int) -> float:
        for image in images:
            dyes = rgb2hed(image)
            hed2rgb(dyes * rng.uniform(0.95, 1.05, 3) + rng.uniform(-0.05, 0.05, 3))
        return len(images)

    return {"scikit-image HED": work}


def _torchstain(images: np.ndarray) -> dict[str, Work]:
    if absent("torchstain"):
        return {}
    import torch
    import torchstain
    from torchstain.torch.augmentors import TorchMacenkoAugmentor

    def planar(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image).permute(2, 0, 1).float()

    by_torch, by_numpy = (torchstain.normalizers.MacenkoNormalizer(backend=name) for name in ("torch", "numpy"))
    by_torch.fit(planar(images[0]))
    by_numpy.fit(images[0])
    augmentor = TorchMacenkoAugmentor()

    def augmented(image: np.ndarray) -> None:
        augmentor.fit(planar(image))
        augmentor.augment()

    changes: dict[str, Callable[[np.ndarray], object]] = {
        "torchstain augmentation": augmented,
        "torchstain Macenko, torch": lambda image: by_torch.normalize(I=planar(image), stains=False),
        "torchstain Macenko, numpy": lambda image: by_numpy.normalize(I=image, stains=False),
    }

    def work(change: Callable[[np.ndarray], object]) -> Work:
        def round_(number: int) -> float:
            for image in images:
                change(image)
            return len(images)

        return round_

    return {name: work(change) for name, change in changes.items()}


if __name__ == "__main__":
    main()
