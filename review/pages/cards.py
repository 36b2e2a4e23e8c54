"""Model cards, and how the models do in practice."""

from functools import lru_cache
from pathlib import Path

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import Response

from core.database import worklist
from core.errors import InvalidBundle
from core.settings import Settings
from models.bundle import Bundle
from models.catalogue import SHIPPED_BUNDLES, Catalogue, find_bundles
from review.pages.desk import office_of, render

__all__ = ["band_of", "model_page", "models_page"]

BINS = 10


@lru_cache(maxsize=4)
def _catalogue(directories: tuple[Path, ...]) -> Catalogue:
    return find_bundles(*directories)


def installed(settings: Settings) -> Catalogue:
    """Return the packages of the installation, as they were when first asked for."""
    return _catalogue((SHIPPED_BUNDLES, *settings.model_directories))


def band_of(
    settings: Settings, bundle_sha256: str, tracking_identifier: str
) -> tuple[float, float] | None:
    """Return the band in which a model's answer is undetermined; None without one."""
    for bundle in installed(settings).bundles.values():
        if bundle.bundle_sha256 == bundle_sha256:
            for output in bundle.outputs:
                if output.tracking_identifier == tracking_identifier:
                    return output.uncertain_band
    return None


def models_page(request: Request) -> Response:
    """Show every model, with what readers say of it."""
    office = office_of(request)
    found = installed(office.settings)
    newest = [found.find(name) for name in sorted({name for name, _ in found.bundles})]
    with office.database.read() as connection:
        practice = {
            f"{bundle.name} {bundle.version}": worklist.practice(
                connection, f"{bundle.name} {bundle.version}", bins=BINS
            )
            for bundle in found.bundles.values()
        }
    others = [one for one in found.bundles.values() if one not in newest]
    return render(
        request,
        "models.html",
        {
            "active": newest,
            "others": others,
            "refused": found.refused,
            "practice": practice,
        },
    )


def model_page(request: Request) -> Response:
    """Show a model's card."""
    office = office_of(request)
    name = request.path_params["name"]
    version = request.query_params.get("version")
    try:
        bundle = installed(office.settings).find(name, version)
    except InvalidBundle:
        what = f"model {name} {version or ''} (it may have been removed since)"
        return render(request, "missing.html", {"what": what}, status=404)
    return render(request, "model.html", {"bundle": bundle, "card": _card(bundle)})


def _card(bundle: Bundle) -> str:
    """Return the card as HTML; raw HTML in it is escaped: a card is data."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    return str(markdown.render(bundle.card))
