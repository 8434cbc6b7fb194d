"""What can be named in a study, for ``stainda list``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stainda.config import StrategyConfig, available
from stainda.config.load import load_piece
from stainda.errors import ConfigError, did_you_mean

FIRST = ("source_only", "hed_augmentation", "reinhard", "adabn", "dann", "propagated_adabn", "oracle")
"""Strategies to begin with: the baseline, one of each simple family, and the ceiling."""

FAMILIES = {
    "baseline": "the plain network, with which all others are compared",
    "augmentation": "colours and textures are varied in training; no target image is needed",
    "colour views": "what the network sees is normalised or reduced; the template comes from the source",
    "batch statistics": "means and variances of the layers are those of each domain",
    "adversarial": "features or outputs from which a discriminator cannot tell the domains",
    "discrepancy": "a distance between source and target features is made small",
    "predictions": "answers on unlabelled targets are made sure, diverse, smooth or alike between classifiers",
    "self-training": "a teacher's answers on unlabelled targets are learned from",
    "generalisation": "what is learned from the sources is made to hold elsewhere; no target image is needed",
    "adversarial segmentation": "masks are to pass for annotated ones; labelled sources alone, no domains aligned",
    "serial sections": "the same tissue on consecutive sections has to be answered alike",
    "propagated labels": "annotations that registration propagated to the targets are learned from",
    "several annotators": "what each annotator says is learned from",
    "few target labels": "a few objects of the target are annotated",
    "at test time": "the trained network is adapted to, or averaged over, each slide",
    "ceiling": "knows the targets' labels: what is possible at most, excluded from the ranking",
    "other alignment": "other losses on unlabelled target images",
}
"""Families of strategies, in the order in which they are listed."""

_ALIGNED: dict[str, tuple[str, ...]] = {
    "adversarial": (
        "dann", "cdan", "bsp", "gvb", "adda", "domain_confusion", "adaptsegnet", "advent", "feature_mask_adversarial",
        "dsn", "ac_gan",
    ),
    "discrepancy": ("coral", "jan", "mmd", "sliced_wasserstein", "afn"),
    "predictions": (
        "bnm", "entropy", "information_maximisation", "mcc", "mcd", "rtn", "symnets", "atdoc", "vat", "vada",
    ),
    "self-training": ("mean_teacher", "fixmatch", "dacs", "mic"),
    "generalisation": (
        "irm", "vrex", "group_dro", "fishr", "swad", "eqrm", "mldg", "fish", "mixup", "cutmix", "sagnet", "selfreg",
        "feature_distance",
    ),
    "adversarial segmentation": ("adversarial_segmentation",),
    "several annotators": ("aggnet",),
    "serial sections": ("serial_consistency", "together"),
    "other alignment": (),
}  # fmt: skip

_LINE = 110

KINDS = ("strategies", "recipes", "models", "tasks", "heads", "aggregators", "stains", "parts", "data")

SIZES = {
    "models": "million parameters, with two classes",
    "heads": "parameters, on the 16 last features of a U-Net",
    "aggregators": "parameters, of 512 features",
}
"""What ``size`` of an entry counts, by kind."""


@dataclass(frozen=True)
class Entry:
    """A name, what it is in a line or two, the parts it is made of, and the paper.

    ``family`` groups entries of one kind; ``first`` marks those to begin with; ``size`` is the number of parameters
    (:data:`SIZES`).
    """

    name: str
    description: str
    parts: str = ""
    reference: str = ""
    file: Path | None = None
    tasks: tuple[str, ...] = ()
    family: str = ""
    first: bool = False
    size: str = ""

    @property
    def paper(self) -> str:
        """Authors and year."""
        return re.split(r",\s+(?=https?:|doi )|(?<=\d{4}),\s+(?=[A-Z])|;", self.reference)[0]

    @property
    def line(self) -> str:
        """The first sentence of the description; of a long one, the part before a semicolon or colon."""
        sentence = re.split(r"[.](?=\s|$)", self.description)[0]
        return sentence if len(sentence) <= _LINE else re.split(r"[;:](?=\s)", sentence)[0]


def pick(entries: Sequence[Entry], kind: str, family: str | None = None, search: str | None = None) -> list[Entry]:
    """The entries of a family, and those in which every word of ``search`` occurs (name, description, parts, paper).

    Raises:
        ConfigError: no such family, or nothing found; the message names the nearest.
    """
    result = list(entries)
    if family is not None:
        families = dict.fromkeys(entry.family for entry in entries if entry.family)
        if not families:
            raise ConfigError(f"{kind} have no families", remedy="Leave --family out")
        near = [known for known in families if known.casefold() == family.casefold()]
        near = near or [known for known in families if family.casefold() in known.casefold()]
        if not near:
            raise ConfigError(f"no family {family!r} among the {kind}", remedy=did_you_mean(family, families))
        result = [strategy for strategy in result if strategy.family == near[0]]
    if search is not None:
        words = search.casefold().split()
        texts = {
            strategy.name: " ".join(
                (strategy.name, *map(str, (strategy.description, strategy.parts, strategy.reference)))
            )
            for strategy in result
        }
        result = [strategy for strategy in result if all(word in texts[strategy.name].casefold() for word in words)]
        if not result:
            raise ConfigError(f"none of the {kind} speaks of {search!r}", remedy="Try one word, or leave --search out")
    return result


def find_entry(entries: Sequence[Entry], kind: str, name: str) -> Entry:
    """One entry by its name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    for entry in entries:
        if entry.name.casefold() == name.strip().casefold().replace("-", "_"):
            return entry
    near = difflib.get_close_matches(name, [entry.name for entry in entries], n=4, cutoff=0.5)
    speaking = [entry.name for entry in entries if name.casefold() in entry.description.casefold()][:4]
    meant = ", ".join(dict.fromkeys([*near, *speaking]))
    remedy = f"Did you mean {meant}?" if meant else f"'stainda list {kind}' shows all"
    raise ConfigError(f"there is no {name!r} among the {kind}", remedy=remedy)


