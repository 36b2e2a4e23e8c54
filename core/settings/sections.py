"""The sections, each setting with its default and the reason for it."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from core.settings.fields import (
    AeTitle,
    CodeText,
    Port,
    Priority,
    Seconds,
    Section,
    unit,
)

__all__ = [
    "AssemblySettings",
    "DatabaseSettings",
    "DeliverySettings",
    "DestinationSettings",
    "DicomwebSettings",
    "LogSettings",
    "ModelSettings",
    "NodeSettings",
    "QuerySettings",
    "QueueSettings",
    "ReportSettings",
    "ReviewSettings",
    "RetrieveDestinationSettings",
    "RuleSettings",
    "SourceSettings",
    "StoreSettings",
    "TlsSettings",
    "WorkerSettings",
]


class NodeSettings(Section):
    """The DICOM storage node."""

    ae_title: AeTitle = Field(
        "SECONDREAD",
        description="Own AE title. Peers must call it by this name.",
    )
    port: Port = Field(
        11112,
        description="DICOM port. 11112 is the registered port that needs no root; "
        "0 takes any free one (tests).",
    )
    allowed_callers: tuple[str, ...] = Field(
        (),
        description="Who may send: `AE_TITLE@ADDRESS` with `*` for any title and an "
        "address, a network (10.1.0.0/16) or `*`. Empty: any title, from this machine "
        "only. An AE title is a name and no proof, so the address counts as well.",
    )
    bind_address: str | None = Field(
        None,
        description="Address to listen on. Unset: 127.0.0.1 while `allowed_callers` is "
        "empty, all interfaces otherwise, so that one setting opens the node.",
    )
    accept_any_called_ae_title: bool = Field(
        False,
        description="Answer to any called AE title. Off, because a wrong title is "
        "nearly always a wrong configuration of the sender.",
    )
    listeners: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Processes that receive, all on the same port. Unset: as many as "
        "cores. 0: none of their own, the node itself receives (debugging).",
        json_schema_extra=unit("processes"),
    )
    maximum_pdu_length: int = Field(
        131072,
        ge=4096,
        le=1048576,
        description="Largest P-DATA PDU offered. 128 KiB measured near the best rate; "
        "each association holds one.",
        json_schema_extra=unit("bytes"),
    )
    maximum_associations: int = Field(
        64,
        ge=1,
        description="Associations in all; one more is rejected 2/3/2.",
        json_schema_extra=unit("associations"),
    )
    maximum_associations_per_address: int = Field(
        16,
        ge=1,
        description="Associations of one peer address, so that one broken scanner "
        "cannot take all places.",
        json_schema_extra=unit("associations"),
    )
    request_timeout_s: Seconds = Field(
        15.0,
        description="From connection to a whole A-ASSOCIATE-RQ. A silent peer is "
        "closed after it.",
        json_schema_extra=unit("seconds"),
    )
    network_timeout_s: Seconds = Field(
        30.0,
        description="Longest silence within an association.",
        json_schema_extra=unit("seconds"),
    )
    maximum_command_bytes: int = Field(
        65536,
        ge=1024,
        description="Largest DIMSE command set; real ones have some hundred bytes.",
        json_schema_extra=unit("bytes"),
    )
    maximum_instance_bytes: int = Field(
        4 * 2**30,
        ge=1024,
        description="Largest data set of one instance; a longer one is aborted.",
        json_schema_extra=unit("bytes"),
    )
    private_storage_sop_classes: tuple[str, ...] = Field(
        (),
        description="UIDs of further storage SOP classes to accept (a vendor's own).",
    )


class TlsSettings(Section):
    """DICOM over TLS: a port of its own beside the plain one."""

    port: Port | None = Field(
        None,
        description="Port for TLS; 2762 is the registered one, 0 takes any free one "
        "(tests). Unset: no TLS.",
    )
    only: bool = Field(
        False,
        description="Close the plain port (`node.port`), so that nothing is received "
        "in clear.",
    )
    certificate_file: Path | None = Field(
        None,
        description="The node's certificate in PEM, then those that lead to its "
        "authority. Read again when it changes.",
    )
    key_file: Path | None = Field(
        None,
        description="Its key in PEM, without a password; only its owner may have "
        "rights on the file (mode 600).",
    )
    ca_file: Path | None = Field(
        None,
        description="Certificates in PEM of the authorities that vouch for those who "
        "call.",
    )
    require_client_certificate: bool = Field(
        True,
        description="Whether callers must show a certificate, because an AE title is "
        "no proof. Off: one is checked only if it is shown and `tls.ca_file` is set.",
    )
    handshake_timeout_s: Seconds = Field(
        5.0,
        description="Longest TLS handshake; a silent peer is closed after it.",
        json_schema_extra=unit("seconds"),
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "TlsSettings":
        if self.port is None:
            if self.only:
                raise ValueError("tls.only closes the plain port and needs `tls.port`")
            return self
        needed = {"certificate_file": self.certificate_file, "key_file": self.key_file}
        if self.require_client_certificate:
            needed["ca_file"] = self.ca_file
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"tls.port needs `tls.{'`, `tls.'.join(missing)}` as well")
        return self


class StoreSettings(Section):
    """Where received instances and results are kept."""

    low_water_bytes: int = Field(
        2_000_000_000,
        ge=0,
        description="Free space under which new associations are rejected (2/3/1), "
        "before the disk is full.",
        json_schema_extra=unit("bytes"),
    )
    receive_order: Literal["log", "file"] = Field(
        "log",
        description="How an instance becomes durable before Success: `log` appends it "
        "to a segment of a recycled log and syncs once, files and rows follow; `file` "
        "writes and syncs a file and its folder. Both promise the same; the log "
        "answers about twice as fast and writes small instances twice.",
    )
    log_bytes: int = Field(
        2**30,
        ge=64 * 2**20,
        description="Largest size of the log. When it is full, instances take the "
        "order `file` until the index has caught up.",
        json_schema_extra=unit("bytes"),
    )
    index_delay_s: Seconds = Field(
        3.0,
        description="How long the index waits for a pause in what is sent, so that "
        "a study that is sent in one go has disk and cores to itself. Afterwards it "
        "works beside it.",
        json_schema_extra=unit("seconds"),
    )
    durable_writes: bool = Field(
        True,
        description="Sync file and directory before answering Success. Off only for "
        "measurements: without it Success promises nothing.",
    )


class DatabaseSettings(Section):
    """The index: the truth about studies, jobs and deliveries."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL, e.g. `postgresql+psycopg://…` (extra `postgres`) "
        "past one machine. Unset: SQLite in the data directory.",
    )
    busy_timeout_s: Seconds = Field(
        5.0,
        description="How long a writer waits for another one's lock.",
        json_schema_extra=unit("seconds"),
    )


