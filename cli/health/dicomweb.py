"""Check of DICOMweb: is it served, by whom, and is it guarded."""

from collections.abc import Iterator

from cli.health.check import Check, fail, ok, warn
from core.settings import Settings

__all__ = ["check_dicomweb"]

_TIMEOUT_S = 5.0
_ALIVE = "ok"


def check_dicomweb(settings: Settings) -> Iterator[Check]:
    """Ask the HTTP port for a sign of life, and look whether tokens are there."""
    import httpx  # noqa: PLC0415

    dicomweb = settings.dicomweb
    if not dicomweb.enabled:
        yield ok("DICOMweb", "switched off (dicomweb.enabled)")
        return
    address = dicomweb.bind_address
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
    place = f"{address} port {dicomweb.port}"
    url = f"http://[{host}]" if ":" in host else f"http://{host}"
    try:
        answer = httpx.get(
            f"{url}:{dicomweb.port}/healthz", timeout=_TIMEOUT_S, trust_env=False
        )
    except httpx.ConnectError:
        yield ok("DICOMweb", f"nobody listens on {place}; no node runs")
    except httpx.HTTPError as error:
        yield fail(
            "DICOMweb", f"{place} does not answer as HTTP ({type(error).__name__})",
            "stop the other program, or choose another dicomweb.port",
        )  # fmt: skip
    else:
        if answer.status_code == httpx.codes.OK and answer.text.strip() == _ALIVE:
            yield ok("DICOMweb", f"answers on {place} below /dicom-web")
        else:
            yield fail(
                "DICOMweb", f"another program answers on {place}",
                "stop it, or choose another dicomweb.port",
            )  # fmt: skip
    yield from _guarded(settings, address)


def _guarded(settings: Settings, address: str) -> Iterator[Check]:
    from cli.index import index_exists, opened_index  # noqa: PLC0415
    from core.database.access_tokens import list_tokens  # noqa: PLC0415
    from core.errors import SecondreadError  # noqa: PLC0415

    if address in ("127.0.0.1", "::1", "localhost") or not index_exists(settings):
        return
    try:
        with opened_index(settings) as database, database.read() as connection:
            tokens = list_tokens(connection)
    except SecondreadError:
        return  # the check of the index tells
    if not tokens:
        yield warn(
            "DICOMweb", "every request needs a token, and there is none",
            "secondread token create NAME",
        )  # fmt: skip
