"""What happens to a study, top to bottom: select, decode, prepare, infer, find, report.

Nothing here knows of queues or databases: instances come as paths, models as packages,
and the answer goes back as values. So the same lines run in the worker, in tests and in
an evaluation.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from core.domain import (
    Analysed,
    ImageReference,
    NotAnalysed,
    NotAnalysedReason,
    Reading,
    reading_to_json,
)
from core.errors import InvalidBundle, StoreUnavailable, UnsupportedImage
from core.log import get_log
from core.settings import Settings
from dicom_node.instance_store import InstanceStore
from models.applicability import notes, refusal
from models.bundle import Bundle
from models.catalogue import SHIPPED_BUNDLES, find_bundles
from models.preparation import prepare
from models.readout import findings, series_findings
from models.resident import ResidentModels
from models.runtime import LoadedModel, load
from models.runtimes.seam import FloatArray, Runtime, usable_cores
from models.scope.guard import image_note, image_refusal
from models.specification import Images
from worker.inputs import iter_inputs
from worker.memory_watch import MemoryWatch
from worker.orders import (
    PredecessorOrder,
    ReadingOrder,
    ReportOrder,
    ReportSummary,
    SourceInstance,
    report_summary,
)
from worker.pixels.display import display_image
from worker.pixels.limits import PixelLimits
from worker.pixels.select import (
    NothingSuitable,
    select_radiograph,
    select_series,
)
from worker.report.context import (
    DeviceIdentity,
    PredecessorReport,
    ReportContext,
)
from worker.series_answers import SeriesAnswers

__all__ = ["ReadingRoom", "StageClock", "read_study"]


# Images that a report without findings shows at most.
_SHOWN_IMAGES = 8
# What TensorFlow itself takes when the first network is loaded, generously.
_RUNTIME_BYTES = 2 * 2**30


@dataclass
class StageClock:
    """Seconds that each stage of one reading took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; a stage that fails is timed too."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - started, 4)


def read_study(
    instances: tuple[SourceInstance, ...],
    bundle: Bundle,
    models: ResidentModels,
    limits: PixelLimits,
    clock: StageClock,
) -> Reading:
    """Read one content set with one model.

    Parameters
    ----------
    instances
        The content set; files that may be anything a scanner sends.
    bundle
        The model package.
    models
        Where its network is loaded, or will be.
    limits
        What an image may cost.
    clock
        Takes the time of each stage.

    Returns
    -------
    Findings, or the coded reason why there are none.

    Raises
    ------
    ModelError
        If the package or its answer cannot be used: no fault of the study.
    """
    with clock.stage("fetch"):
        _fetch(instances)
    if bundle.input.images is Images.EVERY:
        return _read_every(instances, bundle, models, limits, clock)
    with clock.stage("select"):
        selected = select_radiograph(
            [Path(instance.path) for instance in instances],
            lambda facts: refusal(bundle.applies_to, facts),
            limits,
        )
    if isinstance(selected, NothingSuitable):
        images = _one_of_each_series(selected.images)
        return NotAnalysed(
            bundle.algorithm, images, selected.reason, selected.explanation
        )
    try:
        with clock.stage("decode"):
            image = display_image(selected.path, limits)
    except UnsupportedImage as error:
        reason = NotAnalysedReason(error.reason)
        return NotAnalysed(bundle.algorithm, (selected.reference,), reason, str(error))
    with clock.stage("prepare"):
        batch = prepare(image.pixels, bundle.input)[np.newaxis]
    with clock.stage("infer"):
        answer = models.get(bundle).answer(batch)
    scope_notes: tuple[str, ...] = ()
    if bundle.scope is not None and answer.distances is not None:
        distance = float(answer.distances[0])
        outside = image_refusal(bundle.scope, distance)
        if outside is not None:
            return NotAnalysed(bundle.algorithm, (image.reference,), *outside)
        scope_notes = (image_note(bundle.scope, distance),)
    return Analysed(
        algorithm=bundle.algorithm,
        images=(image.reference,),
        findings=findings(bundle, answer.logits, (image.reference,)),
        notes=(
            *notes(bundle.applies_to, selected.facts),
            *selected.notes,
            *image.notes,
            *scope_notes,
        ),
    )