class SourceSettings(Section):
    """What is known of one sender; the first entry that matches counts."""

    calling_ae_title: str = Field(
        "*", description="AE title of the sender; `*` and `?` match as in file names."
    )
    quiet_time_s: Seconds | None = Field(
        None,
        description="Quiet time for this sender instead of `assembly.quiet_time_s`.",
        json_schema_extra=unit("seconds"),
    )
    required_series: tuple[dict[str, Any], ...] = Field(
        (),
        description="Conditions (as in a rule's `when`); the study is not settled by "
        "quiet time before each of them holds for one of its series.",
    )
    minimum_instances: int = Field(
        0,
        ge=0,
        description="Instances a study needs before quiet time may settle it.",
        json_schema_extra=unit("instances"),
    )
    expected_count_attribute: str | None = Field(
        None,
        description="Keyword of an attribute that holds the study's number of "
        "instances (e.g. NumberOfStudyRelatedInstances). As many received settle it.",
    )


class AssemblySettings(Section):
    """When a study is judged complete."""

    quiet_time_s: Seconds = Field(
        10.0,
        description="No instance for so long settles a study. The end of an "
        "association means nothing (PS3.4 B.4), so silence is the evidence.",
        json_schema_extra=unit("seconds"),
    )
    hard_cap_s: Seconds = Field(
        5400.0,
        description="So long after its first instance a study is settled whatever is "
        "missing; the reason is shown.",
        json_schema_extra=unit("seconds"),
    )


