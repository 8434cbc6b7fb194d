"""What all strategies have in common: the recipe of a study, as the page states it."""

from __future__ import annotations

import pandas as pd

from stainda.config import RecipeConfig
from stainda.files import load_json
from stainda.report.figure_registry import register_table
from stainda.report.run import LoadedRun
from stainda.report.summary_text import Sentence, count
from stainda.report.tables import PageTable, text
from stainda.run_directory.contents import SETTINGS


@register_table("recipe")
def recipe(run: LoadedRun) -> PageTable:
    """Network, weights, patches, geometry, sampling, loss and loop, and the strategies that depart from them."""
    from stainda.strategies.shared_settings import shared_settings

    rows, shown = [], []
    for setting in shared_settings(run.study):
        value = _weights_used(run) or setting.value if setting.setting == "starting weights" else setting.value
        departs = "; ".join(f"{run.label(name)}: {other}" for name, other in setting.departs)
        rows.append({"setting": setting.setting, "value": value, "departs": departs})
        shown.append([text(setting.setting.capitalize()), text(value), text(departs, reason=True)])
    return PageTable(
        "recipe", "What all strategies have in common, and those that depart from it.",
        ("Setting", "Value", "Other in"), shown, pd.DataFrame(rows), note=_of_the_recipe(run.study.recipe),
    )  # fmt: skip


def _of_the_recipe(recipe: RecipeConfig) -> str:
    """Its own description, which knows nothing of what a study changes."""
    if not recipe.changed or not recipe.description:
        return recipe.description
    return f"The recipe without the changes of this study: {recipe.description}"


def weights_caution(run: LoadedRun) -> list[Sentence]:
    """What a random start costs, where the recipe's weights were not found."""
    from stainda.models.weight_files import COST

    missing = next((model.weights_missing for model, _ in run.study.networks() if model.weights_missing), "")
    if not missing:
        return []
    return [Sentence(f"The network started from random weights, since {missing} was not here: {COST}.", "caution")]


def _weights_used(run: LoadedRun) -> str:
    """What the trainings started from, as each wrote it down; empty where none has."""
    used: dict[str, int] = {}
    for job in run.jobs.values():
        path = SETTINGS.inside(job.folder)
        if path.is_file():
            model = load_json(path).get("model", {})
            used[_start(model)] = used.get(_start(model), 0) + 1
    if len(used) < 2:
        return next(iter(used), "")
    return "; ".join(f"{name} ({count(number, 'training')})" for name, number in used.items())


def _start(model: dict[str, str | None]) -> str:
    name, missing, digest = model.get("weights"), model.get("weights_missing"), model.get("weights_sha256") or ""
    if not name:
        return f"random weights ({missing} was not found)" if missing else "random weights"
    result = f" (found, SHA-256 {digest[:12]}…)" if digest else ""
    return f"{str(name).replace(chr(92), '/').rsplit('/', 1)[-1]}{result}"
