"""pynetdicom and pydicom keep quiet: what they log may name a patient."""

import logging

from pydicom import config as pydicom_config
from pynetdicom import _config as pynetdicom_config

__all__ = ["quiet_pynetdicom"]


def quiet_pynetdicom() -> None:
    """Switch off the log of identifiers and data sets, for this process.

    The stock handlers also raise on a command without a UID, which keeps later handlers
    from running. pydicom must not put values into warnings either.
    """
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
    pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False
    logger = logging.getLogger("pynetdicom")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    pydicom_logger = logging.getLogger("pydicom")
    pydicom_logger.setLevel(logging.CRITICAL + 1)
    pydicom_logger.propagate = False
