"""The legacy v1 configs, one per layer, that docker save writes for clients before 1.10.

They are those of dockerd 25 to 28: the v1 ID of a layer is the hash of its config, the chain ID up
to it and the v1 ID of its parent; only the top layer has the fields of the image, the others have
the creation time 1970. (20.10 writes the year 1 for an image without a time, where these write
null; 29 omits an empty `OnBuild` and so produces other v1 IDs.)

All functions are pure and all values frozen.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from engine.spec import docker, go_json
from engine.spec.digest import Digest, chain_ids, of_bytes
from engine.spec.docker import V1Image

_LOWER: Final = docker.parse_v1(b'{"created":"1970-01-01T00:00:00Z"}')


def configs(config: bytes, diff_ids: Sequence[str], subject: str) -> tuple[bytes, ...]:
    """Return the v1 configs of layers with these diff IDs, lowest first, each with its v1 ID.

    Raise InvalidDocument, which names `subject`, if docker could not read the image config.
    """
    top = msgspec.structs.replace(docker.parse_v1(config, subject), id="", parent="")
    made: list[bytes] = []
    parent = ""
    for position, chain_id in enumerate(chain_ids(diff_ids), 1):
        image = top if position == len(diff_ids) else _LOWER
        v1_id = _v1_id(image, chain_id, parent)
        named = msgspec.structs.replace(
            image, id=v1_id.encoded, parent=parent.partition(":")[2], os=top.os
        )
        made.append(go_json.dumps(named))
        parent = v1_id
    return tuple(made)


def _v1_id(image: V1Image, chain_id: str, parent: str) -> Digest:
    members: dict[str, object] = dict(go_json.members(go_json.dumps(image), "v1 config"))
    members["layer_id"] = chain_id
    if parent:
        members["parent"] = parent
    return of_bytes(go_json.dumps(members))
