"""What the DICOMweb resources share: the stores, the limits, and who is asking."""

from collections.abc import Iterator
from dataclasses import dataclass

from starlette.requests import Request

from core.database.catalogue import StoredObject
from core.database.engine import Database
from core.settings import DicomwebSettings, NodeSettings
from core.uids import is_valid_uid
from dicom_node.dicomweb.access import Authorise
from dicom_node.dicomweb.answers import Refused, not_found
from dicom_node.dicomweb.renderer import Renderer
from dicom_node.instance_store import InstanceStore
from dicom_node.query.search import Search
from dicom_node.query.stored_files import StoredHeader, object_path, read_header
from dicom_node.receive import Receiver

__all__ = ["Resource", "Service", "resource_of"]


_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Resource:
    """A study, a series or an instance, by its UIDs; None is any."""

    study: str | None = None
    series: str | None = None
    instance: str | None = None

    @property
    def path(self) -> str:
        """Below the root of the service, without a leading slash."""
        parts = []
        for name, uid in (
            ("studies", self.study),
            ("series", self.series),
            ("instances", self.instance),
        ):
            if uid is not None:
                parts += [name, uid]
        return "/".join(parts)


@dataclass(frozen=True)
class Service:
    """One DICOMweb origin server.

    Parameters
    ----------
    settings
        Limits and the public address.
    node
        What is accepted, and under which title it is filed.
    database, store
        Index and files.
    search
        Over both.
    authorise
        Asked with each request.
    receiver
        Takes instances in; None where this process does not receive.
    renderer
        Decodes pixels; None where this process does not render.
    """

    settings: DicomwebSettings
    node: NodeSettings
    database: Database
    store: InstanceStore
    search: Search
    authorise: Authorise
    receiver: Receiver | None = None
    renderer: Renderer | None = None

    def root(self, request: Request) -> str:
        """Return the address of this service as the client sees it."""
        if self.settings.public_url:
            return self.settings.public_url.rstrip("/")
        url = request.url
        host = url.netloc
        if host in _THIS_MACHINE and request.scope.get("server"):
            # Some clients leave the port out of Host, where it belongs (RFC 9110 7.2).
            host = f"{host}:{request.scope['server'][1]}"
        return f"{url.scheme}://{host}{request.scope.get('root_path', '')}"

    def url_of(self, request: Request, resource: Resource) -> str:
        """Return the address of a resource."""
        return f"{self.root(request)}/{resource.path}"

    def first_object(self, resource: Resource) -> StoredObject:
        """Return the first object of a resource.

        Raises
        ------
        Refused
            404 if there is none.
        """
        found = next(self.objects(resource), None)
        if found is None:
            raise not_found("this study, series or instance")
        return found

    def objects(self, resource: Resource) -> Iterator[StoredObject]:
        """Return the objects of a resource one after the other."""
        return self.search.objects(
            study_instance_uid=resource.study,
            series_instance_uid=resource.series,
            sop_instance_uids=(resource.instance,) if resource.instance else (),
        )

    def header(self, resource: Resource) -> StoredHeader:
        """Read the header of one instance.

        Raises
        ------
        Refused
            404 if it is not here.
        """
        return read_header(object_path(self.store, self.first_object(resource)))


def resource_of(request: Request) -> Resource:
    """Read the resource from the path.

    Raises
    ------
    Refused
        400 if something in it is no UID.
    """
    uids: dict[str, str] = {}
    for name in ("study", "series", "instance"):
        uid = request.path_params.get(name)
        if uid is None:
            continue
        if not is_valid_uid(uid):
            raise Refused(
                400, f"the {name} in this path is no UID (PS3.5 9.1: digits and dots)"
            )
        uids[name] = uid
    return Resource(**uids)
