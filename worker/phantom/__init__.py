"""The built-in phantom: what the demonstration sends and what tests are made of."""

from worker.phantom.anatomy import chest_radiograph
from worker.phantom.identity import PhantomIdentity
from worker.phantom.objects import to_dicom
from worker.phantom.picture import from_picture
from worker.phantom.volume import ct_series

__all__ = [
    "PhantomIdentity",
    "chest_radiograph",
    "ct_series",
    "from_picture",
    "to_dicom",
]
