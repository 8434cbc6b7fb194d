"""How far the confidence of propagated objects can be believed, on synthetic blocks whose truth is known.

    python benchmarks/propagation_calibration.py          # evaluate on blocks not used for fitting
    python benchmarks/propagation_calibration.py --fit    # fit stainda/registration/calibration.yaml first

Blocks of four sections (3 to 45 µm apart, so that objects end) are made under ``--work``. Their true maps are known; a
registration of known quality is the true map plus a smooth random error (root mean square 3 to 80 µm): from as good as
VALIS is on consecutive sections to mostly wrong. Every section serves as a source of every other, alone, in pairs, and
all together. Next to these stand blocks registered by VALIS itself (``--registered RUN`` takes those of a finished run
of a synthetic study; otherwise a small one is made), which are for evaluation only.

Written to ``--out``: ``reliability.csv`` and ``.png``, ``groups.csv``, ``existence.csv``. About 15 minutes of one core
from nothing, most of it drawing slides and registering; what is made is used again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from stainda.annotations import read_shapes
from stainda.cohort import Section, read_manifest
from stainda.config import PhantomConfig, PropagationConfig, RegistrationConfig
from stainda.files import write_csv, write_text
from stainda.objects.overlap import dice_pairs
from stainda.phantom import make_cohort, true_map
from stainda.randomness import generator_for
from stainda.registration.affine import apply_affine
from stainda.registration.calibration import TABLE, Logistic
from stainda.registration.confidence import FEATURES, OF_CONTENT
from stainda.registration.propagated_shapes import PropagatedShapes
from stainda.registration.propagator import Propagator
from stainda.registration.results import BlockResult, load_block
from stainda.registration.transforms import Transform, from_backward

FIRST, SECOND = ("PAS", "SR", "PAS", "CD68"), ("PAS", "JONES", "PAS", "CD34")
LATTICE, RIM = 24, 10  # level-0 pixels between nodes, and nodes beyond the slide
RIGHT = 0.5  # Dice from which an outline is right
EDGES = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.95, 1.0])


@dataclass(frozen=True)
class Group:
    """Blocks of one spacing, and the errors they are registered with (root mean square, micrometres)."""

    gap: int
    stains: tuple[str, ...]
    fit_seed: int
    held_out_seed: int
    errors: tuple[float, ...]

    def config(self, kind: str) -> PhantomConfig:
        seed = self.fit_seed if kind == "fit" else self.held_out_seed
        return PhantomConfig(patients=2, size=1536, mpp=0.75, gap_sections=self.gap, stains=self.stains, seed=seed)


# The stains of the held-out blocks differ from those fitted on where the gaps are 4 and 14.
GROUPS = (
    Group(0, FIRST, 301, 401, (3, 12, 50)),
    Group(4, SECOND, 302, 402, (8, 80)),
    Group(9, FIRST, 303, 403, (12, 60)),
    Group(14, FIRST, 304, 404, (8, 40)),
)
HELD_OUT_STAINS = {4: SECOND, 14: SECOND}
THICKNESS = 3.0


def main() -> None:
    options = _options()
    work, out = Path(options.work), Path(options.out or Path(options.work) / "report")
    if options.fit:
        _fit(pd.concat([_collected(work, "fit", group) for group in GROUPS], ignore_index=True))
    rows = pd.concat([_collected(work, "held_out", group) for group in GROUPS])
    if options.valis:
        rows = pd.concat([rows, _registered(work, options.registered)])
    _evaluate(rows.reset_index(drop=True), out, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the table first, on blocks of other seeds")
    parser.add_argument("--work", default="runs/propagation_calibration", help="where blocks and measurements are kept")
    parser.add_argument("--out", help="where the results go; default: WORK/report")
    parser.add_argument("--registered", help="run directory of a finished synthetic study, registered by VALIS")
    parser.add_argument("--no-valis", dest="valis", action="store_false", help="leave out the blocks VALIS registers")
    parser.add_argument("--json", action="store_true", help="the last line is a JSON object with the main numbers")
    return parser.parse_args()


# -- rows: one per object, target and set of sources ------------------------------------------------------------------


def _collected(work: Path, kind: str, group: Group) -> pd.DataFrame:
    """The rows of one group at all its errors, measured once and kept."""
    path = work / "rows" / f"{kind}_gap{group.gap}.parquet"
    if path.is_file():
        return pd.read_parquet(path)
    folder = work / kind / f"gap{group.gap}"
    config = group.config(kind)
    if kind == "held_out":
        config = config.model_copy(update={"stains": HELD_OUT_STAINS.get(group.gap, group.stains)})
    cohort = read_manifest(make_cohort(config, folder))
    spacing = THICKNESS * (1 + group.gap)
    frames = []
    for block, sections in cohort.blocks().items():
        propagator: Propagator | None = None
        for error in group.errors:
            result = simulated(block, sections, folder / "truth", error, config.seed)
            propagator = propagator or _propagator(result, sections, spacing)
            propagator.result = result
            name = f"{spacing:g} µm apart, error {error:g} µm"
            frames.append(pd.DataFrame(_rows(propagator)).assign(group=name, error=error))
    frame = pd.concat(frames, ignore_index=True).assign(spacing=spacing, kind="simulated")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return frame


def _registered(work: Path, run: str | None) -> pd.DataFrame:
    """The same of blocks that VALIS registered."""
    path = work / "rows" / "valis.parquet"
    if path.is_file():
        return pd.read_parquet(path)
    if run is None:
        from stainda.registration import register_cohort

        folder = work / "valis"
        config = PhantomConfig(patients=4, size=1536, mpp=0.75, stains=("PAS", "SR", "CD68"), seed=501)
        manifest = make_cohort(config, folder / "phantom")
        register_cohort(read_manifest(manifest), RegistrationConfig(), folder)
    else:
        folder = Path(run)
        manifest = folder / "phantom" / "manifest.csv"
    rows: list[dict[str, Any]] = []
    for block, sections in read_manifest(manifest).blocks().items():
        rows += list(_rows(_propagator(load_block(folder / "registration", block), sections, THICKNESS)))
    frame = pd.DataFrame(rows).assign(group="3 µm apart, VALIS", spacing=THICKNESS, error=np.nan, kind="valis")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return frame


def simulated(block: str, sections: Sequence[Section], truth: Path, error: float, seed: int) -> BlockResult:
    """A registration of known quality: the true maps of the sections onto the second one, and a smooth error."""
    maps = {row.slide: true_map(truth / f"{row.slide}.npz") for row in sections}
    reference = sections[1].slide
    transforms = {}
    for row in sections:
        with np.load(truth / f"{row.slide}.npz", allow_pickle=False) as data:
            side = int(data["size"])
        size = (side, side)
        if row.slide == reference:
            transforms[row.slide] = Transform.identity(row.slide, size)
            continue
        number = side // LATTICE + 2 * RIM
        post = np.array([[LATTICE, 0, -RIM * LATTICE], [0, LATTICE, -RIM * LATTICE], [0, 0, 1.0]])
        y, x = np.mgrid[:number, :number]
        nodes = np.stack([x.ravel(), y.ravel()], 1).astype(float)
        frame = maps[reference].to_frame(apply_affine(post, nodes))
        section = maps[row.slide].from_frame(frame + _error(frame, error, generator_for(seed, row.slide, f"{error}")))
        straight, *_ = np.linalg.lstsq(np.column_stack([section, np.ones(len(section))]), nodes, rcond=None)
        pre = np.vstack([straight.T, [0, 0, 1]])
        backward = (apply_affine(pre, section) - nodes).T.reshape(2, number, number).astype(np.float32)
        transforms[row.slide] = from_backward(Transform(row.slide, reference, size, size, pre, post), backward)
    return BlockResult(block, "simulated", reference, transforms, {}, ())


def _error(frame: np.ndarray, rms: float, generator: np.random.Generator) -> np.ndarray:
    """A smooth displacement (n, 2) in micrometres: a shift and six waves, of equal weight in the mean square."""
    turn = generator.uniform(0, 2 * np.pi)
    out = np.tile(rms / np.sqrt(2) * np.array([np.cos(turn), np.sin(turn)]), (len(frame), 1))
    for _ in range(6):
        length = generator.uniform(max(300, 14 * rms), max(1200, 20 * rms))
        heading, phase, side = generator.uniform(0, 2 * np.pi, 3)
        wave = np.sin(frame @ np.array([np.cos(heading), np.sin(heading)]) * 2 * np.pi / length + phase)
        out += rms / np.sqrt(6) * wave[:, None] * np.array([np.cos(side), np.sin(side)])
    return out


def _propagator(result: BlockResult, sections: Sequence[Section], spacing: float) -> Propagator:
    config = PropagationConfig(spacing_um=spacing, min_area_ratio=1e-6, max_area_ratio=1e6)
    propagator = Propagator(result, sections, config)
    propagator.prepare(_shapes(sections), sections)
    return propagator


def _shapes(sections: Sequence[Section]) -> dict[str, Any]:
    return {row.slide: read_shapes(row.annotations) for row in sections if row.annotations is not None}


def _rows(propagator: Propagator) -> Iterator[dict[str, Any]]:
    shapes = _shapes(propagator.sections)
    for target in propagator.sections:
        sources = [
            row for row in propagator.sections if row.slide != target.slide and not propagator.obstacle(row, target)
        ]
        propagated = [propagator.propagate(shapes[row.slide], row, target) for row in sources]
        truth = shapes[target.slide].set_index("id").geometry
        for chosen in _subsets(propagated, target):
            for one in propagator.join(chosen, target):
                source, row = one.members[0]
                identity = chosen[source].shapes["id"].iloc[row]
                yield {
                    **one.features, "block": propagator.result.block, "target": target.slide, "object": identity,
                    "sources": len(chosen), "how": one.how.split(" ")[0],
                    "exists_truly": identity in truth.index,
                    "dice": _dice(one.geometry, truth.get(identity)),
                }  # fmt: skip


def _subsets(propagated: Sequence[PropagatedShapes], target: Section) -> Iterator[tuple[PropagatedShapes, ...]]:
    """Each source alone, all together, and every two on different sides of the target."""
    for number in sorted({1, 2, len(propagated)}):
        for chosen in itertools.combinations(propagated, number):
            sides = {one.section.section > target.section for one in chosen}
            if number != 2 or len(sides) == 2 or len(propagated) == 2:
                yield chosen


def _dice(first: Any, second: Any) -> float:
    if second is None or first.is_empty:
        return 0.0
    pair = dice_pairs(np.array([first], dtype=object), np.array([second], dtype=object))[2]
    return float(pair[0]) if len(pair) else 0.0


# -- fitting ----------------------------------------------------------------------------------------------------------


def _fit(rows: pd.DataFrame) -> None:
    """Write the table the package reads."""
    measured = {name: rows[name].to_numpy(float) for name in FEATURES}
    # every group counts alike, and so does every number of sources within it
    weights = 1 / rows.groupby(["group", "sources"])["dice"].transform("size").to_numpy(float)
    weights *= len(rows) / weights.sum()
    truth = {"right": rows["dice"].to_numpy() >= RIGHT, "exists": rows["exists_truly"].to_numpy(bool)}
    blocks = (rows["spacing"].astype(str) + rows["block"]).to_numpy(str)
    plain = {name: values for name, values in measured.items() if name not in OF_CONTENT}
    models = {}
    for name, values in truth.items():
        models[name] = _tempered(measured, values, weights, blocks).as_table()
        models[f"{name}_plain"] = _tempered(plain, values, weights, blocks).as_table()
    made = {
        "by": "python benchmarks/propagation_calibration.py --fit",
        "objects": "glomeruli of synthetic kidney blocks; one row per object, target and set of source sections",
        "rows": len(rows),
        "right_share": round(float(truth["right"].mean()), 4),
        "exists_share": round(float(truth["exists"].mean()), 4),
        "seeds": [group.fit_seed for group in GROUPS],
        "groups": sorted(rows["group"].unique().tolist()),
        "right_means": f"Dice of at least {RIGHT} with the true outline",
    }
    text = yaml.safe_dump({"made": made, "models": models}, sort_keys=False, allow_unicode=True, width=110)
    write_text(TABLE, "# Written by benchmarks/propagation_calibration.py; read by calibration.py.\n" + text)
    print(f"fitted on {len(rows)} rows: {TABLE}")


def _tempered(
    measured: Mapping[str, np.ndarray], truth: np.ndarray, weights: np.ndarray, blocks: np.ndarray
) -> Logistic:
    """The model of all blocks, its logits scaled and shifted so that they hold for a block it has not seen.

    Rows of one block are alike, so a model is surer about them than about others. Each block is predicted by a model of
    the other blocks; a logistic regression of the truth on these logits (Platt 1999) gives slope and shift.
    """
    from scipy.special import logit

    seen = np.zeros(len(truth))
    for block in np.unique(blocks):
        out = blocks == block
        model = Logistic.fit({n: v[~out] for n, v in measured.items()}, truth[~out], weights[~out])
        seen[out] = logit(np.clip(model({n: v[out] for n, v in measured.items()}), 1e-4, 1 - 1e-4))
    line = Logistic.fit({"logit": seen}, truth, weights, ridge=1e-6)
    slope = float(line.weight[0] / line.scale[0])
    shift = line.intercept - slope * float(line.centre[0])
    model = Logistic.fit(measured, truth, weights)
    return replace(model, weight=slope * model.weight, intercept=slope * model.intercept + shift)


# -- evaluation -------------------------------------------------------------------------------------------------------


def _evaluate(rows: pd.DataFrame, out: Path, as_json: bool) -> None:
    from stainda.registration.confidence import probabilities

    right, exists = probabilities({name: rows[name].to_numpy(float) for name in FEATURES})
    rows = rows.assign(confidence=right, exists=exists, right=rows["dice"] >= RIGHT)
    tables = {
        "reliability": [
            row
            for name, part in [("all", rows), *rows.groupby("group")]
            for row in reliability(part["confidence"], part["right"], str(name))
        ],
        "groups": [_summary(str(name), part) for name, part in [("all", rows), *rows.groupby("group")]],
        "existence": [_existence(str(name), part) for name, part in [("all", rows), *rows.groupby("spacing")]],
    }
    for name, table in tables.items():
        write_csv(out / f"{name}.csv", table, tuple(table[0]))
        print(f"\n{name}\n{pd.DataFrame(table).to_string(index=False) if name != 'reliability' else ''}")
        if name == "reliability":
            frame = pd.DataFrame(table)
            print(frame[frame["group"] == "all"].to_string(index=False))
    _draw(rows, out / "reliability.png")
    print(f"\nwritten to {out}")
    if as_json:
        sure = rows[(rows["confidence"] >= 0.85) & (rows["confidence"] < 0.95)]
        found = _existence("all", rows)
        print(json.dumps({
            "rows": len(rows), "said": round(float(sure["confidence"].mean()), 4),
            "right": round(float(sure["right"].mean()), 4),
            "existence_precision": found["precision"], "existence_recall": found["recall"],
            "ended_precision": found["ended_precision"], "ended_recall": found["ended_recall"],
        }))  # fmt: skip


def reliability(said: pd.Series, right: pd.Series, group: str) -> list[dict[str, Any]]:
    """Of objects said to be so sure, how many are right; with the 95 % interval of Wilson (1927)."""
    rows = []
    place = np.clip(np.digitize(said, EDGES) - 1, 0, len(EDGES) - 2)
    for k in range(len(EDGES) - 1):
        here = (place == k).to_numpy() if isinstance(place, pd.Series) else place == k
        n = int(here.sum())
        if not n:
            continue
        share, z = float(right[here].mean()), 1.96
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        rows.append({
            "group": group, "from": EDGES[k], "to": EDGES[k + 1], "n": n, "said": round(float(said[here].mean()), 4),
            "right": round(share, 4), "low": round(middle - half, 4), "high": round(middle + half, 4),
        })  # fmt: skip
    return rows


def _summary(name: str, part: pd.DataFrame) -> dict[str, Any]:
    sure = part[(part["confidence"] >= 0.85) & (part["confidence"] < 0.95)]
    place = np.clip(np.digitize(part["confidence"], np.linspace(0, 1, 11)) - 1, 0, 9)
    gaps = part.groupby(place).apply(lambda p: abs(p["confidence"].mean() - p["right"].mean()) * len(p))
    there = part[part["exists_truly"]]
    kept = part[part["confidence"] >= 0.5]
    return {
        "group": name, "n": len(part), "right": round(part["right"].mean(), 3),
        "said": round(part["confidence"].mean(), 3), "n_90": len(sure),
        "said_90": round(sure["confidence"].mean(), 3), "right_90": round(sure["right"].mean(), 3),
        "calibration_error": round(gaps.sum() / len(part), 3), "auc": _auc(part["confidence"], part["right"]),
        "dice_existing": round(there["dice"].mean(), 3), "kept": round(len(kept) / len(part), 3),
        "dice_kept": round(kept["dice"].mean(), 3), "wrong_kept": round(1 - kept["right"].mean(), 3),
    }  # fmt: skip


def _existence(name: str, part: pd.DataFrame) -> dict[str, Any]:
    """Precision and recall of "it is there", and of "it has ended", at a probability of 0.5."""
    said, true = part["exists"].to_numpy() >= 0.5, part["exists_truly"].to_numpy(bool)

    def share(hits: np.ndarray, of: np.ndarray) -> float | None:
        return round(float(hits.sum() / of.sum()), 4) if of.sum() else None

    return {
        "spacing_um": name, "n": len(part), "there": int(true.sum()), "ended": int((~true).sum()),
        "precision": share(said & true, said), "recall": share(said & true, true),
        "ended_precision": share(~said & ~true, ~said), "ended_recall": share(~said & ~true, ~true),
        "auc": _auc(part["exists"], part["exists_truly"]),
    }  # fmt: skip


def _auc(said: pd.Series, true: pd.Series) -> float | None:
    rank, true = said.rank().to_numpy(), true.to_numpy(bool)
    a, b = int(true.sum()), int((~true).sum())
    return round(float((rank[true].sum() - a * (a + 1) / 2) / (a * b)), 4) if a and b else None


def _draw(rows: pd.DataFrame, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.4), sharey=True)
    parts: Mapping[str, pd.DataFrame] = {"all": rows}
    kinds = {"registered by VALIS": rows["kind"] == "valis"}
    kinds |= {f"{spacing:g} µm apart": (rows["kind"] == "simulated") & (rows["spacing"] == spacing)
              for spacing in sorted(rows["spacing"].unique())}  # fmt: skip
    for axis, some in ((axes[0], parts), (axes[1], {name: rows[where] for name, where in kinds.items()})):
        axis.plot([0, 1], [0, 1], color="0.7", lw=1)
        axis.fill_between([0, 1], [-0.05, 0.95], [0.05, 1.05], color="0.93", lw=0)
        for name, part in some.items():
            table = pd.DataFrame(reliability(part["confidence"], part["right"], name))
            if table.empty:
                continue
            table = table[table["n"] >= 20]
            bars = np.abs(table[["low", "high"]].to_numpy() - table[["right"]].to_numpy()).T
            axis.errorbar(table["said"], table["right"], bars, marker="o", ms=3.5, lw=1.2, capsize=2, label=name)
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence")
        axis.legend(loc="upper left", frameon=False, fontsize=8)
    axes[0].set(ylabel="share with Dice ≥ 0.5", title="held-out blocks together")
    axes[1].set(title="by distance between sections")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