def catalogue(kind: str, near: str | Path | None = None) -> list[Entry]:
    """All that ``kind`` offers.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind == "strategies":
        return _strategies(near)
    if kind == "models":
        return _models(near)
    if kind == "tasks":
        return [_piece(kind, name, file, near) for name, file in sorted(available(kind, near).items())]
    if kind == "heads":
        return _heads()
    if kind == "aggregators":
        return _aggregators()
    if kind == "recipes":
        return [_recipe(name, file, near) for name, file in sorted(available(kind, near).items())]
    if kind == "stains":
        return _stains()
    if kind == "parts":
        return _parts()
    if kind == "data":
        return _data()
    raise ConfigError(f"nothing to list under {kind!r}", remedy=did_you_mean(kind, KINDS))


def _heads() -> list[Entry]:
    """Heads of tasks of instances, with what they add to a network."""
    from stainda.config import ModelConfig
    from stainda.instances import RegionHead, describe_heads
    from stainda.instances.base import known_heads
    from stainda.models import build_model, count_parameters

    def size(name: str) -> str:
        head = known_heads()[name]()
        if isinstance(head, RegionHead):
            return "those of its network"
        return f"{count_parameters(build_model(unet, 3, 2 + head.channels)) - plain:,}"

    unet = ModelConfig(name="unet")
    plain = count_parameters(build_model(unet, 3, 2))
    return [
        Entry(row["name"], row["summary"], row["parameters"], row["reference"], size=size(row["name"]))
        for row in describe_heads()
    ]


def _aggregators() -> list[Entry]:
    """What ``slide_level.aggregators`` may name."""
    from stainda.config.slide_level import SlideTrainingConfig
    from stainda.models import count_parameters
    from stainda.slide_level.aggregators import REFERENCES, SUMMARIES, BagNetwork
    from stainda.slide_level.torchmil_here import OF_TORCHMIL, torchmil_is_here

    learns = SlideTrainingConfig()
    entries = []
    for name, summary in SUMMARIES.items():
        of_torchmil = name in OF_TORCHMIL
        here = not of_torchmil or torchmil_is_here()
        size = f"{count_parameters(BagNetwork(name, 512, learns.hidden, learns.dropout)):,}" if here else ""
        parts = "" if here else "needs the package torchmil: pip install 'stainda[bags]'"
        paper = REFERENCES[name].rpartition("; ")[2]  # what stands before it is the summary
        entries.append(Entry(name, summary, parts, paper if "et al." in paper else "", size=size))
    return entries


def _strategies(near: str | Path | None) -> list[Entry]:
    from stainda.config import load_strategy
    from stainda.strategies import build

    entries = []
    for name, file in sorted(available("strategies", near).items()):
        config = load_strategy(name, near)
        named = {
            "view": config.view.name, "augment": "+".join(part.name for part in config.augment),
            "labels": config.labels.name, "align": config.align.name, "norm": config.norm.name,
            "after": config.after.name,
        }  # fmt: skip
        parts = ", ".join(f"{kind} {value}" for kind, value in named.items() if value not in ("none", ""))
        text, tasks = " ".join(config.description.split()), build(config).tasks
        family = _family(config)
        entries.append(Entry(name, text, parts, config.reference, file, tasks, family, name in FIRST))
    order = list(FAMILIES)
    return sorted(entries, key=lambda entry: (order.index(entry.family), entry.name))


def _family(config: StrategyConfig) -> str:
    """The family of a strategy, by what it adds to the plain network."""
    by_labels = {
        "all": "ceiling",
        "few_shot": "few target labels",
        "propagated": "propagated labels",
        "annotators": "several annotators",
    }
    if config.labels.name in by_labels:
        return by_labels[config.labels.name]
    align = config.align.name
    parts = tuple(config.align.params.get("parts", ()))
    if parts and "serial_consistency" not in parts:
        align = parts[0]
    if align != "none":
        return next(name for name, aligned in _ALIGNED.items() if align in aligned or name == "other alignment")
    if config.after.name == "cross_stain_agreement":
        return "serial sections"
    if config.after.name != "none":
        return "at test time"
    if config.view.name != "rgb":
        return "colour views"
    if any(part.name != "geometry" for part in config.augment):
        return "augmentation"
    return "baseline" if config.norm.name == "shared" else "batch statistics"


def _piece(kind: str, name: str, file: Path, near: str | Path | None) -> Entry:
    raw = load_piece(kind, name, near)
    description = " ".join(str(raw.get("description", "")).split())
    return Entry(name, description, reference=str(raw.get("reference", "")), file=file)


def _models(near: str | Path | None) -> list[Entry]:
    """The models, grouped by the kinds of tasks they are for."""
    entries = []
    for name, file in sorted(available("models", near).items()):
        raw, entry = load_piece("models", name, near), _piece("models", name, file, near)
        sizes: dict[str, float] = raw.get("million_parameters", {})
        settings = ", ".join(f"{key} {value}" for key, value in raw.get("params", {}).items())
        family = " or ".join(sizes) or "of your own"
        size = " / ".join(f"{millions:g}" for millions in sizes.values())
        parts = f"network {raw['name']}" + (f" ({settings})" if settings else "")
        entries.append(replace(entry, parts=parts, tasks=tuple(sizes), family=family, size=size))
    return sorted(entries, key=lambda entry: (entry.family != "segmentation", -len(entry.tasks), entry.name))


def _recipe(name: str, file: Path, near: str | Path | None) -> Entry:
    from stainda.config.recipes import DEFAULT, load_recipe

    raw = load_recipe(name, near)
    entry = _piece("recipes", name, file, near)
    parts = []
    for key in ("model", "classifier"):
        if key in raw:
            weights = raw[key].get("weights")
            file_name = weights["file"] if isinstance(weights, dict) else weights
            encoder = raw[key].get("params", {}).get("encoder")
            parts.append(
                f"{key} {raw[key]['name']}{f' ({encoder})' if encoder else ''} from {file_name or 'random weights'}"
            )
    own = tuple(raw.get("tasks", ()))
    for task in own:
        changes = [f"{'.'.join(path)} {value}" for path, value in _leaves(raw["tasks"][task])]
        parts.append(f"for {task}: {', '.join(changes)}")
    if changes := [f"{'.'.join(path)} {value}" for path, value in _leaves(raw.get("random_start", {}))]:
        parts.append(f"from random weights: {', '.join(changes)}")
    return replace(
        entry, parts="; ".join(parts), first=name == DEFAULT, tasks=tuple(raw.get("kinds", ())) or entry.tasks
    )


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Settings with their paths."""
    for key, inner in values.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, (*above, key))
        else:
            yield (*above, key), "empty" if inner is None else inner


def _stains() -> list[Entry]:
    from stainda.stains.table import STAINS

    return [Entry(name, stain.title, parts=", ".join(stain.dyes)) for name, stain in STAINS.items()]


def _parts() -> list[Entry]:
    from stainda.strategies import PARTS

    return [
        Entry(name, part.summary(), parts=kind, reference=part.reference, family=kind)
        for kind, parts in PARTS.items()
        for name, part in sorted(parts.items())
    ]


def _data() -> list[Entry]:
    from stainda.datasets import DATASETS

    return [
        Entry(
            dataset.name,
            f"{dataset.title}: {dataset.good_for}",
            parts=f"stains: {dataset.stains}; centres: {dataset.centres}; licence: {dataset.licence}",
            reference=f"{dataset.where} (stainda manifest make {dataset.name} FOLDER)",
        )
        for dataset in DATASETS.values()
    ]
