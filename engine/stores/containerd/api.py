"""The requests of containerd's services, with the engine's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from engine.content.protocols import Info
from engine.errors import AlreadyExists, NotFound, StoreError
from engine.image import Image
from engine.spec.descriptor import Descriptor
from engine.spec.digest import Digest, parse
from engine.stores.containerd import messages_pb2 as messages
from engine.stores.containerd.client import Client, Subscription
from engine.units import NS_PER_SECOND

_CONTENT: Final = "/containerd.services.content.v1.Content"
_IMAGES: Final = "/containerd.services.images.v1.Images"
_LEASES: Final = "/containerd.services.leases.v1.Leases"
_NAMESPACES: Final = "/containerd.services.namespaces.v1.Namespaces"
_INTROSPECTION: Final = "/containerd.services.introspection.v1.Introspection"
_EVENTS: Final = "/containerd.services.events.v1.Events"
_VERSION: Final = "/containerd.services.version.v1.Version/Version"
_EXPIRY: Final = "containerd.io/gc.expire"
PIECE: Final = 2 << 20
"""Bytes of content in one message; containerd refuses messages over 16 MiB."""


class Server:
    """The calls about a containerd itself."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def version(self) -> str:
        """Return the version, for example "1.6.20"."""
        answer = self._client.call(_VERSION, messages.Empty(), messages.Version)
        return answer.version

    def uuid(self) -> str:
        """Return what distinguishes this containerd from others, over its restarts."""
        method = f"{_INTROSPECTION}/Server"
        return self._client.call(method, messages.Empty(), messages.Server).uuid

    def exports(self, type_: str, id_: str) -> Mapping[str, str]:
        """Return what a plugin says of itself, nothing if there is no such plugin."""
        request = messages.Filters(filters=[f"type=={type_},id=={id_}"])
        answer = self._client.call(f"{_INTROSPECTION}/Plugins", request, messages.Plugins)
        return {key: value for plugin in answer.plugins for key, value in plugin.exports.items()}

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces, sorted."""
        method = f"{_NAMESPACES}/List"
        answer = self._client.call(method, messages.Empty(), messages.Namespaces)
        return sorted(each.name for each in answer.namespaces)

    def add_namespace(self, name: str) -> None:
        """Make a namespace, unless it is there."""
        request = messages.NamespaceRequest(namespace=messages.Namespace(name=name))
        try:
            about = ("namespace", name)
            self._client.call(f"{_NAMESPACES}/Create", request, messages.NamespaceRequest, about)
        except AlreadyExists:
            return

    def image_events(self) -> Subscription[messages.Event]:
        """Return the changes of names and blobs from now on, in all namespaces."""
        request = messages.Filters(filters=['topic~="^/(images|content)/"'])
        return self._client.subscribe(f"{_EVENTS}/Subscribe", request, messages.Event)


class Images:
    """The names of a namespace. A name can be any text here."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> list[Image]:
        answer = self._client.call(f"{_IMAGES}/List", messages.Filters(), messages.Images)
        return [_image(each) for each in answer.images]

    def put(self, image: Image) -> None:
        """Create an image, or point its name at another target."""
        target = messages.Descriptor(
            media_type=image.target.media_type,
            digest=image.target.digest,
            size=image.target.size,
            annotations=image.target.annotations,
        )
        request = messages.ImageRequest(
            image=messages.Image(name=image.name, labels=image.labels, target=target)
        )
        about = ("image", image.name)
        try:
            self._client.call(f"{_IMAGES}/Create", request, messages.ImageRequest, about)
        except AlreadyExists:
            self._client.call(f"{_IMAGES}/Update", request, messages.ImageRequest, about)

    def delete(self, name: str) -> None:
        """Remove a name, if it is there."""
        request = messages.ImageName(name=name)
        with suppress(NotFound):
            self._client.call(f"{_IMAGES}/Delete", request, messages.Empty, ("image", name))


