"""A procedural frontal chest film: sums of attenuation, as a radiograph is one.

Every structure adds to (or, for air, takes from) the attenuation of a ray through it.
What the film shows is that sum through one tone curve. Body coordinates run from -1 to
1 over the matrix, across (`u`, positive to the patient's left, as frontal films are
hung) and down (`v`). The anatomy is drawn on a grid of fixed size and then brought to
the matrix asked for, so that one seed is one patient whatever the detector; grain is
made in the matrix.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["chest_radiograph"]

Plane = npt.NDArray[np.float32]

GRID = 768
LUNG = 0.56
"""Attenuation that air takes away, as a share of a full chest."""


@dataclass(frozen=True)
class _Patient:
    """What differs between two phantoms; lengths in body coordinates."""

    lung_width: float
    apex: float
    dome: float
    heart_width: float
    heart_shift: float
    rib_slope: float
    rotation: float
    opacity_u: float
    opacity_v: float
    opacity_size: float


def chest_radiograph(
    *, rows: int = 1024, columns: int = 1024, opacity: bool = False, seed: int = 0
) -> Plane:
    """Draw a frontal chest film.

    Parameters
    ----------
    rows, columns
        Matrix; the anatomy is stretched to it.
    opacity
        Adds an airspace opacity to the lower zone of the patient's right lung.
    seed
        Chooses the patient; equal arguments give equal pixels.

    Returns
    -------
    (rows, columns), 0 (air) to 1 (dense), MONOCHROME2 sense.
    """
    patient = _patient(np.random.default_rng((seed, 1)))
    u, v = _body_coordinates(patient)
    lungs = _lungs(u, v, patient)
    attenuation = _body(u, v) - LUNG * lungs
    attenuation += _heart_and_vessels(u, v, patient, lungs)
    attenuation += _skeleton(u, v, patient)
    if opacity:
        attenuation += _opacity(u, v, patient) * lungs
    attenuation = _blur(attenuation, 1.2)
    film = _tone(_to_matrix(attenuation, rows, columns))
    return _with_grain(film, np.random.default_rng((seed, 2)))


def _patient(random: np.random.Generator) -> _Patient:
    def about(middle: float, spread: float) -> float:
        return float(middle + spread * random.uniform(-1.0, 1.0))

    return _Patient(
        lung_width=about(0.74, 0.03),
        apex=about(-0.76, 0.03),
        dome=about(0.44, 0.05),
        heart_width=about(0.34, 0.03),
        heart_shift=about(0.10, 0.02),
        rib_slope=about(0.34, 0.04),
        rotation=about(0.0, 0.02),
        opacity_u=about(-0.42, 0.05),
        opacity_v=about(0.18, 0.06),
        opacity_size=about(0.21, 0.03),
    )


def _body_coordinates(patient: _Patient) -> tuple[Plane, Plane]:
    axis = (np.arange(GRID, dtype=np.float32) + 0.5) * (2.0 / GRID) - 1.0
    u, v = np.meshgrid(axis, axis)
    turned = u + patient.rotation * v
    return turned.astype(np.float32), v.astype(np.float32)


def _blur(plane: npt.NDArray[Any], sigma: float) -> Plane:
    return cv2.GaussianBlur(plane, (0, 0), sigma).astype(np.float32)


def _step(distance: npt.NDArray[Any], softness: float) -> Plane:
    """Rise from 0 to 1 where `distance` passes zero, over about 4 times `softness`."""
    return (0.5 + 0.5 * np.tanh(distance / (2.0 * softness))).astype(np.float32)


def _body(u: Plane, v: Plane) -> Plane:
    across = np.abs(u)
    shoulder = 0.30 + 0.66 * _step(v + 0.83 - 0.25 * (across - 0.3), 0.035)
    half_width = np.minimum(shoulder, 0.97 - 0.05 * np.square(v - 0.1))
    inside = _step(half_width - across, 0.012)
    depth = np.sqrt(np.clip(1.05 - np.square(across / (half_width + 0.1)), 0.0, 1.0))
    below = 0.12 * _step(v - 0.5, 0.06)  # the abdomen is denser than the chest
    wall = 0.24 * _step(across - 0.70, 0.05)  # less to cross beside the ribs
    body: Plane = (inside * (0.40 + 0.44 * depth + below - wall)).astype(np.float32)
    return body


def _lungs(u: Plane, v: Plane, patient: _Patient) -> Plane:
    across = np.abs(u)
    height = (v - 0.28) / (0.28 - patient.apex)
    outer = patient.lung_width * np.power(
        np.clip(1.0 - np.power(np.abs(height), 2.4), 0.0, 1.0), 0.5
    )
    inner = 0.11 + 0.05 * _step(v + 0.15, 0.10)
    # The liver holds the right dome (on the film's left) higher than the left one.
    base = patient.dome + np.where(u < 0.0, -0.03, 0.03)
    dome = base + 0.85 * np.square(np.clip(across - 0.34, -0.34, None))
    lungs = (
        _step(outer - across, 0.012)
        * _step(across - inner, 0.014)
        * _step(dome - v, 0.010)
    )
    arch = np.sin(np.clip((across - inner) / 0.62, 0.0, 1.0) * np.pi)
    depth: Plane = (0.75 + 0.25 * arch).astype(np.float32)
    return lungs * depth


def _heart_and_vessels(u: Plane, v: Plane, patient: _Patient, lungs: Plane) -> Plane:
    along = (u - patient.heart_shift) + 0.25 * (v - 0.22)
    down = (v - 0.24) - 0.20 * (u - patient.heart_shift)
    radius = np.sqrt(np.square(along / patient.heart_width) + np.square(down / 0.33))
    heart = 0.42 * _step(1.0 - radius, 0.045)
    arch = np.sqrt(np.square((u - 0.11) / 0.12) + np.square((v + 0.24) / 0.26))
    heart = np.maximum(heart, 0.16 * _step(1.0 - arch, 0.14))
    mediastinum = 0.16 * np.exp(-np.square(u / 0.16)) * _step(v + 0.9, 0.05)
    trachea = 0.10 * np.exp(-np.square((u + 0.01) / 0.045)) * _step(-0.30 - v, 0.05)
    structure: Plane = heart * np.clip(lungs + 0.25, 0.0, 1.0) + mediastinum - trachea
    return (structure + _vessels(patient) * lungs).astype(np.float32)


def _vessels(patient: _Patient) -> Plane:
    """Hila and the branches that leave them, thinner outwards."""
    plane = np.zeros((GRID, GRID), np.float32)
    random = np.random.default_rng(17)
    for side in (-1.0, 1.0):
        for angle in np.linspace(-1.15, 1.25, 11):
            reach = 0.34 + 0.16 * random.random()
            start = np.array([side * 0.17, -0.04])
            bend = angle + 0.25 * random.uniform(-1.0, 1.0)
            for part in range(6):
                length = reach / 6.0
                step = np.array([side * np.cos(bend), np.sin(bend)]) * length
                width = max(1, round((6 - part) * GRID / 900))
                _line(
                    plane, start, start + step, width=width, value=0.13 - part * 0.015
                )
                start = start + step
                bend += 0.16 * random.uniform(-1.0, 1.0)
    hilum = np.zeros_like(plane)
    for side in (-1.0, 1.0):
        centre = _pixel(np.array([side * 0.20, -0.03 + patient.rotation]))
        cv2.ellipse(hilum, centre, (22, 40), side * -20.0, 0, 360, 0.14, -1)
    soft: Plane = _blur(plane, 1.6) + _blur(hilum, 14.0)
    return soft


def _skeleton(u: Plane, v: Plane, patient: _Patient) -> Plane:
    bones = np.zeros((GRID, GRID), np.float32)
    for rib in range(10):
        _rib_pair(bones, rib, patient)
    soft = _blur(bones, 1.5)
    discs = 0.75 + 0.25 * np.sign(np.sin(v * 38.0))
    discs = _blur(discs.astype(np.float32), 2.0)
    spine = 0.15 * np.exp(-np.power(np.abs(u) / 0.085, 4.0)) * discs
    for side in (-1.0, 1.0):
        collar = np.zeros_like(soft)
        medial, lateral = np.array([side * 0.07, -0.62]), np.array([side * 0.74, -0.76])
        _line(collar, medial, lateral, width=17, value=0.13)
        soft += _blur(collar, 2.5)
    inside = _body(u, v) > 0.2
    skeleton: Plane = ((soft + spine) * inside).astype(np.float32)
    return skeleton


def _rib_pair(plane: Plane, rib: int, patient: _Patient) -> None:
    """Draw one posterior arc a side and, for the upper ribs, the anterior one."""
    top = -0.78 + 0.135 * rib
    reach = patient.lung_width * (0.55 + 0.45 * min(1.0, (rib + 0.5) / 3.5)) + 0.03
    position = np.linspace(0.0, 1.0, 24)
    for side in (-1.0, 1.0):
        arc = position * np.pi / 2.0
        across = side * (0.10 + (reach - 0.10) * np.sin(arc))
        down = top - 0.05 * np.sin(2.0 * arc) + patient.rib_slope * (1.0 - np.cos(arc))
        _curve(plane, across, down, width=15, value=0.15)
        if rib < 7:
            inward = side * (reach - (reach - 0.24) * position)
            lower = top + patient.rib_slope + 0.22 * np.power(position, 1.3)
            _curve(plane, inward, lower, width=12, value=0.07)


def _curve(
    plane: Plane,
    across: npt.NDArray[np.float64],
    down: npt.NDArray[np.float64],
    *,
    width: int,
    value: float,
) -> None:
    points = np.stack([across, down], axis=-1)
    corners = np.array([_pixel(point) for point in points], np.int32)
    added = np.zeros_like(plane)
    cv2.polylines(added, [corners], False, value, width * GRID // 768, cv2.LINE_8)
    # A rib is a tube: its cortex, seen edge on, is what stands out.
    hollow = np.zeros_like(plane)
    inner = max(1, width * GRID // 768 - 7)
    cv2.polylines(hollow, [corners], False, value * 0.4, inner, cv2.LINE_8)
    plane += added - hollow


def _line(
    plane: Plane,
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    *,
    width: int,
    value: float,
) -> None:
    cv2.line(plane, _pixel(start), _pixel(end), value, width, cv2.LINE_8)


def _pixel(point: npt.NDArray[np.float64]) -> tuple[int, int]:
    column, row = (point + 1.0) * (GRID / 2.0)
    return round(float(column)), round(float(row))


def _opacity(u: Plane, v: Plane, patient: _Patient) -> Plane:
    """Draw consolidation: a fluffy edge, darker air bronchograms inside."""
    random = np.random.default_rng(29)
    cloud = random.standard_normal((GRID, GRID)).astype(np.float32)
    cloud = _blur(cloud, 16.0)
    cloud /= np.float32(cloud.std())
    size = patient.opacity_size
    radius = np.sqrt(
        np.square((u - patient.opacity_u) / size)
        + np.square((v - patient.opacity_v) / (1.2 * size))
    )
    body = _step(1.0 - radius + 0.10 * cloud, 0.16)
    opacity: Plane = (0.52 * body * (1.0 + 0.12 * cloud)).astype(np.float32)
    return opacity


def _to_matrix(attenuation: Plane, rows: int, columns: int) -> Plane:
    smaller = rows < GRID or columns < GRID
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(attenuation, (columns, rows), interpolation=how).astype(
        np.float32
    )


def _tone(attenuation: Plane) -> Plane:
    """Film curve: toe and shoulder, with the lungs on its straight part."""
    density = np.clip(attenuation, 0.0, None)
    film: Plane = np.power(np.tanh(density * 0.85), 1.4).astype(np.float32)
    return film / np.float32(0.84)


def _with_grain(film: Plane, random: np.random.Generator) -> Plane:
    noise = random.standard_normal(film.shape, dtype=np.float32)
    # Fewer quanta reach the detector behind dense tissue, so the grain grows with it.
    film = film + noise * (np.float32(0.004) + np.float32(0.010) * film)
    return np.clip(film, 0.0, 1.0).astype(np.float32)