class QueueSettings(Section):
    """The broker and the leases of running jobs."""

    broker_url: str | None = Field(
        None,
        description="`redis://…` or `redis+socket://…`. Unset: a server of our own "
        "on a Unix socket in the data directory.",
    )
    sweep_interval_s: Seconds = Field(
        15.0,
        description="How often the node looks for jobs that lost message or worker.",
        json_schema_extra=unit("seconds"),
    )
    republish_after_s: Seconds = Field(
        60.0,
        description="A job still queued so long after its message was sent is "
        "announced again; announcing twice is harmless.",
        json_schema_extra=unit("seconds"),
    )
    heartbeat_s: Seconds = Field(
        5.0,
        description="How often a worker shows that a job is alive.",
        json_schema_extra=unit("seconds"),
    )
    lease_s: Seconds = Field(
        30.0,
        description="A job whose heartbeat stood still for so long, by the node's own "
        "monotonic clock, is taken back.",
        json_schema_extra=unit("seconds"),
    )
    maximum_attempts: int = Field(
        3,
        ge=1,
        description="Starts of a job before it is `failed`, in sight.",
        json_schema_extra=unit("attempts"),
    )


class WorkerSettings(Section):
    """Reading of studies."""

    concurrency: int = Field(
        1,
        ge=1,
        description="Reading processes of one worker, each with its own copy of the "
        "models.",
        json_schema_extra=unit("processes"),
    )
    jobs_per_process: int = Field(
        2,
        ge=1,
        le=64,
        description="Studies in hand at a time in each reading process: one is fetched "
        "and decoded while the network runs for another. Each is claimed when its "
        "reading begins.",
        json_schema_extra=unit("jobs"),
    )
    batch_wait_s: float = Field(
        0.002,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Longest wait of an image for those of other studies in the same "
        "process, to run through the network together. Nobody waits alone, nor where "
        "the runtime gains nothing by it.",
        json_schema_extra=unit("seconds"),
    )
    time_limit_s: Seconds = Field(
        300.0,
        description="Longest reading of one job; then its process is killed. A model "
        "package may say less (`time_limit_s`). The start of a process is not counted.",
        json_schema_extra=unit("seconds"),
    )
    start_time_limit_s: Seconds = Field(
        180.0,
        description="Longest start of a reading process and loading of a model, "
        "TensorFlow's import included.",
        json_schema_extra=unit("seconds"),
    )
    memory_limit_bytes: int = Field(
        0,
        ge=0,
        description="Address space of a reading process (RLIMIT_AS); 0 is none. "
        "TensorFlow alone maps some GB.",
        json_schema_extra=unit("bytes"),
    )
    maximum_decoded_bytes: int = Field(
        2 * 2**30,
        ge=2**20,
        description="Largest decoded pixel data of one object, computed before "
        "anything is allocated.",
        json_schema_extra=unit("bytes"),
    )
    runtime: Literal["automatic", "tensorflow", "litert", "onnx"] = Field(
        "automatic",
        description="What networks run in. `automatic`: the fastest on this machine "
        "that gives the package's golden answers. One that is named and cannot serve a "
        "package gives way to TensorFlow; `secondread models show` says why.",
    )
    threads: int = Field(
        0,
        ge=0,
        description="Cores that one network may use; 0 shares those of this machine "
        "(or container) among the reading processes.",
        json_schema_extra=unit("threads"),
    )
    models_memory_bytes: int = Field(
        4 * 2**30,
        ge=0,
        description="Memory of all networks that a reading process keeps; the least "
        "recently used go first. Measured as growth of the process; 0 is no limit.",
        json_schema_extra=unit("bytes"),
    )
    maximum_jobs_per_process: int = Field(
        200,
        ge=1,
        description="Jobs after which a reading process is replaced, against leaks.",
        json_schema_extra=unit("jobs"),
    )


