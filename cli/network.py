"""`secondread send` and `echo`: a peer for trying things out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exit_codes import FAILURE, UNAVAILABLE
from cli.options import AsJson, DataDirectory, opened_settings

if TYPE_CHECKING:
    from core.settings import Settings
    from dicom_node.tls import ClientTls

__all__ = ["Address", "dicom_files_of", "echo", "parse_address", "send"]

_PREAMBLE_BYTES = 128  # PS3.10 7.1: then comes the prefix
_PREFIX = b"DICM"


@dataclass(frozen=True)
class Address:
    """Where a peer listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is typed."""
        return (
            f"[{self.host}]:{self.port}"
            if ":" in self.host
            else (f"{self.host}:{self.port}")
        )


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, `[IPv6]:PORT` or `:PORT` (this machine).

    Raises
    ------
    typer.BadParameter
        If it is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if (
        not colon
        or not port.isascii()
        or not port.isdigit()
        or not (0 < int(port) < 65536)
    ):
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, e.g. 127.0.0.1:11112")
    return Address(host, int(port))


To = Annotated[
    Address | None,
    typer.Option(
        "--to",
        metavar="HOST:PORT",
        parser=parse_address,
        help="Where the peer listens. Default: this installation's own node.",
        show_default=False,
    ),
]
Called = Annotated[
    str | None,
    typer.Option(
        metavar="AE", help="AE title of the peer. Default: this installation's own."
    ),
]
Calling = Annotated[str, typer.Option(metavar="AE", help="AE title to call with.")]
Tls = Annotated[bool, typer.Option("--tls", help="Call over TLS.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        help="Authorities that may vouch for the peer, PEM. Default: the system's.",
        show_default=False,
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert", metavar="FILE", help="Own certificate, PEM.", show_default=False
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", metavar="FILE", help="Its key.", show_default=False),
]
TlsAnyName = Annotated[
    bool,
    typer.Option("--tls-any-name", help="Do not ask the certificate for the host."),
]


def _target(settings: "Settings", to: Address | None, *, tls: bool) -> Address:
    own = settings.tls.port if tls else settings.node.port
    if to is None and own is None:
        raise typer.BadParameter("this installation has no TLS port; --to names a peer")
    return to or Address("127.0.0.1", own or 0)


def _encryption(
    tls: bool,
    *,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    any_name: bool,
) -> "ClientTls | None":
    if not tls:
        if ca or certificate or key or any_name:
            raise typer.BadParameter("what is said of TLS needs --tls")
        return None
    from dicom_node.tls import ClientTls  # noqa: PLC0415

    made = ClientTls(
        ca_file=ca,
        certificate_file=certificate,
        key_file=key,
        check_server_name=not any_name,
        prefix="--tls: ",
    )
    made.context()  # what is wrong with the files is told before anything is called
    return made


def send(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...",
            exists=True,
            readable=True,
            help="DICOM files, or folders to send all DICOM files of.",
        ),
    ],
    to: To = None,
    called: Called = None,
    calling: Calling = "SECONDREAD-SEND",
    *,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_any_name: TlsAnyName = False,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Send DICOM files by C-STORE, each in the transfer syntax it has.

    Example: `secondread send study/ --to 192.0.2.7:104 --called PACS`
    """  # noqa: D301 - one line
    from cli import output  # noqa: PLC0415
    from dicom_node.senders.c_store import FileResult, send_files  # noqa: PLC0415

    settings = opened_settings(data_dir)
    paths = dicom_files_of(files)
    if not paths:
        raise typer.BadParameter("there is no DICOM file in what was given")
    encryption = _encryption(
        tls, ca=tls_ca, certificate=tls_certificate, key=tls_key, any_name=tls_any_name
    )
    target = _target(settings, to, tls=tls)
    console = output.messages()

    def tell(result: FileResult) -> None:
        if not result.ok:
            console.print(f"{result.path}: {result.answer.words}", markup=False)

    with console.status(f"sending {len(paths)} files to {target}"):
        results = send_files(
            paths,
            host=target.host,
            port=target.port,
            called=called or settings.node.ae_title,
            calling=calling,
            progress=tell,
            tls=encryption,
        )
    sent = sum(result.ok for result in results)
    if as_json:
        output.print_json(
            [
                {
                    "path": str(result.path),
                    "ok": result.ok,
                    "answer": result.answer.words,
                }
                for result in results
            ]
        )
    else:
        console.print(f"{sent} of {len(results)} files accepted by {target}.")
    if sent < len(results):
        unavailable = any("unavailable" in str(r.answer.outcome) for r in results)
        raise typer.Exit(UNAVAILABLE if unavailable else FAILURE)


def dicom_files_of(given: list[Path]) -> list[Path]:
    """Return what to send: files as they were named, of folders the DICOM files."""
    found: list[Path] = []
    for path in given:
        found += _walk(path) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        # A File-set's index names files; it is no instance to be stored (PS3.10 8.6).
        if path.is_file() and path.name != "DICOMDIR" and has_dicom_prefix(path):
            yield path


def has_dicom_prefix(path: Path) -> bool:
    """Tell whether a file begins as PS3.10 7.1 says."""
    try:
        with path.open("rb") as file:
            start = file.read(_PREAMBLE_BYTES + len(_PREFIX))
    except OSError:
        return False
    return start[_PREAMBLE_BYTES:] == _PREFIX


def echo(
    to: To = None,
    called: Called = None,
    calling: Calling = "SECONDREAD-ECHO",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest silence of the peer.")
    ] = 10.0,
    *,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_any_name: TlsAnyName = False,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Ask a peer whether it is there and knows us (C-ECHO).

    Example: `secondread echo --to 192.0.2.7:104 --called PACS`
    """
    from cli import output  # noqa: PLC0415
    from dicom_node.senders.c_echo import echo as ask  # noqa: PLC0415

    settings = opened_settings(data_dir)
    encryption = _encryption(
        tls, ca=tls_ca, certificate=tls_certificate, key=tls_key, any_name=tls_any_name
    )
    target = _target(settings, to, tls=tls)
    title = called or settings.node.ae_title
    result = ask(
        target.host,
        target.port,
        called=title,
        calling=calling,
        timeout_s=timeout,
        tls=encryption,
    )
    if as_json:
        output.print_json(
            {
                "peer": str(target),
                "called_ae_title": title,
                "ok": result.ok,
                "duration_s": round(result.seconds, 4),
                "answer": result.words,
            }
        )
    else:
        took = output.duration(result.seconds)
        output.messages().print(
            f"{title} at {target}: {result.words} ({took})", markup=False
        )
    if not result.ok:
        raise typer.Exit(UNAVAILABLE)
