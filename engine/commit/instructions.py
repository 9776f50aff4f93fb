"""Changes to a config as Dockerfile instructions, as `docker commit --change` accepts them."""

import json
import re
import signal
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from engine.commit import shell_words
from engine.errors import InvalidText, printable
from engine.spec import go_json
from engine.units import NS_PER_SECOND

_PAIR = re.compile(r"""((?:[^"'\\=]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+)=(.*)""", re.DOTALL)
_PORT = re.compile(r"([0-9]+)(?:-([0-9]+))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,18}")
_REAL_TIME_SIGNAL = re.compile(r"SIGRT(?:MIN\+(?:1[0-5]|[1-9])|MAX-(?:1[0-4]|[1-9]))")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 10**6,
    "s": NS_PER_SECOND,
    "m": 60 * NS_PER_SECOND,
    "h": 3600 * NS_PER_SECOND,
}
_MAX_INT = (1 << 63) - 1
_MAX_INT32 = (1 << 31) - 1
_LEAST_HEALTH_TIME = 10**6
_SHELL = ["/bin/sh", "-c"]
_EMPTY = (b"null", b'""', b"[]", b"{}")

Config = dict[str, Any]


class InvalidInstruction(InvalidText):
    """A text that is not an instruction that changes a config."""

    def __str__(self) -> str:
        return f"change {printable(self.subject)!r}: {printable(self.reason)}"


def applied(config: Mapping[str, Any], *texts: str) -> Config:
    """Return the `config` member of an image config, as `docker.parse_process` returns it, after
    these instructions; raise InvalidInstruction.

    ENTRYPOINT removes the command of `config`, as in docker, and keeps one that CMD sets among
    these instructions.
    """
    changes = [(text, *_parsed(text)) for text in texts]
    found = dict(config)
    if any(change is _entrypoint for _, change, _ in changes):
        found.pop("Cmd", None)
    for text, change, rest in changes:
        try:
            change(found, rest)
        except ValueError as error:
            raise InvalidInstruction(text, str(error)) from error
    return {key: value for key, value in found.items() if not _is_empty(value)}


def _is_empty(value: Any) -> bool:
    if isinstance(value, msgspec.Raw):
        return go_json.compact(bytes(value)) in _EMPTY
    return value in (None, "", [], {})


def _parsed(text: str) -> tuple[Callable[[Config, str], None], str]:
    """Return the change that an instruction makes, and its argument; raise InvalidInstruction."""
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    change = _INSTRUCTIONS.get(word.upper()) if word.isascii() else None
    if change is None:
        raise InvalidInstruction(text, f"expected one of {', '.join(_INSTRUCTIONS)}")
    if not rest:
        raise InvalidInstruction(text, f"{word.upper()} needs an argument")
    return change, rest


def _cmd(config: Config, rest: str) -> None:
    config["Cmd"] = _command(config, rest)


def _entrypoint(config: Config, rest: str) -> None:
    config["Entrypoint"] = _command(config, rest)


def _shell(config: Config, rest: str) -> None:
    words = _json_words(rest)
    if not words:
        raise ValueError("SHELL needs a JSON list of words")
    config["Shell"] = words


def _env(config: Config, rest: str) -> None:
    names = {entry.partition("=")[0]: entry for entry in config.get("Env") or ()}
    names |= {name: f"{name}={value}" for name, value in _pairs(config, rest).items()}
    config["Env"] = list(names.values())


def _label(config: Config, rest: str) -> None:
    labels = {**(config.get("Labels") or {}), **_pairs(config, rest)}
    config["Labels"] = dict(sorted(labels.items()))


def _expose(config: Config, rest: str) -> None:
    ports = set(config.get("ExposedPorts") or ())
    for word in _expanded(config, rest).split():
        port = _PORT.fullmatch(word)
        if port is None:
            raise ValueError(f"expected PORT[-PORT][/PROTOCOL], found {word}")
        first, last = int(port[1]), int(port[2] or port[1])
        if not 0 < first <= last <= 65535:
            raise ValueError(f"expected a port from 1 to 65535, found {word}")
        ports |= {f"{number}/{(port[3] or 'tcp').lower()}" for number in range(first, last + 1)}
    config["ExposedPorts"] = {port: {} for port in sorted(ports)}


def _volume(config: Config, rest: str) -> None:
    words = _json_words(rest)
    if words is None:
        words = shell_words.split(rest)
    places = [_expanded(config, word) for word in words]
    if not places or "" in places:
        raise ValueError("a volume needs a path")
    config["Volumes"] = {place: {} for place in sorted({*(config.get("Volumes") or ()), *places})}


