"""How large a pixel is, and how sure that is."""

from typing import Any

from pydicom.dataset import Dataset

__all__ = ["pixel_spacing"]


def pixel_spacing(
    attributes: Dataset,
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Read the spacing of an image's pixels.

    Returns
    -------
    (between rows, between columns) in mm or None, and a sentence where the number is
    that of the detector and not of the patient.

    Source
    ------
    PS3.3 10.7.1.3 (Pixel Spacing), C.8.7.10 and C.8.11.4 (Imager Pixel Spacing),
    C.8.11.4.1.2 (Estimated Radiographic Magnification Factor), C.8.6.2 (scanned film).
    """
    measured = _pair(attributes.get("PixelSpacing"))
    if measured is not None:
        return measured, ()
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        detector = _pair(attributes.get(keyword))
        if detector is not None:
            magnification = _number(
                attributes.get("EstimatedRadiographicMagnificationFactor")
            )
            if magnification:
                return (detector[0] / magnification, detector[1] / magnification), ()
            return detector, (
                "Pixel size is that at the detector, not in the patient.",
            )
    return None, ()


def _pair(value: Any) -> tuple[float, float] | None:
    try:
        rows, columns = (float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return (rows, columns) if rows > 0.0 and columns > 0.0 else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0.0 else None
