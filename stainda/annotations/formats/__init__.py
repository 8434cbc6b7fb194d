"""Annotation formats other than QuPath's GeoJSON: one module per format, one registry, one way to read and write."""

from stainda.annotations.formats.adjacent import adjacent_annotations, annotation_finder
from stainda.annotations.formats.registry import (
    FORMATS,
    Format,
    read_annotations,
    sniff_format,
    what_is_lost,
    write_annotations,
)

__all__ = [
    "FORMATS",
    "Format",
    "annotation_finder",
    "adjacent_annotations",
    "read_annotations",
    "sniff_format",
    "what_is_lost",
    "write_annotations",
]