class ModelSettings(Section):
    """Which model packages are there."""

    directories: tuple[Path, ...] = Field(
        (),
        description="Folders of model packages beside the shipped ones and "
        "`models/` in the data directory.",
    )


class ReportSettings(Section):
    """The structured report."""

    not_analysed: Literal["send", "keep"] = Field(
        "send",
        description="Whether a report that says `not analysed` and why is sent. A "
        "missing report must never be read as `nothing found`.",
    )
    failed: Literal["send", "keep"] = Field(
        "send",
        description="Whether a report that says `failed` is sent once a job has failed "
        "for good.",
    )
    series_number: int = Field(
        901,
        ge=1,
        le=2147483647,
        description="Series Number of the first report of a study, apart from the "
        "modality's.",
    )


class DeliverySettings(Section):
    """Sending of reports."""

    first_delay_s: Seconds = Field(
        2.0,
        description="Wait after a first failed attempt; doubled each time.",
        json_schema_extra=unit("seconds"),
    )
    maximum_delay_s: Seconds = Field(
        900.0,
        description="Longest wait between two attempts.",
        json_schema_extra=unit("seconds"),
    )
    horizon_s: Seconds = Field(
        72 * 3600.0,
        description="So long an unreachable destination is tried: a long weekend.",
        json_schema_extra=unit("seconds"),
    )
    refusals_before_failed: int = Field(
        3,
        ge=1,
        description="Refusals (statuses that a resend will not change) before a "
        "delivery is `failed`, in sight.",
        json_schema_extra=unit("attempts"),
    )
    timeout_s: Seconds = Field(
        30.0,
        description="Longest silence of a destination.",
        json_schema_extra=unit("seconds"),
    )
    keep_open_s: float = Field(
        5.0,
        ge=0,
        description="How long a connection to a destination stays open without work, "
        "so that the next report needs no new one; 0 closes it after each round.",
        json_schema_extra=unit("seconds"),
    )


