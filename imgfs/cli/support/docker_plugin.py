"""imgfs as a plugin of the docker command line, by the name docker-imgfs.

docker asks a plugin for its metadata, and then calls it with the words of its own command line.
"""

import os
from collections.abc import Sequence

_NAME = "imgfs"
_METADATA = "docker-cli-plugin-metadata"
_CALLER = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
"""The variable that docker sets when it calls a plugin."""


def asks_for_metadata(arguments: Sequence[str]) -> bool:
    return list(arguments) == [_METADATA]


def metadata() -> str:
    """Return the metadata of the plugin, in the form of docker's plugin manager."""
    import json
    from importlib.metadata import version

    return json.dumps(
        {
            "SchemaVersion": "0.1.0",
            "Vendor": "imgfs",
            "Version": version("imgfs"),
            "ShortDescription": "A container image store that you use as a folder",
        }
    )


def without_docker(arguments: list[str]) -> list[str]:
    """Return the arguments for imgfs; docker's own options and the plugin's name precede them."""
    if _CALLER in os.environ and _NAME in arguments:
        return arguments[arguments.index(_NAME) + 1 :]
    return arguments
