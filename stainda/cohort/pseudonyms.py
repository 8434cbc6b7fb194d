"""A manifest whose names are replaced by codes, so that runs made from it name no patient."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stainda.cohort.manifest import write_manifest
from stainda.cohort.table import absolute
from stainda.cohort.types import Cohort, Section
from stainda.errors import ManifestError
from stainda.files import link_or_copy, write_csv
from stainda.names import ending

KEY_COLUMNS = ("kind", "name", "code")
PREFIXES = {"patient": "P", "block": "B", "slide": "S", "centre": "C"}
SEVERAL_FILES = (".mrxs", ".vms", ".vmu", ".dcm", ".mds", ".zarr", ".ome.zarr")
"""Formats whose slides are a file and what lies next to it, or a folder: a link with another name would not open."""


@dataclass(frozen=True)
class Pseudonyms:
    """What :func:`pseudonymise` wrote.

    Attributes:
        manifest: the new manifest. key: the table of names and codes.
        left_out: columns of the old manifest that the new one does not have.
    """

    manifest: Path
    key: Path
    left_out: tuple[str, ...]


def pseudonymise(
    cohort: Cohort, out: str | Path, key: str | Path, *, centres: bool = False, keep: Sequence[str] = ()
) -> Pseudonyms:
    """Write a manifest with codes for patients, blocks and slides, and their files under these names.

    Files are hard links where the folder lies on the same file system, and copies elsewhere.

    Codes are drawn in random order, so that they say nothing of the order of the old names. With a key that exists
    already, names in it keep their codes. What is in the files is not changed: label and macro images and the names in
    their metadata stay there.

    Args:
        out: a folder, new or empty: ``manifest.csv`` and the files in ``files/``.
        key: CSV of kind, name and code; may not lie in ``out``, which is what others are given.
        centres: replace the names of centres, too.
        keep: columns that stainda does not know and that name nobody; the others are left out.

    Raises:
        ManifestError: a folder with files, a key in it or one that cannot be read, an unknown column, or slides of a
            format of several files.
    """
    out, key = absolute(out), absolute(key)
    further = tuple(dict.fromkeys(name for section in cohort for name, _ in section.further))
    if unknown := [name for name in keep if name not in further]:
        raise ManifestError(f"the manifest has no column {unknown[0]!r} to be kept", file=cohort.source,
                            remedy=f"Columns that may be kept: {', '.join(further) or 'none'}")  # fmt: skip
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ManifestError("the folder for the new manifest is not empty", file=out, remedy="Give another with --out")
    if key.is_relative_to(out):
        raise ManifestError("the key lies in the folder that is to be passed on", file=key,
                            remedy="Give another place with --key")  # fmt: skip
    for section in cohort:
        if ending(section.path) in SEVERAL_FILES or section.path.is_dir():
            raise ManifestError(f"{section.path.name} is a slide of several files, which no other name opens",
                                file=cohort.source, row=section.row,
                                remedy="Convert it to a file of its own (OME-TIFF) first")  # fmt: skip
    codes = _read_key(key)
    for kind in ("patient", "block", "slide", *(["centre"] if centres else [])):
        _add_codes(codes, kind, {str(getattr(section, kind)) for section in cohort})
    write_csv(key, ({"kind": kind, "name": name, "code": code} for (kind, name), code in codes.items()), KEY_COLUMNS)
    key.chmod(0o600)
    codes = {(kind, name): code for (kind, name), code in codes.items() if centres or kind != "centre"}
    sections = [_renamed(section, codes, out / "files", keep) for section in cohort]
    order = sorted(sections, key=lambda section: section.slide)  # the old order would tell who is who
    manifest = write_manifest(order, out / "manifest.csv")
    return Pseudonyms(manifest, key, tuple(name for name in further if name not in keep))


def _renamed(section: Section, codes: dict[tuple[str, str], str], files: Path, keep: Sequence[str]) -> Section:
    slide = codes["slide", section.slide]

    def linked(path: Path, what: str = "") -> Path:
        target = files / f"{slide}{what}{ending(path)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(path, target)
        return target

    drawn = [linked(path, f"_annotations_{number}") for number, path in enumerate(section.annotation_files, 1)]
    return replace(
        section, slide=slide, patient=codes["patient", section.patient], block=codes["block", section.block],
        centre=codes.get(("centre", section.centre), section.centre),
        path=linked(section.path), annotations=drawn[0] if drawn else None,
        more_annotations=tuple(drawn[1:]),
        landmarks=None if section.landmarks is None else linked(section.landmarks, "_landmarks"),
        further=tuple(cell for cell in section.further if cell[0] in keep), row=None,
    )  # fmt: skip


def _add_codes(codes: dict[tuple[str, str], str], kind: str, names: set[str]) -> None:
    """Codes for names that have none: the next numbers, in random order."""
    new = sorted(name for name in names if (kind, name) not in codes)
    secrets.SystemRandom().shuffle(new)
    prefix = PREFIXES[kind]
    used = [int(code.removeprefix(prefix)) for (known, _), code in codes.items() if known == kind]
    for number, name in enumerate(new, max(used, default=0) + 1):
        codes[kind, name] = f"{prefix}{number:04d}"


def _read_key(path: Path) -> dict[tuple[str, str], str]:
    """Names and codes of a key; none where it is not there."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        codes = {(row["kind"], row["name"]): row["code"] for row in rows}
        valid = all(code.removeprefix(PREFIXES[kind]).isdigit() for (kind, _), code in codes.items())
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        raise ManifestError(f"this is no key of names and codes ({type(error).__name__}: {error})", file=path,
                            remedy="Give the file that an earlier call wrote, or a new one") from error  # fmt: skip
    if not valid or len(set(codes.values())) < len(codes):
        raise ManifestError("this key has codes that are no numbers, or one code for two names", file=path,
                            remedy="Give the file as an earlier call wrote it, or a new one")  # fmt: skip
    return codes