class DestinationSettings(Section):
    """One place that reports go to."""

    name: str = Field(
        min_length=1, max_length=64, description="Name that rules and lists use."
    )
    kind: Literal["dicom", "stow"] = Field("dicom", description="C-STORE or STOW-RS.")
    host: str = Field("127.0.0.1", description="Host of a DICOM destination.")
    port: Port = Field(104, description="Port of a DICOM destination.")
    ae_title: AeTitle = Field("ANY-SCP", description="AE title of the destination.")
    calling_ae_title: AeTitle | None = Field(
        None, description="AE title to call with; unset: the node's own."
    )
    url: str | None = Field(
        None, description="DICOMweb base URL of a STOW-RS destination."
    )
    bearer_token_file: Path | None = Field(
        None, description="File that holds a bearer token for STOW-RS."
    )
    tls: bool = Field(
        False,
        description="Call a DICOM destination over TLS. For STOW-RS the url says it.",
    )
    tls_ca_file: Path | None = Field(
        None,
        description="Certificates in PEM of the authorities that may vouch for the "
        "destination. Unset: those of this system.",
    )
    tls_certificate_file: Path | None = Field(
        None,
        description="Own certificate in PEM for destinations that ask for one; it may "
        "be the node's.",
    )
    tls_key_file: Path | None = Field(
        None, description="Its key in PEM, without a password, mode 600."
    )
    tls_check_server_name: bool = Field(
        True,
        description="Whether the destination's certificate must name its host. Off "
        "only where certificates name no hosts, as those of some modalities.",
    )
    tls_server_name: str | None = Field(
        None, description="Name to look for in the certificate; unset: the host."
    )
    report_class: Literal["comprehensive-3d", "comprehensive", "enhanced"] = Field(
        "comprehensive-3d",
        description="SR class to send; the others are for archives that refuse "
        "Comprehensive 3D SR.",
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> "DestinationSettings":
        if self.kind == "stow" and not self.url:
            raise ValueError(f"destination {self.name!r} of kind stow needs `url`")
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError(
                f"destination {self.name!r}: `tls_certificate_file` and `tls_key_file` "
                "go together"
            )
        return self


class DicomwebSettings(Section):
    """Search, retrieve and store over HTTP."""

    enabled: bool = Field(
        True, description="Whether the node serves DICOMweb, below `/dicom-web`."
    )
    port: Port = Field(
        8080,
        description="HTTP port. 0 takes any free one (tests). A port that is taken "
        "does not keep the node from receiving: the log and `secondread doctor` tell.",
    )
    bind_address: str = Field(
        "127.0.0.1",
        description="Address to listen on. Whoever may read here sees patient data, so "
        "it is this machine alone until it is said otherwise; beyond it every request "
        "needs a token, and TLS by a proxy in front.",
    )
    require_token: bool = Field(
        False,
        description="Ask for a bearer token on the loopback address, too; on every "
        "other address one is needed anyway (`secondread token create`).",
    )
    public_url: str | None = Field(
        None,
        description="Address of the service as clients see it behind a proxy, e.g. "
        "`https://pacs.example/dicom-web`; stands in RetrieveURL and BulkDataURI. "
        "Unset: what the request was sent to.",
    )
    maximum_results: int = Field(
        1000,
        ge=1,
        le=100000,
        description="Most results of one search; the rest is asked for with `offset`.",
        json_schema_extra=unit("results"),
    )
    maximum_requests: int = Field(
        64,
        ge=1,
        description="Requests served at once; one more is answered 503.",
        json_schema_extra=unit("requests"),
    )
    timeout_s: Seconds = Field(
        30.0,
        description="Longest silence of a client that sends a request or takes an "
        "answer; then its connection is closed.",
        json_schema_extra=unit("seconds"),
    )
    bulk_data_bytes: int = Field(
        1024,
        ge=0,
        description="Binary values longer than this stand in metadata as a URI.",
        json_schema_extra=unit("bytes"),
    )


class QuerySettings(Section):
    """Query and retrieve over DIMSE: C-FIND, C-MOVE, C-GET."""

    allowed_callers: tuple[str, ...] = Field(
        (),
        description="Who may query and retrieve, of those in `node.allowed_callers`: "
        "entries as there. Empty: this machine only, because patient data leave by it.",
    )


class RetrieveDestinationSettings(Section):
    """A peer that a C-MOVE may send objects to."""

    ae_title: AeTitle = Field(description="AE title by which a C-MOVE names it.")
    host: str = Field("127.0.0.1", description="Host on which it listens.")
    port: Port = Field(104, description="DICOM port on which it listens.")


class RuleSettings(Section):
    """Which studies go to which models and where their reports go."""

    name: str = Field(min_length=1, description="Name shown with each job.")
    when: dict[str, Any] = Field(
        default_factory=dict,
        description="Conditions that must all hold for one series of the study: "
        "`Keyword = value`, `= [set]`, `= {matches = regex}`, `= {min=, max=}`, "
        "`= {present = true}`, `= {not = …}`; also `calling_ae_title`, "
        "`called_ae_title`. An absent attribute makes a condition false.",
    )
    models: tuple[str, ...] = Field(
        ("*",), description="Names of models to read with; `*` is every active one."
    )
    destinations: tuple[str, ...] = Field(
        ("*",), description="Names of destinations; `*` is every one."
    )
    priority: Priority = Field(
        Priority.ROUTINE,
        description="Priority of the jobs; a STAT order raises it.",
    )
    enabled: bool = Field(True, description="False keeps a rule without using it.")


def _own_code(value: str, meaning: str) -> str:
    return f"{value}^99SECONDREAD^{meaning}"


class ReviewSettings(Section):
    """The pages for readers and operators, and what becomes of a decision."""

    enabled: bool = Field(
        True, description="Whether `secondread up` serves the pages as well."
    )
    bind_address: str = Field(
        "127.0.0.1",
        description="Address of the pages. Before opening it to a network put TLS in "
        "front, because passwords cross it.",
    )
    port: Port = Field(
        8480, description="Port of the pages; 0 takes any free one (tests)."
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="Names under which browsers may ask for the pages "
        "(`*.clinic.org`). Empty: this machine's own while the address is a loopback "
        "one, any otherwise.",
    )
    https: bool = Field(
        False,
        description="Whether TLS ends in front of the pages: cookies then travel over "
        "it alone.",
    )
    session_idle_s: Seconds = Field(
        3600.0,
        description="A session that nobody used for so long ends.",
        json_schema_extra=unit("seconds"),
    )
    session_longest_s: Seconds = Field(
        12 * 3600.0,
        description="Longest session: a shift.",
        json_schema_extra=unit("seconds"),
    )
    invitation_s: Seconds = Field(
        24 * 3600.0,
        description="So long a one-time link makes an account.",
        json_schema_extra=unit("seconds"),
    )
    login_attempts: int = Field(
        10,
        ge=1,
        description="Failed log-ins of one account or from one address within five "
        "minutes; the next waits.",
        json_schema_extra=unit("attempts"),
    )
    organization: str = Field(
        "not stated",
        min_length=1,
        max_length=64,
        description="Verifying Organization in the document of a decision.",
    )
    undo_window_s: float = Field(
        10.0,
        ge=0,
        description="So long a decision can be taken back; its document leaves after.",
        json_schema_extra=unit("seconds"),
    )
    hold: tuple[str, ...] = Field(
        (),
        description="Models (`*`: every one) whose report leaves only after a reader "
        "accepted or amended it. Not analysed and failed leave at once.",
    )
    decision_concept: CodeText = Field(
        _own_code("assessment", "AI result assessment"),
        description="Concept name of the decision: value^scheme^meaning. IHE's own "
        "codes were not available; a private scheme (99…) is described in the "
        "document.",
    )
    accepted: CodeText = Field(
        _own_code("accepted", "AI result accepted"), description="Code of a decision."
    )
    amended: CodeText = Field(
        _own_code("amended", "AI result amended"), description="Code of a decision."
    )
    rejected: CodeText = Field(
        _own_code("rejected", "AI result rejected"), description="Code of a decision."
    )
    reason_concept: CodeText = Field(
        _own_code("reason", "Reason for assessment"),
        description="Concept name of the reason.",
    )
    reasons: tuple[CodeText, ...] = Field(
        (
            _own_code("false-positive", "Finding is not there"),
            _own_code("false-negative", "Finding was missed"),
            _own_code("wrong-place", "Finding is somewhere else"),
            _own_code("image-quality", "Image quality is not sufficient"),
            _own_code("not-applicable", "Model is not made for this image"),
            _own_code("wrong-patient", "Image is of another patient"),
            _own_code("software-fault", "Result is a fault of the software"),
        ),
        description="Reasons that a reader can choose from.",
    )
    sites: tuple[CodeText, ...] = Field(
        (
            "39607008^SCT^Lung",
            "45653009^SCT^Upper lobe of lung",
            "72481006^SCT^Middle lobe of right lung",
            "90572001^SCT^Lower lobe of lung",
            "3120008^SCT^Pleura",
            "816094009^SCT^Thorax",
        ),
        description="Finding sites that an amendment offers beside the model's own.",
    )


class LogSettings(Section):
    """What is written about the work."""

    format: Literal["text", "json"] = Field(
        "text", description="`json` for log collectors, one object a line."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is written."
    )
