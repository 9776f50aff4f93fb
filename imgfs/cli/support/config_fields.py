"""The fields that an image's config has for templates, whether the image sets them or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imgfs.cli.support.template_functions import NilList, NilMap, Record

_UNSET: Final[dict[str, Any]] = {
    **dict.fromkeys(("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"), NilList()),
    **dict.fromkeys(("ExposedPorts", "Labels", "Volumes"), NilMap()),
    **dict.fromkeys(("Healthcheck", "StopTimeout")),
    **dict.fromkeys(("Domainname", "Hostname", "Image", "StopSignal", "User", "WorkingDir"), ""),
    **dict.fromkeys(("ArgsEscaped", "AttachStderr", "AttachStdin", "AttachStdout"), False),
    **dict.fromkeys(("NetworkDisabled", "OpenStdin", "StdinOnce", "Tty"), False),
}
"""The fields of docker's container.Config, each with the zero value of its type in Go."""


def config_record(config: Mapping[str, Any]) -> Record:
    """Return a config with all fields that docker knows; null counts as not set."""
    given = {name: value for name, value in config.items() if value is not None}
    return Record({**dict.fromkeys(config), **_UNSET, **given})
