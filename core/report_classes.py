"""Which SR classes a reading must be written in for its destinations.

Archives that refuse Comprehensive 3D SR get the same content in a class that they take.
"""

from collections.abc import Iterable

from core.settings import Settings

__all__ = ["REPORT_CLASS_UIDS", "report_classes", "sop_class_uid_for"]

# PS3.6 Table A-1.
REPORT_CLASS_UIDS = {
    "comprehensive-3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}


def sop_class_uid_for(settings: Settings, destination: str) -> str:
    """Return the SOP class a destination takes; the default's for an unknown name."""
    chosen = next(
        (
            entry.report_class
            for entry in settings.destinations
            if entry.name == destination
        ),
        "comprehensive-3d",
    )
    return REPORT_CLASS_UIDS[chosen]


def report_classes(settings: Settings, destination_names: Iterable[str]) -> set[str]:
    """Return the SOP classes that a report for these destinations is needed in.

    Returns
    -------
    SOP class UIDs. Never empty: without destinations the report is kept as a
    Comprehensive 3D SR, so that it can be shown.
    """
    needed = {sop_class_uid_for(settings, name) for name in destination_names}
    return needed or {REPORT_CLASS_UIDS["comprehensive-3d"]}
