"""Every setting, with unit, default and reason: read once, passed in.

Order of precedence: environment (`SECONDREAD_NODE__PORT=11113`), then `secondread.toml`
in the data directory, then the default. Unknown names are refused: a typing error in a
setting must not look like the setting.
"""

from core.settings.fields import Priority, code_of
from core.settings.loading import (
    DATA_DIRECTORY_VARIABLE,
    SETTINGS_FILE_NAME,
    load_settings,
    setting_origins,
)
from core.settings.sections import (
    AssemblySettings,
    DatabaseSettings,
    DeliverySettings,
    DestinationSettings,
    DicomwebSettings,
    LogSettings,
    ModelSettings,
    NodeSettings,
    QuerySettings,
    QueueSettings,
    ReportSettings,
    RetrieveDestinationSettings,
    ReviewSettings,
    RuleSettings,
    SourceSettings,
    StoreSettings,
    TlsSettings,
    WorkerSettings,
)
from core.settings.tree import Settings

__all__ = [
    "DATA_DIRECTORY_VARIABLE",
    "SETTINGS_FILE_NAME",
    "AssemblySettings",
    "DatabaseSettings",
    "DeliverySettings",
    "DestinationSettings",
    "DicomwebSettings",
    "LogSettings",
    "ModelSettings",
    "NodeSettings",
    "Priority",
    "QuerySettings",
    "QueueSettings",
    "ReportSettings",
    "ReviewSettings",
    "RetrieveDestinationSettings",
    "RuleSettings",
    "Settings",
    "SourceSettings",
    "StoreSettings",
    "TlsSettings",
    "WorkerSettings",
    "code_of",
    "load_settings",
    "setting_origins",
]