class Content:
    """The blobs of a namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> list[Info]:
        answers = self._client.read(f"{_CONTENT}/List", messages.Filters(), messages.Blobs)
        return [_info(blob) for answer in answers for blob in answer.info]

    def info(self, digest: Digest) -> Info:
        """Return what is known of a blob; raise NotFound."""
        request = messages.Digest(digest=digest)
        about = ("blob", digest)
        return _info(self._client.call(f"{_CONTENT}/Info", request, messages.BlobInfo, about).info)

    def label(self, digest: Digest, labels: Mapping[str, str]) -> Info:
        """Add or replace labels, remove those with an empty value; raise NotFound."""
        request = messages.BlobUpdate(info=messages.Blob(digest=digest, labels=labels))
        request.update_mask.paths.extend(f"labels.{key}" for key in labels)
        about = ("blob", digest)
        return _info(
            self._client.call(f"{_CONTENT}/Update", request, messages.BlobInfo, about).info
        )

    def delete(self, digest: Digest) -> None:
        """Remove a blob from the namespace; raise NotFound."""
        request = messages.Digest(digest=digest)
        self._client.call(f"{_CONTENT}/Delete", request, messages.Empty, ("blob", digest))

    def read(self, digest: Digest, offset: int, size: int) -> bytes:
        """Return bytes of a blob, all of which it must have; raise NotFound."""
        request = messages.Range(digest=digest, offset=offset, size=size)
        about = ("blob", digest)
        pieces = self._client.read(f"{_CONTENT}/Read", request, messages.Piece, about)
        return b"".join(piece.data for piece in pieces)

    def begin(self, ref: str) -> None:
        """Begin an ingest, which can be resumed for a day."""
        request = messages.Write(action=messages.WriteAction.STAT, ref=ref)
        self._write([request], ref, "")

    def commit(
        self,
        ref: str,
        digest: Digest,
        labels: Mapping[str, str],
        pieces: Iterable[bytes | memoryview],
        offset: int,
        lease: str,
    ) -> None:
        """Write the rest of an ingest, which has `offset` bytes, and turn it into a blob.

        Raise AlreadyExists if the blob is there; the lease holds it even then.
        """
        about = ("blob", digest)
        self._write(self._requests(ref, digest, labels, pieces, offset), ref, lease, about)

    def _requests(
        self,
        ref: str,
        digest: Digest,
        labels: Mapping[str, str],
        pieces: Iterable[bytes | memoryview],
        offset: int,
    ) -> Iterator[messages.Write]:
        for piece in pieces:
            data = bytes(piece)
            yield messages.Write(
                action=messages.WriteAction.WRITE, ref=ref, offset=offset, data=data
            )
            offset += len(data)
        yield messages.Write(
            action=messages.WriteAction.COMMIT,
            ref=ref,
            total=offset,
            expected=digest,
            offset=offset,
            labels=labels,
        )

    def _write(
        self,
        requests: Iterable[messages.Write],
        ref: str,
        lease: str,
        about: tuple[str, str] | None = None,
    ) -> None:
        about = about or ("ingest", ref)
        answer = self._client.write(f"{_CONTENT}/Write", requests, messages.Written, about, lease)
        if answer is None:
            raise StoreError(ref, "expected an answer of containerd, found the end of the stream")

    def ingests(self) -> list[str]:
        """Return the names of all ingests."""
        answer = self._client.call(f"{_CONTENT}/ListStatuses", messages.Filters(), messages.Ingests)
        return [each.ref for each in answer.statuses]

    def abort(self, ref: str) -> None:
        """Discard an ingest, if it is there."""
        request = messages.Ref(ref=ref)
        with suppress(NotFound):
            self._client.call(f"{_CONTENT}/Abort", request, messages.Empty, ("ingest", ref))


class Leases:
    """The leases of a namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, id_: str, labels: Mapping[str, str], expires_at: float) -> None:
        """Make a lease that ends by itself at a time, in seconds since the epoch."""
        expiry = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        request = messages.NewLease(id=id_, labels={**labels, _EXPIRY: expiry})
        self._client.call(f"{_LEASES}/Create", request, messages.LeaseInfo, ("lease", id_))

    def add(self, id_: str, digest: Digest) -> None:
        """Let a lease protect a blob, stored or not; raise NotFound if it has ended."""
        request = messages.LeasedResource(
            id=id_, resource=messages.Resource(id=digest, type="content")
        )
        self._client.call(f"{_LEASES}/AddResource", request, messages.Empty, ("lease", id_))

    def delete(self, id_: str, and_collect: bool = False) -> None:
        """End a lease, if it is there; return after a collection if that is asked for."""
        request = messages.LeaseEnd(id=id_, sync=and_collect)
        with suppress(NotFound):
            self._client.call(f"{_LEASES}/Delete", request, messages.Empty, ("lease", id_))

    def all(self) -> list[str]:
        """Return the IDs of all leases."""
        answer = self._client.call(f"{_LEASES}/List", messages.Filters(), messages.Leases)
        return [each.id for each in answer.leases]


def _image(image: messages.Image) -> Image:
    target = Descriptor(
        image.target.media_type,
        image.target.digest,
        image.target.size,
        annotations=dict(image.target.annotations),
    )
    return Image(
        image.name,
        target,
        dict(image.labels),
        _seconds(image.created_at),
        _seconds(image.updated_at),
    )


def _info(blob: messages.Blob) -> Info:
    created_at = _seconds(blob.created_at)
    updated_at = max(_seconds(blob.updated_at), created_at)  # containerd 1.6 lists it as year 1
    return Info(parse(blob.digest), blob.size, created_at, updated_at, dict(blob.labels))


def _seconds(time: Timestamp) -> float:
    return time.seconds + time.nanos / NS_PER_SECOND
