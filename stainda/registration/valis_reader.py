"""Working images as VALIS slides, and the processing that VALIS applies to them.

Imported in the worker process only, after :func:`stainda.registration.valis_import.import_valis`: it subclasses VALIS.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from valis import feature_detectors, feature_matcher, preprocessing, slide_io, slide_tools

from stainda.arrays import Array
from stainda.errors import ConfigError, did_you_mean


class WorkingImageReader(slide_io.SlideReader):
    """One image in memory, read by stainda, as a slide of one level: VALIS opens no file itself and starts no Java.

    Args:
        src_f: the alias VALIS knows the section by; no file of that name exists.
        pixels: uint8 RGB (h, w, 3).
        tissue: bool (h, w).
    """

    def __init__(self, src_f: str, pixels: Array, tissue: Array, **_: object) -> None:
        super().__init__(src_f)
        self.pixels, self.tissue = pixels, tissue
        about = slide_io.MetaData(str(src_f), "stainda")
        about.is_rgb, about.n_channels, about.channel_names = True, 3, None
        about.bf_datatype, about.original_xml = "uint8", None
        about.slide_dimensions = np.array([pixels.shape[1::-1]])
        about.pixel_physical_size_xyu = (1, 1, slide_io.PIXEL_UNIT)
        self.metadata = about

    def __deepcopy__(self, memo: dict[int, object]) -> WorkingImageReader:
        return self  # never changed, so shared

    def slide2image(self, level: int, series: int | None = None, xywh: Any = None, *_: object, **__: object) -> Array:
        if xywh is None:
            return self.pixels
        x, y, width, height = (int(value) for value in xywh)
        return self.pixels[y : y + height, x : x + width]

    def slide2vips(self, level: int, series: int | None = None, xywh: Any = None, *_: object, **__: object) -> Any:
        pixels = np.ascontiguousarray(self.slide2image(level, xywh=xywh))
        return slide_tools.numpy2vips(pixels).copy(interpretation="srgb")


class _OurTissue:
    """VALIS crops to the box of a mask. Its own entropy mask costs 2.7 s per section and shrinks to a sixth of the
    tissue on bright slides; stainda's tissue mask is already there."""

    image: Array
    reader: WorkingImageReader

    def create_mask(self) -> Array:
        tissue = self.reader.tissue
        rows, columns = np.nonzero(tissue.any(1))[0], np.nonzero(tissue.any(0))[0]
        box = np.zeros(tissue.shape, np.uint8)
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 255
        height, width = self.image.shape[:2]
        return cv2.resize(box, (width, height), interpolation=cv2.INTER_NEAREST)


class OpticalDensityProcessor(_OurTissue, preprocessing.OD):
    """Mean optical density of the three channels, clipped at its 95th percentile."""


class Colourful(_OurTissue, preprocessing.ColorfulStandardizer):
    """Grey value after colours were set to one colourfulness."""


class Haematoxylin(_OurTissue, preprocessing.HEDeconvolution):
    """The haematoxylin channel after Macenko."""


IN_PLACE = "kaze_in_place"  # of make_matcher, for sections laid on each other before
PROCESSING: dict[str, list[Any]] = {
    "optical_density": [OpticalDensityProcessor, {"adaptive_eq": False}],
    "colourful": [Colourful, {"c": 0.2}],
    "haematoxylin": [Haematoxylin, {"stain": "hem"}],
}


FEATURES = 3000  # the strongest, per section; matching time grows with the square


class KazeExtended(feature_detectors.FeatureDD):
    """KAZE with 128-number descriptors and a lower threshold: twice the matches of VALIS's own KAZE."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kaze = getattr(cv2, "KAZE_create")(extended=True, threshold=0.0005)  # noqa: B009  not in its type stubs
        super().__init__(*args, kp_descriptor=kaze, **kwargs)

    def _detect_and_compute(self, image: Array, mask: Array | None = None) -> tuple[Array, Array]:
        points, descriptors = self.kp_descriptor.detectAndCompute(image.astype(np.uint8), mask)
        order = np.argsort([-point.response for point in points], kind="stable")[:FEATURES]
        return np.array([points[i].pt for i in order]).reshape(-1, 2), descriptors[order]


class KazeInPlace(KazeExtended):
    """The same for sections that were laid on each other before: the position is part of the descriptor, so that the
    nearest descriptor is one nearby. ``REACH`` pixels count as much as the whole difference of two descriptors."""

    REACH = 40.0

    def _detect_and_compute(self, image: Array, mask: Array | None = None) -> tuple[Array, Array]:
        points, descriptors = super()._detect_and_compute(image, mask)
        return points, np.hstack([descriptors, points / self.REACH]).astype(np.float32)


def make_matcher(detector: str) -> Any:
    """A new matcher for one run (VALIS changes the one it is given).

    Raises:
        ConfigError: the detector is unknown.
        RegistrationError: the weights of DISK and LightGlue are not on this machine.
    """
    if detector == "disk_lightglue":
        return feature_matcher.LightGlueMatcher(feature_detectors.DiskFD())
    detectors = {
        "kaze": feature_detectors.KazeFD,
        "kaze_extended": KazeExtended,
        IN_PLACE: KazeInPlace,
        "vgg": feature_detectors.VggFD,
        "daisy": feature_detectors.DaisyFD,
    }
    if detector not in detectors:
        raise ConfigError(
            f"unknown detector {detector!r}", remedy=did_you_mean(detector, [*detectors, "disk_lightglue"])
        )
    return feature_matcher.Matcher(
        feature_detector=detectors[detector](), match_filter_method=feature_matcher.DEFAULT_RANSAC_NAME
    )
