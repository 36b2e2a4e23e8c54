"""What a bundle's image-based check of scope says of images that it must not read.

`python -m benchmarks.scope BUNDLE DATA` takes the folder that holds `chest-xray`,
`dicom` and `breast-ultrasound`, ignores every tag, and tells for each group how many
images pass and how far they lie; then each DICOM file that passes.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Report, add_output_options, summarise
from core.errors import UnsupportedImage
from models.bundle import read_bundle
from models.films import load_image, read_index
from models.preparation import prepare
from models.runtime import LoadedModel, load
from worker.phantom import chest_radiograph
from worker.pixels.display import display_image
from worker.pixels.limits import PixelLimits

FloatArray = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float64]
_SAMPLE = 300


def main() -> None:
    """Tell it in two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scope")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    add_output_options(parser)
    given = parser.parse_args()
    bundle = read_bundle(given.bundle)
    if bundle.scope is None:
        parser.error(f"{given.bundle} has no guard of scope")
    model, limit = load(bundle), bundle.scope.limit
    report = Report("scope", given.data)
    random = np.random.default_rng(0)
    rows = [
        _row(name, _distances(model, images), limit)
        for name, images in _groups(given.data, random)
    ]
    names, images = _dicom(given.data / "dicom")
    distances = _distances(model, images)
    rows.append(_row("DICOM test files, tags ignored", distances, limit))
    report.table(f"What passes; limit {limit:g}", rows, plot="distance")
    told = [
        {"file": name, "distance": float(distance)}
        for name, distance in sorted(
            zip(names, distances, strict=True), key=lambda x: x[1]
        )
        if distance <= limit
        or name.endswith(("dx_image.dcm", "RG1_J2KI.dcm", "966_fixed.dcm"))
    ]
    report.table("Chest film, veterinary thorax, and what passes", told)
    report.finish(given)


def _groups(
    data: Path, random: np.random.Generator
) -> Iterator[tuple[str, list[FloatArray]]]:
    films = read_index(data / "chest-xray")
    chosen = random.choice(len(films), _SAMPLE, replace=False)
    chests = [load_image(films[index].path) for index in chosen]
    full = sorted((data / "chest-xray/full-resolution-samples").rglob("*.jp*g"))
    yield "Training films (seen)", chests
    yield "Training films, original size", [load_image(path) for path in full]
    for quarter in (1, 2, 3):
        turned = [np.ascontiguousarray(np.rot90(one, quarter)) for one in chests]
        yield f"Turned by {90 * quarter} degrees", turned
    yield "Inverted", [np.float32(1) - one for one in chests]
    yield "Mirrored", [np.ascontiguousarray(one[:, ::-1]) for one in chests]
    yield "Left half", [_part(one, right=0.5) for one in chests]
    yield "Right half", [_part(one, left=0.5) for one in chests]
    yield "Upper half", [_part(one, bottom=0.5) for one in chests]
    yield "Lower half", [_part(one, top=0.5) for one in chests]
    yield "Noise", [random.random((128, 128), np.float32) for _ in range(50)]
    ultrasound = sorted((data / "breast-ultrasound").rglob("*.jpg"))
    some = random.choice(len(ultrasound), _SAMPLE, replace=False)
    yield "Breast ultrasound", [load_image(ultrasound[index]) for index in some]
    phantoms = [
        chest_radiograph(opacity=opacity, seed=seed)
        for seed in range(10)
        for opacity in (False, True)
    ]
    yield "Phantom", phantoms


def _part(
    image: FloatArray,
    *,
    left: float = 0,
    right: float = 1,
    top: float = 0,
    bottom: float = 1,
) -> FloatArray:
    rows, columns = image.shape
    kept = image[
        round(top * rows) : round(bottom * rows),
        round(left * columns) : round(right * columns),
    ]
    return np.ascontiguousarray(kept)


def _dicom(folder: Path) -> tuple[list[str], list[FloatArray]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as lines:
        names = [row["file"] for row in csv.DictReader(lines)]
    found, images = [], []
    for name in names:
        try:
            images.append(display_image(folder / name, PixelLimits()).pixels)
        except UnsupportedImage:
            continue  # no image, or one that the worker refuses anyway
        found.append(name)
    return found, images


def _distances(model: LoadedModel, images: list[FloatArray]) -> Distances:
    parts = []
    for image in images:
        batch = prepare(image, model.bundle.input)[np.newaxis]
        parts.append(model.answer(batch).distances)
    return np.concatenate([part for part in parts if part is not None])


def _row(name: str, distances: Distances, limit: float) -> dict[str, object]:
    passed = int((distances <= limit).sum())
    return {
        "images": name,
        "number": len(distances),
        "pass": f"{passed} ({passed / len(distances):.1%})",
        "distance": summarise(distances.tolist()),
    }


if __name__ == "__main__":
    main()
