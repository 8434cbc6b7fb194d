"""A run that goes on under other versions than it began with: said, and refused where results would be mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stainda.errors import StaindaError
from stainda.files import load_json, write_json
from stainda.run_directory.contents import DONE, ENVIRONMENT
from stainda.run_directory.folder import RunFolder
from stainda.study.environment import versions

MIXING = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "pytorch-adapt", "numpy", "scipy", "scikit-image",
)  # fmt: skip
"""Packages whose other version may train the same settings to other weights, or score them otherwise. Changes of
stainda itself that do are in the names of trainings."""


def write_environment(
    folder: RunFolder, now: dict[str, Any], force: bool = False, say: Callable[[str], None] = lambda text: None
) -> None:
    """Write ``environment.json``; what differs from the earlier call is said, and kept where ``force`` accepts it.

    Raises:
        StaindaError: trainings that are there were made with other versions of packages that results depend on.
    """
    path = ENVIRONMENT.at(folder.root)
    before = read_environment(folder)
    changed = changed_versions(before, now)
    mixing = {name: both for name, both in changed.items() if name in MIXING}
    trained = any(folder.jobs.glob(f"*/{DONE.name}"))
    listed = ", ".join(f"{name} {old} then {new}" for name, (old, new) in changed.items())
    if mixing and trained and not force:
        raise StaindaError(
            f"trainings of this run were made with other versions ({listed}); new ones would not be comparable",
            file=path,
            remedy="Use the versions of environment.json, take another --out, or accept it with --force",
        )
    accepted = list(before.get("accepted", []))
    if mixing and trained:
        accepted.append({name: list(both) for name, both in mixing.items()})
        say(f"note: accepted with --force, and recorded in environment.json: {listed}")
    elif changed and before:
        say(f"note: other versions than in the call before: {listed}")
    if before.get("commit") != now.get("commit") and before.get("commit") and trained:
        say(f"note: other code than in the call before: {str(before['commit'])[:12]} then {str(now['commit'])[:12]}")
    write_json(path, {**now, **({"accepted": accepted} if accepted else {})})


class OtherVersionsError(StaindaError):
    """What joins a run has other versions of packages that results depend on."""


def mixing_versions() -> dict[str, str | None]:
    """The versions here of the packages of :data:`MIXING`."""
    return {name: version for name, version in versions().items() if name in MIXING}


def refuse_other_versions(of_run: Mapping[str, Any], who: str) -> None:
    """Refuse to take part in a run of other versions; ``of_run``: those that are known of it.

    Raises:
        OtherVersionsError: a package of :data:`MIXING` has another version here.
    """
    here = mixing_versions()
    other = [
        f"{name} {of_run[name]}, here {here[name]}" for name in here if name in of_run and of_run[name] != here[name]
    ]
    if other:
        raise OtherVersionsError(
            f"{who} has other versions than the run ({'; '.join(other)}); its trainings would not be comparable",
            remedy="Install the versions of the run's environment.json there",
        )


def changed_versions(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Versions of packages, (then, now) by name, that differ between two ``environment.json``; of packages in both."""
    then = before.get("versions", {})
    return {
        name: (then[name], version)
        for name, version in now.get("versions", {}).items()
        if name in then and then[name] != version
    }


def read_environment(folder: RunFolder) -> dict[str, Any]:
    """``environment.json`` of a run; empty where there is none that can be read."""
    path = ENVIRONMENT.at(folder.root)
    if not path.is_file():
        return {}
    try:
        values = load_json(path)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
