"""Certificates for tests, made anew by openssl's command and never kept."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Authority", "Identity", "needs_openssl"]

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the openssl command is not installed"
)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_new_key(self._key), "-out", self.certificate,
            "-days", "2", "-subj", f"/CN={name}",
        )  # fmt: skip

    def identity(
        self, name: str, *, host: str = "127.0.0.1", days: int = 60
    ) -> Identity:
        """Issue a certificate for an address; a negative number of days is over."""
        request = self._folder / f"{name}.csr"
        extensions = self._folder / f"{name}.ext"
        made = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        kind = "IP" if host.replace(".", "").isdigit() else "DNS"
        extensions.write_text(f"subjectAltName={kind}:{host}\n")
        made.key.unlink(missing_ok=True)
        _openssl("req", *_new_key(made.key), "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey",
            self._key, "-CAcreateserial", "-days", days, "-extfile", extensions,
            "-out", made.certificate,
        )  # fmt: skip
        made.key.chmod(0o600)
        return made


def _new_key(path: Path) -> list[object]:
    return [
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", path,
    ]  # fmt: skip


def _openssl(*arguments: object) -> None:
    subprocess.run(
        ["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60
    )