def _read_every(
    instances: tuple[SourceInstance, ...],
    bundle: Bundle,
    models: ResidentModels,
    limits: PixelLimits,
    clock: StageClock,
) -> Reading:
    """Read each image of a series by itself; while some are asked, others decode."""
    with clock.stage("select"):
        selected = select_series(
            [Path(instance.path) for instance in instances],
            lambda facts: refusal(bundle.applies_to, facts),
            limits,
        )
    if isinstance(selected, NothingSuitable):
        images = _one_of_each_series(selected.images)
        return NotAnalysed(
            bundle.algorithm, images, selected.reason, selected.explanation
        )
    first = selected.first
    answers = SeriesAnswers(bundle, models.get(bundle))
    try:
        with closing(iter_inputs(selected.paths, bundle.input, limits)) as inputs:
            for one in inputs:
                answers.add(one)
        answers.finish()
    except UnsupportedImage as error:
        reason = NotAnalysedReason(error.reason)
        return NotAnalysed(bundle.algorithm, (first.reference,), reason, str(error))
    finally:
        clock.seconds |= answers.seconds
    outside = answers.all_outside()
    if outside is not None:
        return NotAnalysed(bundle.algorithm, (first.reference,), *outside)
    return Analysed(
        algorithm=bundle.algorithm,
        images=tuple(answers.images),
        findings=series_findings(bundle, answers.logits(), answers.images),
        notes=(
            *notes(bundle.applies_to, first.facts),
            *first.notes,
            *answers.notes(),
        ),
    )


def _fetch(instances: tuple[SourceInstance, ...]) -> None:
    """Ask the kernel for all files at once: the next is read while one is decoded."""
    if not hasattr(os, "posix_fadvise"):
        return  # not on every system
    for instance in instances:
        try:
            file = os.open(instance.path, os.O_RDONLY)
        except OSError:
            continue  # whoever reads it says so
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)


def _one_of_each_series(
    images: tuple[ImageReference, ...],
) -> tuple[ImageReference, ...]:
    # A report that says "nothing read" need not show all slices of a CT; its evidence
    # names them.
    first = {image.series_instance_uid: image for image in reversed(images)}
    return tuple(image for image in images if image in first.values())[:_SHOWN_IMAGES]


