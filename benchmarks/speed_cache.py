"""A step of a head on kept features beside the same step end to end: the feature cache (``training.cache``).

    python benchmarks/speed_cache.py

Both train the head alone (``train: head``) with the same loop. What the cache costs once, a pass of the encoder for
each patch and view, is not in it (``benchmarks/feature_cache.py`` prints it). Weights are random, at no cost of time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from feature_cache import model_of, training
from side_by_side import Line, arguments, ratio, show, take_turns

ROWS = (
    ("classification", "efficientnet_lite0", None, 128),
    ("segmentation", "efficientnet_lite0", "linear", 128),
    ("segmentation", "efficientnet_lite0", None, 128),
    ("segmentation", "vit_small", "linear", 224),
)
STEPS = 10
"""Of a round on kept features, against one end to end."""


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [_line(*row, rounds=given.rounds) for row in ROWS]
    show(lines, given, "torch", "timm")


def _line(kind: str, name: str, decoder: str | None, size: int, *, rounds: int) -> Line:
    model = model_of(name, decoder)
    with tempfile.TemporaryDirectory() as folder:
        whole = training(kind, model, size, None, Path(folder) / "whole")
        cached = training(kind, model, size, {"views": 1}, Path(folder) / "cached")

        def end_to_end(number: int) -> float:
            whole._step(number + 1, 10_000)
            return 1

        def from_features(number: int) -> float:
            for index in range(STEPS):
                cached._step((number + 1) * STEPS + index, 10_000)
            return STEPS

        rates = take_turns({"cached": from_features, "end to end": end_to_end}, rounds)
    layer = "" if kind == "classification" else f", decoder {model.params['decoder']}"
    work = f"step of a {kind} head, {name}{layer}, 16 x {size} px"
    return ratio(work, rates, "cached", "end to end", unit="steps/CPU s", least=20)


if __name__ == "__main__":
    main()