def _workdir(config: Config, rest: str) -> None:
    above = config.get("WorkingDir") or "/"
    wanted = _nonempty(config, rest)
    path = wanted if wanted.startswith("/") else f"{above.rstrip('/')}/{wanted}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    config["WorkingDir"] = "/" + "/".join(parts)


def _user(config: Config, rest: str) -> None:
    if len(shell_words.split(rest)) != 1:
        raise ValueError("USER takes one word")
    config["User"] = _expanded(config, rest)


def _stopsignal(config: Config, rest: str) -> None:
    name = _nonempty(config, rest)
    if not (_is_signal(name.upper()) or (_NUMBER.fullmatch(name) and int(name))):
        raise ValueError(f"expected the name or the number of a signal, found {name}")
    config["StopSignal"] = name


def _is_signal(name: str) -> bool:
    """Return whether Linux has a signal of this name, which may lack SIG."""
    full = name if name.startswith("SIG") else f"SIG{name}"
    return full in signal.Signals.__members__ or _REAL_TIME_SIGNAL.fullmatch(full) is not None


def _onbuild(config: Config, rest: str) -> None:
    word = rest.split()[0].upper()
    if word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise ValueError(f"{word} cannot be put off to a build")
    config["OnBuild"] = [*(config.get("OnBuild") or ()), rest]


def _healthcheck(config: Config, rest: str) -> None:
    check: dict[str, Any] = {}
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        rest = rest.strip()
        name, equals, value = option[2:].partition("=")
        if _HEALTH_MEMBERS.get(name) in check:
            raise ValueError(f"--{name} is given twice")
        if name == "retries" and _NUMBER.fullmatch(value):
            check["Retries"] = _retries(value)
        elif name in _HEALTH_TIMES and equals:
            check[_HEALTH_TIMES[name]] = _health_time(value)
        else:
            raise ValueError(f"unknown option {option}")
    word, _, command = rest.partition(" ")
    if word.upper() == "NONE":
        if command.strip():
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD" or not command.strip():
        raise ValueError("expected NONE or CMD and a command")
    words = _json_words(command.strip())
    if words == []:
        raise ValueError("HEALTHCHECK CMD needs a command, found an empty list")
    test = ["CMD", *words] if words is not None else ["CMD-SHELL", command.strip()]
    config["Healthcheck"] = {"Test": test, **check}


_HEALTH_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
_HEALTH_MEMBERS = {**_HEALTH_TIMES, "retries": "Retries"}
_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _command(config: Config, rest: str) -> list[str]:
    words = _json_words(rest)
    return words if words is not None else [*(config.get("Shell") or _SHELL), rest]


def _json_words(text: str) -> list[str] | None:
    """Return the words of a JSON list; None for any other text, which is a shell command.

    Raise ValueError for a JSON list of other things than words, as docker does.
    """
    if not text.startswith("["):
        return None
    try:
        words: list[Any] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"expected a JSON list of words, found {text}")
    return words


def _pairs(config: Config, text: str) -> dict[str, str]:
    """Parse "NAME=VALUE …", or the old form "NAME VALUE"."""
    first, *others = shell_words.split(text)
    pairs = map(_pair, (first, *others)) if "=" in first else [_old_pair(first, text)]
    found = {_expanded(config, name): _expanded(config, value) for name, value in pairs}
    if "" in found:
        raise ValueError("a name is empty")
    return found


def _pair(word: str) -> tuple[str, str]:
    pair = _PAIR.fullmatch(word)
    if pair is None:
        raise ValueError(f"expected NAME=VALUE, found {word}")
    return pair[1], pair[2]


def _old_pair(first: str, text: str) -> tuple[str, str]:
    value = text.removeprefix(first).strip()
    if not value:
        raise ValueError(f"expected NAME=VALUE, found {text}")
    return first, value


def _nonempty(config: Config, text: str) -> str:
    found = _expanded(config, text)
    if not found:
        raise ValueError(f"expected a word, found {text}, which is empty")
    return found


def _expanded(config: Config, text: str) -> str:
    """Return a text without its quotes and escapes, and with variables from the config's `Env`."""
    env = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    return shell_words.expanded(text, env)


def _retries(text: str) -> int:
    found = int(text)
    if found > _MAX_INT32:
        raise ValueError(f"expected at most {_MAX_INT32} retries, found {text}")
    return found


def _health_time(text: str) -> int:
    """Return a duration in nanoseconds: at least 1 ms, as in docker, or 0 for docker's default."""
    found = _duration(text)
    if 0 < found < _LEAST_HEALTH_TIME:
        raise ValueError(f"expected a duration of at least 1ms, or 0s, found {text}")
    return found


def _duration(text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 1m30s, found {text}")
    parts = _DURATION_PART.findall(text)
    found = int(sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in parts))
    if found > _MAX_INT:
        raise ValueError(f"expected a duration of at most 292 years, found {text}")
    return found