class _Watched:
    """A runtime whose every run is watched by the memory that it takes."""

    def __init__(
        self, runtime: Runtime, watched: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._runtime = runtime
        self._watched = watched
        self.name = runtime.name
        self.largest_batch = runtime.largest_batch

    def run(self, batch: FloatArray) -> Sequence[npt.NDArray[Any]]:
        with self._watched():
            return self._runtime.run(batch)


class ReadingRoom:
    """Everything one reading process keeps between jobs: models and the store.

    Parameters
    ----------
    settings
        Folders of model packages, limits, the data directory.
    """

    def __init__(self, settings: Settings) -> None:
        self._directories = (SHIPPED_BUNDLES, *settings.model_directories)
        self._limits = PixelLimits(maximum_bytes=settings.worker.maximum_decoded_bytes)
        self._store = InstanceStore(
            settings.data_dir, durable=settings.store.durable_writes
        )
        self._worker = settings.worker
        self._watch = MemoryWatch()
        self._inside = 0
        self._counting = threading.Lock()
        self._models = ResidentModels(
            self._worker.models_memory_bytes or None, loader=self._load
        )
        self._bundles: dict[str, Bundle] = {}

    def warm_up(self) -> list[str]:
        """Load every sound package before the first study; returns their names."""
        catalogue = find_bundles(*self._directories)
        names = []
        budget = self._worker.models_memory_bytes
        for bundle in catalogue.bundles.values():
            if budget and self._models.used_bytes() >= budget:
                break  # one more would only push out another
            try:
                self._models.get(bundle)
            except InvalidBundle:
                continue  # the job that asks for it fails with the reason
            self._bundles[bundle.bundle_sha256] = bundle
            names.append(f"{bundle.name} {bundle.version}")
        # Its import takes a second that the first report need not wait for.
        import worker.report.sr  # noqa: F401, PLC0415

        return names

    def prepare(self, bundle_sha256: str) -> float:
        """Load a model unless it is loaded; returns the seconds that it may read."""
        bundle = self._bundle(bundle_sha256)
        self._models.get(bundle)
        return bundle.runtime.time_limit_s

    def read(self, order: ReadingOrder) -> dict[str, Any]:
        """Read a study: the reading as JSON and the seconds of each stage."""
        clock = StageClock()
        bundle = self._bundle(order.bundle_sha256)
        with self._one_more_inside():
            reading = read_study(
                order.instances, bundle, self._models, self._limits, clock
            )
        return {"reading": reading_to_json(reading), "timings": clock.seconds}

    def report(self, order: ReportOrder) -> list[dict[str, Any]]:
        """Write a reading as one report for each SR class asked for, and store them."""
        from worker.report.sr import build_report  # noqa: PLC0415 - highdicom is slow

        sources = source_headers(order.instances, order.reading)
        documents = []
        for sop_class_uid in order.sop_class_uids:
            context = _report_context(order, sop_class_uid)
            data = build_report(order.reading, sources, context)
            summary = ReportSummary(
                sop_class_uid=sop_class_uid,
                sop_instance_uid=context.sop_instance_uid,
                series_instance_uid=context.series_instance_uid,
                sha256=self._store.put_report(data),
                bytes=len(data),
            )
            documents.append(report_summary.dump_python(summary, mode="json"))
        return documents

    def _load(self, bundle: Bundle) -> LoadedModel:
        worker = self._worker
        threads = worker.threads or max(1, usable_cores() // worker.concurrency)
        allowed = bundle.runtime.memory_mib * 2**20
        with self._watch.within(allowed + _RUNTIME_BYTES):
            model = load(bundle, worker.runtime, threads=threads)
        if model.bytes > allowed:
            raise InvalidBundle(
                f"{bundle.name} {bundle.version} took {model.bytes / 2**20:.0f} MiB to "
                f"load; its package says {bundle.runtime.memory_mib} (memory_mib). "
                "Correct the package or use a smaller network."
            )
        model.runtime = _Watched(model.runtime, lambda: self._watched(allowed))
        model.put_together(worker.batch_wait_s, lambda: self._inside)
        get_log().info(
            "model_loaded",
            model=bundle.name,
            model_version=bundle.version,
            runtime=model.runtime.name,
            duration_s=round(model.seconds_to_load, 3),
            bytes=model.bytes,
            reason="; ".join(f"{one.name}: {one.why}" for one in model.considered),
        )
        return model

    def _watched(self, allowed_bytes: int) -> AbstractContextManager[None]:
        # Studies that are decoded meanwhile have a limit of their own.
        others = max(0, self._inside - 1) * self._limits.maximum_bytes
        return self._watch.within(allowed_bytes + others)

    @contextmanager
    def _one_more_inside(self) -> Iterator[None]:
        with self._counting:
            self._inside += 1
        try:
            yield
        finally:
            with self._counting:
                self._inside -= 1

    def _bundle(self, bundle_sha256: str) -> Bundle:
        """Find the very package the job was made for, loaded or not."""
        if bundle_sha256 not in self._bundles:
            catalogue = find_bundles(*self._directories)
            for bundle in catalogue.bundles.values():
                self._bundles[bundle.bundle_sha256] = bundle
        try:
            return self._bundles[bundle_sha256]
        except KeyError:
            raise InvalidBundle(
                f"no model package with hash {bundle_sha256[:12]}… is installed (any "
                "more); install it again and retry the job, or dismiss the job"
            ) from None


def source_headers(
    instances: tuple[SourceInstance, ...], reading: Reading
) -> list[Dataset]:
    """Read the headers that a report repeats, the analysed images first.

    The analysed images are read whole (without pixels); of the others only what the
    evidence names and what tells one patient from another.
    """
    analysed = {image.sop_instance_uid for image in reading.images}
    ordered = sorted(instances, key=lambda one: one.sop_instance_uid not in analysed)
    headers: list[Dataset] = []
    for number, instance in enumerate(ordered):
        whole = number == 0 or instance.sop_instance_uid in analysed
        try:
            headers.append(
                dcmread(
                    instance.path,
                    stop_before_pixels=True,
                    specific_tags=None if whole else _EVIDENCE,
                )
            )
        except (OSError, InvalidDicomError) as error:
            raise StoreUnavailable(
                f"instance {instance.sop_instance_uid} cannot be read from the store "
                f"({type(error).__name__}); run `secondread doctor`"
            ) from error
    return headers


_EVIDENCE: list[str] = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "AccessionNumber",
    "RequestAttributesSequence",
]


def _predecessor(
    before: PredecessorOrder | None, study_instance_uid: str
) -> PredecessorReport | None:
    if before is None:
        return None
    return PredecessorReport(
        sop_class_uid=before.sop_class_uid,
        sop_instance_uid=before.sop_instance_uid,
        series_instance_uid=before.series_instance_uid,
        study_instance_uid=study_instance_uid,
    )


def _report_context(order: ReportOrder, sop_class_uid: str) -> ReportContext:
    before: PredecessorOrder | None = next(
        (one for one in order.predecessors if one.sop_class_uid == sop_class_uid), None
    )
    return ReportContext(
        report_key=(
            order.study_instance_uid,
            order.bundle_sha256,
            order.content_set,
        ),
        device=DeviceIdentity(
            observer_uid=order.installation_uid,
            name="secondread",
            model_name=order.model,
            serial_number=order.installation_uid.removeprefix("2.25.")[:16],
            software_versions=(f"secondread {version('secondread')}",),
        ),
        created_at=datetime.fromtimestamp(order.created_at, UTC),
        series_number=order.series_number,
        document_kind=order.document_kind,
        predecessor=_predecessor(before, order.study_instance_uid),
        sop_class_uid=sop_class_uid,
    )
