"""What a study is going to do, before it does any of it: rotations, budget, and about how long it takes here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from stainda.cohort import Rotation
from stainda.config import ModelConfig, StudyConfig, available, load_piece
from stainda.config.load import validated
from stainda.config.recipes import load_recipe
from stainda.run_directory.folder import RunFolder
from stainda.study.answerable import refuse_unanswerable
from stainda.study.budget import Budget, budgets
from stainda.study.checks import manifest_of, plan_rotations
from stainda.study.converging import expectations
from stainda.study.environment import free_cores
from stainda.study.estimate import StageTime, estimate_stages
from stainda.study.learning import cache_notes, learning_notes
from stainda.study.leaving_out import trainings_without
from stainda.study.other_runs import with_starts
from stainda.study.pace import time_strategy, trained_alike, training_cpu_seconds


@dataclass(frozen=True)
class Plan:
    """What is going to be done.

    Attributes:
        rotations: one, where the study does not rotate.
        budgets: of every strategy, over all rotations.
        slides: annotated slides that each training is scored on, by rotation.
        cpu_seconds: about what all trainings take on this machine's CPU, registration and patches not counted;
            ``None`` where it was not requested, or where the size of the slides is not known before they are opened.
        notes: what the study cannot answer, and what was matched or is doubted, one sentence each.
        stages: about how long every stage takes here, with what that rests on.
        recipe: what all strategies have in common, in one line.
        registration: which blocks are registered here or elsewhere already; empty for a phantom that is not made yet.
    """

    rotations: tuple[Rotation, ...]
    budgets: list[Budget]
    slides: dict[str, int]
    cpu_seconds: float | None
    stages: list[StageTime] = field(default_factory=list)
    registration: str = ""
    notes: tuple[str, ...] = ()
    recipe: str = ""

    @property
    def jobs(self) -> int:
        return sum(allowance.jobs for allowance in self.budgets)


def plan_study(config: StudyConfig, out: str | Path | None = None, *, timed: bool = False) -> Plan:
    """Check a study as far as it can be without making or reading a slide's pixels, and count what it will do.

    Args:
        timed: also time a training step of each different network on this machine, for :attr:`Plan.cpu_seconds`. It
            needs torch, whose import alone takes seconds.

    Raises:
        StaindaError: what would stop the study at its start.
    """
    from stainda.models.patch_sizes import check_patch_size
    from stainda.strategies import build, check
    from stainda.strategies.shared_settings import recipe_line
    from stainda.study.compare import sections_to_score

    config = with_starts(config)
    for model, _ in config.networks():
        _check_model(model, config.task.network)
        check_patch_size(model, config.patches.size, config.task.network)
    for strategy in config.strategies:
        check(build(strategy), config)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / config.study)
    rotations = plan_rotations(config, manifest_of(config, folder))
    if not config.strategies:
        return _plan_of_slides(config, rotations, timed)
    notes = [*refuse_unanswerable(config, rotations), *expectations(config, folder.root)]
    notes += [*learning_notes(config), *cache_notes(config, folder)]
    costs = budgets(config, len(rotations), trainings_without(config, rotations))
    slides = {rotation.name: len(sections_to_score(rotation.cohort, rotation.roles)) for rotation in rotations}
    seconds = _training_seconds(config, rotations, costs, slides) if timed else None
    stages = expected_stages(config, rotations, costs, folder, seconds)
    registration = ""
    if config.phantom is None or manifest_of(config, folder).is_file():
        from stainda.registration import registration_standing

        registration = registration_standing(rotations[0].cohort, config.registration, folder.root).sentence
    return Plan(rotations, costs, slides, seconds, stages, registration, tuple(notes), recipe_line(config))


def _plan_of_slides(config: StudyConfig, rotations: tuple[Rotation, ...], timed: bool) -> Plan:
    """Of a study of labels of whole slides alone, of which nothing is timed."""
    from stainda.slide_level.labels import label_of

    assert config.slide_level is not None
    slides, label, seeds = config.slide_level, label_of(config.slide_level), config.protocol.seeds
    scored = {
        rotation.name: sum(
            bool(label(section))
            for section in rotation.cohort.where(
                domains=rotation.roles.targets or rotation.roles.sources, splits=["test"]
            )
        )
        for rotation in rotations
    }
    trainings = len(rotations) * len(slides.aggregators) * seeds
    encoder = slides.encoder.params.get("encoder", slides.encoder.name)
    line = (
        f"labels of slides: {' or '.join(slides.positive)} of column {slides.label}, by {slides.unit}; patches of "
        f"{slides.patches.size} pixels through {encoder}, which does not learn; {', '.join(slides.aggregators)} with "
        f"{seeds} seeds each: {trainings} trainings in all"
    )
    notes = ("what learns from whole slides is not timed",) if timed else ()
    return Plan(rotations, [], scored, None, notes=notes, recipe=line)


def expected_stages(
    config: StudyConfig,
    rotations: tuple[Rotation, ...],
    costs: list[Budget],
    folder: RunFolder,
    training_seconds: float | None,
) -> list[StageTime]:
    """About how long every stage takes, without that of the trainings where ``training_seconds`` is not known."""
    return estimate_stages(
        config, rotations[0].cohort, [rotation.roles for rotation in rotations], folder,
        workers=config.workers or free_cores(), jobs=sum(cost.jobs for cost in costs),
        training_cpu_seconds=training_seconds,
    )  # fmt: skip


def training_seconds(config: StudyConfig, rotations: tuple[Rotation, ...], costs: list[Budget]) -> float | None:
    """CPU seconds of all trainings, timed on this machine; ``None`` where the size of the slides is not known."""
    from stainda.study.compare import sections_to_score

    slides = {rotation.name: len(sections_to_score(rotation.cohort, rotation.roles)) for rotation in rotations}
    return _training_seconds(config, rotations, costs, slides)


def _training_seconds(
    config: StudyConfig, rotations: tuple[Rotation, ...], costs: list[Budget], slides: dict[str, int]
) -> float | None:
    pixels = _pixels_of_a_slide(config, rotations[0])
    if pixels is None:
        return None
    total = 0.0
    for strategy, names in trained_alike(config):
        own = [cost for cost in costs if cost.strategy in names]
        total += training_cpu_seconds(config, time_strategy(config, strategy), own, slides, pixels)
    return total


def _check_model(config: ModelConfig, task: str) -> None:
    """Build the network, unless it is one of configs/ and for this kind of task: known without torch.

    Whether weights are here is looked at without it, too; whether they fit is seen when the study starts.
    """
    from stainda.models import weights_at_hand

    weights_at_hand(config)
    pieces = [load_piece("models", name) for name in available("models")]
    for name in available("recipes"):
        raw = load_recipe(name)
        pieces += [raw[key] for key in ("model", "classifier") if key in raw]
    known = (validated(ModelConfig, piece, str(piece["name"])) for piece in pieces)
    wanted = (config.name, config.params, config.weights)
    same = [setting for setting in known if (setting.name, setting.params, setting.weights) == wanted]
    if any(not setting.million_parameters or task in setting.million_parameters for setting in same):
        return
    from stainda.models import check_model

    check_model(config, task)


def _pixels_of_a_slide(config: StudyConfig, rotation: Rotation) -> float | None:
    """Pixels of a slide at the working scale: of the phantom, or of the first slide of the manifest."""
    patches = config.patches
    if config.phantom is not None:
        scale = patches.downsample or (patches.mpp or 0) / config.phantom.mpp
        return (config.phantom.size / scale) ** 2
    from stainda.errors import SlideError
    from stainda.slides import open_slide

    section = rotation.cohort.sections[0]
    try:
        with open_slide(section.path, mpp=section.mpp) as slide:
            scale = patches.downsample or (patches.mpp or 0) / (slide.mpp or math.nan)
            pixels = slide.size[0] * slide.size[1] / scale**2
    except SlideError:
        return None
    return pixels if math.isfinite(pixels) else None
