"""The legacy v1 configs of an image, one a layer, that docker save writes for clients before 1.10.

As dockerd 25 to 28 makes them: a layer's v1 ID hashes its config, the chain ID up to it and its
parent's v1 ID; only the top layer has the image's own fields, the others were made in 1970. (20.10
writes the year 1 for an image without a time, where these write null; 29 leaves out an empty
`OnBuild`, and so has other v1 IDs.)

Pure functions over bytes and frozen values.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from engine.spec import docker, go_json
from engine.spec.digest import Digest, chain_ids, of_bytes
from engine.spec.docker import V1Image

_LOWER: Final = docker.parse_v1(b'{"created":"1970-01-01T00:00:00Z"}')


def configs(config: bytes, diff_ids: Sequence[str], subject: str) -> tuple[bytes, ...]:
    """The v1 configs of the layers with these diff IDs, the lowest first; each has its v1 ID in it.

    InvalidDocument names `subject`, where docker could not read the image config.
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
