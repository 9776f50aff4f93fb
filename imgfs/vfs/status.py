"""The directory `.imgfs/`: the state of the mount, reports about uploads, and the event log."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from engine.closing import Closing
from engine.spec import digest, go_json
from engine.stores.protocols import EventLog
from engine.stores.records import EVENTS_KEPT
from imgfs.vfs.nodes import (
    READ_ONLY_DIRECTORY,
    READ_ONLY_FILE,
    Attributes,
    BytesFile,
    Node,
    Reader,
    ReadOnlyDirectory,
    ReadOnlyNode,
)

_LISTED: Final = ("events", "imports", "status.json")


class Reports(Protocol):
    """The reports about files that were written to `import/`."""

    def report(self, name: str) -> bytes | None:
        """Return the report about the file `name` as JSON, or None if there is none."""

    def report_names(self) -> list[str]:
        """Return the names of the files with a report, sorted."""


class ReportDirectory(ReadOnlyDirectory):
    """The directory `.imgfs/imports/`: a JSON file for each file that was written to `import/`."""

    key = "reports"

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, timeout=0)

    def lookup(self, name: str, /) -> Node | None:
        data = self._reports.report(name.removesuffix(".json")) if name.endswith(".json") else None
        return None if data is None else _snapshot(f"report:{name}", data)

    def children(self) -> Iterable[tuple[str, Node]]:
        for name in self._reports.report_names():
            node = self.lookup(f"{name}.json")
            assert node is not None
            yield f"{name}.json", node


class EventsFile(Closing, ReadOnlyNode):
    """The events as lines of JSON, in a growing file that `tail -f` can follow."""

    may_block = False

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lines = bytearray()
        self._count = 0
        self._last = 0
        self._mtime = 0
        self.key = f"events:{log.last()}"

    def current(self) -> "EventsFile":
        """Return this file, or a new one if it holds many events that the log has dropped."""
        return EventsFile(self._log) if self._count > 2 * EVENTS_KEPT else self

    def attributes(self) -> Attributes:
        self._refresh()
        return Attributes(READ_ONLY_FILE, len(self._lines), self._mtime, timeout=0)

    def open(self) -> Reader:
        return self

    def read(self, offset: int, size: int) -> bytes:
        self._refresh()
        return bytes(self._lines[offset : offset + size])

    read_at_once = read

    def fileno(self) -> int | None:
        return None

    def _refresh(self) -> None:
        for event in self._log.after(self._last):
            self._lines += event.render()
            self._last, self._mtime = event.number, event.time_ns
            self._count += 1


class StatusDirectory(ReadOnlyDirectory):
    """The directory `.imgfs/` with `events`, `imports/` and `status.json`."""

    key = "status"

    def __init__(
        self,
        status: Callable[[], Mapping[str, object]],
        reports: Reports,
        events: EventLog,
        waits: bool = False,
    ) -> None:
        """`waits` tells whether `status` can wait for the network."""
        self._status = status
        self._waits = waits
        self._events = EventsFile(events)
        self._imports = ReportDirectory(reports)

    def attributes(self) -> Attributes:
        return Attributes(READ_ONLY_DIRECTORY, timeout=0)

    def may_block(self, name: str | None, /) -> bool:
        return self._waits and name in (None, "status.json")

    def lookup(self, name: str, /) -> Node | None:
        match name:
            case "events":
                self._events = self._events.current()
                return self._events
            case "imports":
                return self._imports
            case "status.json":
                data = go_json.dumps_indented(dict(self._status())) + b"\n"
                return _snapshot(name, data)
        return None

    def children(self) -> Iterable[tuple[str, Node]]:
        found = ((name, self.lookup(name)) for name in _LISTED)
        return [(name, node) for name, node in found if node is not None]


def _snapshot(name: str, data: bytes) -> BytesFile:
    """Return a file whose key contains its digest, so that changed content is another inode and is
    never read from stale cache.
    """
    return BytesFile(f"{name}\n{digest.of_bytes(data)}", data, timeout=0)
