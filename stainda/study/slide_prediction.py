"""One slide of those that a trained detector is applied to: predicted, kept from an earlier call, or failed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort.table import absolute
from stainda.errors import StaindaError
from stainda.files import fingerprint, load_json, stable_hash
from stainda.names import same_name
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import SETTINGS
from stainda.study.choosing import DetectorChoice
from stainda.study.new_slides import NewSlide

if TYPE_CHECKING:
    from stainda.prediction import CoarseDetector, Predictor, Wanted

FORMAT = 2
"""Raised when what is written of a slide changes, so that slides predicted before are predicted again."""

PREDICTED, KEPT, FAILED = "predicted", "kept", "failed"


@dataclass(frozen=True)
class SlideResult:
    """What became of one slide: its row of ``slides.csv``, and the files written (none where it failed)."""

    slide: str
    path: Path
    status: str
    row: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    reason: str = ""

    @property
    def n_objects(self) -> int:
        return int(self.row.get("objects") or 0)

    @property
    def geojson(self) -> Path | None:
        return next((file for file in self.files if file.suffix == ".geojson"), None)


@dataclass(frozen=True)
class PredictionRequest:
    """What is the same for all slides of a call; small, so that it can be sent to other processes.

    Attributes:
        threshold: in place of those fixed on source validation.
        overwrite: predict again what was predicted before.
        coarse: the job that says where to look, and the share of its own threshold from which on (``coarse_share``).
        key: hash of the jobs and options.
    """

    choice: DetectorChoice
    out: Path
    wanted: Wanted
    threshold: float | None
    overwrite: bool
    coarse: DetectorChoice | None = None
    coarse_share: float = 0.3
    key: str = ""

    def elsewhere(self) -> PredictionRequest:
        """For a process that starts in another folder."""
        choice = replace(self.choice, folder=absolute(self.choice.folder))
        coarse = self.coarse and replace(self.coarse, folder=absolute(self.coarse.folder))
        return replace(self, choice=choice, coarse=coarse, out=absolute(self.out))

    def load(self) -> SlideWork:
        """With the networks, and with its key."""
        from stainda.prediction import CoarseDetector, load_predictor

        predictor = load_predictor(self.choice.folder, checkpoint=self.choice.checkpoint)
        key, first = _job_key(self.choice, predictor, self.threshold), None
        if self.coarse is not None:
            other = self.coarse
            first = CoarseDetector(load_predictor(other.folder, checkpoint=other.checkpoint), self.coarse_share)
            key = stable_hash([key, _job_key(other, first.predictor, None), self.coarse_share])
        return SlideWork(replace(self, key=key), predictor, first)


def predict_in_pool(_slide: str, given: tuple[PredictionRequest, NewSlide, Mapping[str, Any] | None]) -> SlideResult:
    """Predict one slide on a worker of a pool, which keeps the networks for the next one."""
    request, slide, before = given
    return _loaded(request).do(slide, before, SILENT)


@lru_cache(maxsize=1)
def _loaded(request: PredictionRequest) -> SlideWork:
    return request.load()


@dataclass(frozen=True)
class SlideWork:
    """What is done with each slide, with the networks it takes."""

    request: PredictionRequest
    predictor: Predictor
    coarse: CoarseDetector | None = None

    def do(self, slide: NewSlide, before: Mapping[str, Any] | None, progress: Progress) -> SlideResult:
        """Predict a slide, or keep what is there.

        Args:
            before: its row of ``slides.csv`` of an earlier call.
        """
        from stainda.prediction.outputs import output_files

        files = tuple(output_files(self.request.out, slide.name, self.request.wanted).values())
        started = time.perf_counter()
        domain, note = _domain(self.predictor, slide.domain)
        try:
            if slide.fault:
                raise StaindaError(slide.fault)
            key = self._slide_key(slide, domain)
        except (StaindaError, OSError) as error:
            return self.failure(slide, error)
        if not self.request.overwrite and before is not None and before.get("key") == key and _all_there(files):
            kept = {**before, "status": KEPT, "path": slide.path.resolve().as_posix()}
            return SlideResult(slide.name, slide.path, KEPT, kept, files)
        try:
            row = self._predict(slide, domain, note, progress)
        except Exception as error:  # whatever is wrong with one slide, the others go on
            for file in files:  # of another job, or of half a slide: not what was requested
                file.unlink(missing_ok=True)
            return self.failure(slide, error)
        row |= {"seconds": round(time.perf_counter() - started, 2), "key": key}
        return SlideResult(slide.name, slide.path, PREDICTED, row, files)

    def failure(self, slide: NewSlide, error: Exception) -> SlideResult:
        """Of a slide that cannot be used."""
        known = isinstance(error, StaindaError)
        reason = str(error) if known else f"{slide.path}: {type(error).__name__}: {error}"
        return SlideResult(slide.name, slide.path, FAILED, self._row(slide, FAILED, reason=reason), (), reason)

    def _predict(self, slide: NewSlide, domain: str | None, note: str, progress: Progress) -> dict[str, Any]:
        from stainda.prediction import predict_slide

        request = self.request
        result = predict_slide(
            self.predictor, slide.path, request.out, mpp=slide.mpp, domain=domain, threshold=request.threshold,
            wanted=request.wanted, name=slide.name, properties={"strategy": request.choice.strategy},
            coarse=self.coarse, progress=progress,
        )  # fmt: skip

        def mm2(area: float | None) -> float | None:
            return None if area is None else round(area / 1e6, 6)

        return self._row(
            slide, PREDICTED, objects=result.n_objects, object_area_mm2=mm2(result.object_area),
            tissue_area_mm2=mm2(result.tissue_area), mpp=result.mpp, mpp_origin=result.mpp_origin, domain=domain,
            density_per_mm2=None if result.density is None else round(result.density, 4),
            notes="; ".join(filter(None, (note, *result.notes))),
            **{f"objects {cls}": count for cls, count in result.counts.items()},
        )  # fmt: skip

    def _row(self, slide: NewSlide, status: str, **values: object) -> dict[str, Any]:
        choice = self.request.choice
        return {
            "slide": slide.name, "path": slide.path.resolve().as_posix(), "status": status, "strategy": choice.strategy,
            "job": choice.folder.name, "seed": choice.seed, "checkpoint": choice.checkpoint, **values,
        }  # fmt: skip

    def _slide_key(self, slide: NewSlide, domain: str | None) -> str:
        """Hash of all that the result depends on."""
        if not slide.path.is_file():
            raise StaindaError("there is no such file", file=slide.path, remedy="Check the path")
        about = [fingerprint(slide.path), slide.mpp, domain]
        return stable_hash([self.request.key, self.request.wanted.origin, about])


def _job_key(choice: DetectorChoice, predictor: Predictor, threshold: float | None) -> str:
    from stainda.strategies.detector import CHECKPOINTS

    weights = hashlib.sha256((choice.folder / CHECKPOINTS[choice.checkpoint]).read_bytes()).hexdigest()
    settings = load_json(SETTINGS.inside(choice.folder))
    return stable_hash([FORMAT, weights, settings, predictor.thresholds, threshold, choice.checkpoint])


def _domain(predictor: Predictor, given_domain: Mapping[str, str]) -> tuple[str | None, str]:
    """The name of a slide's domain as the job knows it (``None``: not known), and what is to be said of it."""
    keys = predictor.domain_keys
    if not any(given_domain.get(key) for key in keys):
        return None, ""
    if lacking := [key for key in keys if not given_domain.get(key)]:
        return None, f"domain not known: {' and '.join(lacking)} not reported" if predictor.uses_domains else ""
    name = "@".join(given_domain[key] for key in keys)
    if not predictor.uses_domains:
        return name, ""
    known = {same_name(statistic): statistic for statistic in predictor.detector.statistics}
    if same_name(name) in known:
        return known[same_name(name)], ""
    return name, f"{name} is none of the domains of the training ({', '.join(sorted(known.values()))})"


def _all_there(files: Sequence[Path]) -> bool:
    return all(file.is_file() for file in files)
