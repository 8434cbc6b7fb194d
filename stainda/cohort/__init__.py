"""The manifest, its domains, its splits by patient, and the roles a protocol gives to domains."""

from stainda.cohort.guessing import Guess, guess_pattern
from stainda.cohort.manifest import COLUMNS, Fault, ManifestReport, inspect_manifest, read_manifest, write_manifest
from stainda.cohort.pseudonyms import Pseudonyms, pseudonymise
from stainda.cohort.roles import Roles, check_annotated, resolve_roles
from stainda.cohort.rotations import Rotation, is_annotated, rotations, sources_left_out
from stainda.cohort.scan import Scan, find_sections, scan_folder
from stainda.cohort.splits import assign_folds, assign_splits, check_no_leak
from stainda.cohort.types import Cohort, Section, Split

__all__ = [
    "COLUMNS",
    "Cohort",
    "Fault",
    "Guess",
    "ManifestReport",
    "Pseudonyms",
    "Roles",
    "Rotation",
    "Scan",
    "Section",
    "Split",
    "assign_folds",
    "assign_splits",
    "check_annotated",
    "check_no_leak",
    "find_sections",
    "guess_pattern",
    "inspect_manifest",
    "is_annotated",
    "pseudonymise",
    "read_manifest",
    "resolve_roles",
    "rotations",
    "sources_left_out",
    "scan_folder",
    "write_manifest",
]
