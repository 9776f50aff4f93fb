"""Platform specifiers (`OS`, `ARCH`, `OS/ARCH[/VARIANT]`) and the normal form of platforms.

OS may include a version and features, as in `windows(10.0.17763+win32k)/amd64`. The rules are those
of containerd/platforms. All functions are pure and safe from any thread, except `host`, which calls
uname. `engine.spec.platforms` re-exports these names, next to the matchers.
"""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

import msgspec

from engine.errors import InvalidPlatform
from engine.spec.descriptor import Platform

_HOST_OS: Final = "linux"
_SYSTEMS: Final = (
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9"
    " solaris windows zos"
)
_ARCHITECTURES: Final = (
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le"
    " mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm"
)
_MACHINES: Final = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "loongarch64": ("loong64", ""),
}

_OS: Final = r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?"
_PART: Final = r"[A-Za-z0-9_.-]+"
_BAD_ESCAPE: Final = r"%(?![0-9A-Fa-f]{2})"
_OS_OPTION_ESCAPES: Final = str.maketrans(
    {"%": "%25", "+": "%2B", "(": "%28", ")": "%29", "/": "%2F"}
)
_ARM_MACHINE: Final = r"armv([3-8])\w*"


def host(machine: str | None = None) -> Platform:
    """Return the platform of this machine, or of one with the uname `machine`; the OS is Linux."""
    return _of_machine(machine or os.uname().machine)


def parse(specifier: str, host: Platform | None = None) -> Platform:
    """Return the platform of a specifier; missing parts are those of `host`, by default this
    machine.

    Raise InvalidPlatform for malformed text and, if there is no slash, for an unknown name. The
    variant is handled as in containerd: `linux/arm64` has none, `linux/arm64/v8` has v8.
    """
    name, *rest = specifier.split("/")
    if "*" in specifier:
        raise InvalidPlatform(specifier, "wildcards are not supported")
    system, version, features = _parse_os(name, specifier)
    if len(rest) > 2:
        raise InvalidPlatform(specifier, "it has more than three parts")
    if not all(re.fullmatch(_PART, part) for part in rest):
        raise InvalidPlatform(specifier, "a part is empty or has a character that may not be there")
    if rest:
        architecture, variant = _parse_architecture(*rest)
    elif system in _SYSTEMS.split():
        architecture, variant = _architecture_of(host or _of_machine(os.uname().machine))
    else:
        architecture, variant = _parse_architecture(name)
        if architecture not in _ARCHITECTURES.split():
            raise InvalidPlatform(specifier, "unknown operating system or architecture")
        system = (host or _of_machine(os.uname().machine)).os
    return Platform(
        architecture=architecture,
        os=system,
        os_version=version,
        os_features=features,
        variant=variant,
    )


def normalize(platform: Platform) -> Platform:
    """Return the normal form: aliases resolved, default variants removed, features sorted."""
    architecture, variant = _normalize_architecture(platform.architecture, platform.variant)
    return msgspec.structs.replace(
        platform,
        os=_normalize_os(platform.os),
        architecture=architecture,
        variant=variant,
        os_features=tuple(sorted(set(platform.os_features))),
    )


def format(platform: Platform) -> str:  # noqa: A001 - the name in containerd
    """Return `os/architecture/variant`, or "unknown" without an os."""
    if not platform.os:
        return "unknown"
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))


def format_all(platform: Platform) -> str:
    """Return the platform as `format` does, with os version and features; `parse` reads it."""
    version = platform.os_version.translate(_OS_OPTION_ESCAPES)
    features = "".join(
        f"+{feature.translate(_OS_OPTION_ESCAPES)}"
        for feature in sorted(set(platform.os_features))
        if feature
    )
    if not platform.os or not (version or features):
        return format(platform)
    return format(msgspec.structs.replace(platform, os=f"{platform.os}({version}{features})"))


def _of_machine(machine: str) -> Platform:
    name = machine.lower()
    if arm := re.fullmatch(_ARM_MACHINE, name, re.ASCII):
        return Platform(architecture="arm", os=_HOST_OS, variant=f"v{arm[1]}")
    architecture, variant = _MACHINES.get(name, (name, ""))
    return Platform(architecture=architecture, os=_HOST_OS, variant=variant)


def _parse_os(part: str, specifier: str) -> tuple[str, str, tuple[str, ...]]:
    match = re.fullmatch(_OS, part)
    if match is None:
        raise InvalidPlatform(specifier, "the operating system is malformed")
    version, features = match[2] or "", match[3] or ""
    if re.search(_BAD_ESCAPE, version + features):
        raise InvalidPlatform(specifier, "a percent sign needs two hex digits behind it")
    decoded = tuple(unquote(feature) for feature in features.split("+")[1:])
    return _normalize_os(match[1]), unquote(version), decoded


def _parse_architecture(name: str, variant: str | None = None) -> tuple[str, str]:
    found = _normalize_architecture(name, variant or "")
    if variant is None:
        return ("arm", "") if found == ("arm", "v7") else found
    return ("arm64", "v8") if found == ("arm64", "") else found


def _architecture_of(platform: Platform) -> tuple[str, str]:
    if platform.architecture == "arm" and platform.variant != "v7":
        return "arm", platform.variant
    return platform.architecture, ""


def _normalize_os(name: str) -> str:
    lower = name.lower() or _HOST_OS
    return "darwin" if lower == "macos" else lower


def _normalize_architecture(name: str, variant: str) -> tuple[str, str]:
    name, variant = name.lower(), variant.lower()
    match name:
        case "i386":
            return "386", ""
        case "x86_64" | "x86-64" | "amd64":
            return "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64":
            aliases = {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}
            return "arm64", aliases.get(variant, variant)
        case "armhf":
            return "arm", "v7"
        case "armel":
            return "arm", "v6"
        case "arm":
            aliases = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}
            return "arm", aliases.get(variant, variant)
    return name, variant
