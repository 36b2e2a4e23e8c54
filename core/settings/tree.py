"""The whole tree of settings, frozen, and what follows from them together."""

import hashlib
import os
import tempfile
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

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

__all__ = ["DEFAULT_DATA_DIRECTORY", "Settings"]

DEFAULT_DATA_DIRECTORY = Path("secondread-data")
# sun_path of unix(7) has 108 bytes; the server appends nothing, but leave room.
_LONGEST_SOCKET_PATH = 100


def _default_rules() -> tuple[RuleSettings, ...]:
    return (
        RuleSettings(
            name="radiographs to every model",
            when={"Modality": ["CR", "DX", "RG"]},
        ),
    )


class Settings(BaseSettings):
    """The whole tree, frozen."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="SECONDREAD_",
        env_nested_delimiter="__",
    )

    data_dir: Path = Field(
        DEFAULT_DATA_DIRECTORY,
        description="Everything this installation keeps lies in this folder.",
    )
    node: NodeSettings = NodeSettings()
    tls: TlsSettings = TlsSettings()
    store: StoreSettings = StoreSettings()
    database: DatabaseSettings = DatabaseSettings()
    assembly: AssemblySettings = AssemblySettings()
    sources: tuple[SourceSettings, ...] = ()
    queue: QueueSettings = QueueSettings()
    worker: WorkerSettings = WorkerSettings()
    models: ModelSettings = ModelSettings()
    report: ReportSettings = ReportSettings()
    delivery: DeliverySettings = DeliverySettings()
    dicomweb: DicomwebSettings = DicomwebSettings()
    query: QuerySettings = QuerySettings()
    retrieve_destinations: tuple[RetrieveDestinationSettings, ...] = ()
    review: ReviewSettings = ReviewSettings()
    destinations: tuple[DestinationSettings, ...] = ()
    rules: tuple[RuleSettings, ...] = Field(default_factory=_default_rules)
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Settings":
        for kind, names in (
            ("destinations", [entry.name for entry in self.destinations]),
            ("rules", [entry.name for entry in self.rules]),
            (
                "retrieve_destinations",
                [entry.ae_title for entry in self.retrieve_destinations],
            ),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} with the same name: {', '.join(twice)}")
        known = {entry.name for entry in self.destinations}
        for rule in self.rules:
            unknown = [name for name in rule.destinations if name not in {*known, "*"}]
            if unknown:
                raise ValueError(
                    f"rule {rule.name!r} names unknown destinations: "
                    f"{', '.join(unknown)}"
                )
        return self

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the index."""
        return self.database.url or f"sqlite:///{self.data_dir / 'index.sqlite'}"

    @property
    def bind_address(self) -> str:
        """Address the node listens on, as `node.bind_address` explains."""
        if self.node.bind_address is not None:
            return self.node.bind_address
        return "0.0.0.0" if self.node.allowed_callers else "127.0.0.1"  # noqa: S104

    @property
    def dicom_ports(self) -> dict[str, int]:
        """Ports that the node listens on, by the name of their setting."""
        ports = {} if self.tls.only else {"node.port": self.node.port}
        return ports if self.tls.port is None else {**ports, "tls.port": self.tls.port}

    @property
    def model_directories(self) -> tuple[Path, ...]:
        """Folders of model packages beside the shipped one."""
        return (self.data_dir / "models", *self.models.directories)

    @property
    def broker_socket(self) -> Path:
        """Unix socket of the embedded broker."""
        path = self.data_dir / "broker" / "broker.sock"
        if len(os.fsencode(path)) < _LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"secondread-{digest}" / "broker.sock"

    @property
    def broker_url(self) -> str:
        """URL of the broker: the configured one or that of the embedded server."""
        return self.queue.broker_url or f"redis+socket://{self.broker_socket}"
