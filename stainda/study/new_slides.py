"""Slides that a detector is applied to: files, folders and manifests, each slide with a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stainda.cohort import Cohort, Section, inspect_manifest
from stainda.errors import StaindaError
from stainda.names import ending, existing, file_names, stem

ENDINGS = (
    ".svs", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf", ".btf", ".tf8", ".ndpi",
    ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".dcm", ".png", ".jpg", ".jpeg", ".webp", ".bmp",
)  # fmt: skip
"""Of the files in a folder that are taken for slides."""


@dataclass(frozen=True)
class NewSlide:
    """A slide to be predicted.

    Attributes:
        name: of its files; no other slide has it.
        domain: what is known of ``stain``, ``centre`` and the other columns of a manifest that can name a domain.
        fault: why it cannot be used, where the manifest already tells.
    """

    path: Path
    name: str
    mpp: float | None = None
    domain: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True)
class NewSlides:
    """Slides, and the files of folders that are none, each with the reason."""

    slides: tuple[NewSlide, ...]
    passed_over: tuple[tuple[Path, str], ...] = ()


def find_slides(
    places: Sequence[str | Path | Cohort],
    *,
    data: str | Path | None = None,
    mpp: float | None = None,
    domain: Mapping[str, str] | None = None,
    taken: Mapping[str, str] | None = None,
) -> NewSlides:
    """The slides of files, folders (not what lies in folders below), manifests (``.csv``) and cohorts, each once.

    Args:
        data: the folder that a manifest's paths are relative to.
        mpp, domain: for slides of which the manifest tells none.
        taken: names that stand for slides already, by their absolute paths; they are kept.

    Raises:
        StaindaError: there is no slide, or a manifest cannot be read.
    """
    result: list[NewSlide] = []
    passed: list[tuple[Path, str]] = []
    given_domain = {key: value for key, value in (domain or {}).items() if value}
    for given in places:
        if isinstance(given, Cohort):
            result += _of_sections(given, {}, mpp, given_domain)
            continue
        place = existing(given)
        if place.is_dir():
            files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
            for path in files:
                if ending(path) in ENDINGS:
                    result.append(NewSlide(path, "", mpp, given_domain))
                else:
                    passed.append((path, f"its ending {ending(path) or '(none)'} is not that of a slide"))
        elif ending(place) == ".csv":
            result += _of_manifest(place, data, mpp, given_domain)
        else:
            result.append(NewSlide(place, "", mpp, given_domain))
    first: dict[str, NewSlide] = {}
    for slide in result:
        first.setdefault(_key(slide.path), slide)
    unique = list(first.values())
    if not unique:
        raise StaindaError(
            f"there is no slide in {', '.join(map(str, places)) or 'nothing'}",
            remedy=f"Slides in a folder end in {', '.join(ENDINGS)}",
        )
    names = _names([slide.path for slide in unique], taken or {})
    slides = tuple(
        NewSlide(slide.path, names[_key(slide.path)], slide.mpp, slide.domain, slide.fault) for slide in unique
    )
    return NewSlides(slides, tuple(passed))


def _of_manifest(
    path: Path, data: str | Path | None, mpp: float | None, given_domain: Mapping[str, str]
) -> list[NewSlide]:
    """The rows of a manifest; a fault of one row costs its slide, one of the whole file is an error."""
    report = inspect_manifest(path, data, check_files=False)
    if any(fault.row is None for fault in report.faults):
        raise report.error()
    faults: dict[int | None, list[str]] = {}
    for fault in report.faults:
        if not fault.leak:  # nothing is learned here
            faults.setdefault(fault.row, []).append(str(fault))
    return _of_sections(report.sections, faults, mpp, given_domain)


def _of_sections(
    sections: Iterable[Section],
    faults: Mapping[int | None, list[str]],
    mpp: float | None,
    given_domain: Mapping[str, str],
) -> list[NewSlide]:
    slides = []
    for section in sections:
        values = {key: getattr(section, key) for key in ("stain", "centre", "scanner", "patient", "slide")}
        domain = {**given_domain, **{key: value for key, value in values.items() if value}}
        slides.append(NewSlide(section.path, "", section.mpp or mpp, domain, "; ".join(faults.get(section.row, ()))))
    return slides


def _key(path: Path) -> str:
    return path.resolve().as_posix()


def _names(paths: Sequence[Path], taken: Mapping[str, str]) -> dict[str, str]:
    """A file name for each slide by its absolute path: its own without its ending; where others have that too, with
    its ending, or with as many of its folders as tell it from them."""
    kept = {key: taken[key] for path in paths if (key := _key(path)) in taken}
    used = {name.casefold() for name in taken.values()}
    fresh = {_key(path): stem(path) for path in paths if _key(path) not in kept}

    def clashing() -> list[str]:
        count = Counter(name.casefold() for name in fresh.values())
        return [key for key, name in fresh.items() if count[name.casefold()] > 1 or name.casefold() in used]

    for key in clashing():
        fresh[key] = Path(key).name
    depth = 2
    while (again := clashing()) and depth < 64:
        for key in again:
            fresh[key] = "_".join([*Path(key).parts[-depth:-1], stem(key)])
        depth += 1
    for key in clashing():
        fresh[key] = key
    safe = file_names(fresh.values())
    return {**kept, **{key: safe[name] for key, name in fresh.items()}}
