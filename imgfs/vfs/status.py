"""`.imgfs/`: what is told of the mount, of what became of uploads, and of what happened."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from engine.spec import digest, go_json
from engine.stores.local.events import KEPT, EventLog
from imgfs.vfs.nodes import READ_ONLY_FILE, Attributes, BytesFile, Node, Reader


class Reports(Protocol):
    """The reports about files that were written to `import/`."""

    def report(self, name: str) -> bytes | None:
        """Return the report about the file `name` as JSON, or None if there is none."""
        ...

    def report_names(self) -> list[str]:
        """Return the names of the files with a report, sorted."""
        ...


class ReportDirectory:
    """`.imgfs/imports/`: a JSON file for every file that was written to `import/`."""

    key = "reports"

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def attributes(self) -> Attributes:
        return Attributes(0o040555, timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def lookup(self, name: str) -> Node | None:
        data = self._reports.report(name.removesuffix(".json")) if name.endswith(".json") else None
        return None if data is None else _snapshot(f"report:{name}", data)

    def children(self) -> Iterable[tuple[str, Node]]:
        for name in self._reports.report_names():
            node = self.lookup(f"{name}.json")
            assert node is not None
            yield f"{name}.json", node

    def entry_timeout(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return 0.0

    def may_block(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return False

    def version(self) -> None:
        """The kernel keeps no name."""


class EventsFile:
    """A line of JSON for every event, in a file that grows; `tail -f` follows it."""

    may_block = False

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._lines = bytearray()
        self._count = 0
        self._last = 0
        self._mtime = 0
        self.key = f"events:{log.last()}"

    @property
    def is_long(self) -> bool:
        """Whether it has grown so much that the old lines had better be forgotten."""
        return self._count > 2 * KEPT

    def renewed(self) -> "EventsFile":
        """Another file, with the events that are still known."""
        return EventsFile(self._log)

    def attributes(self) -> Attributes:
        self._refresh()
        return Attributes(READ_ONLY_FILE, len(self._lines), self._mtime, timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def open(self) -> Reader:
        return self

    def read(self, offset: int, size: int) -> bytes:
        self._refresh()
        return bytes(self._lines[offset : offset + size])

    read_at_once = read

    def fileno(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """Nothing is held."""

    def _refresh(self) -> None:
        for event in self._log.after(self._last):
            self._lines += event.render()
            self._last, self._mtime = event.number, event.time_ns
            self._count += 1


class StatusDirectory:
    """`.imgfs/`: `events`, `imports/` and `status.json`."""

    key = "status"

    def __init__(
        self,
        status: Callable[[], Mapping[str, object]],
        reports: Reports,
        events: EventLog,
    ) -> None:
        self._status = status
        self._events = EventsFile(events)
        self._imports = ReportDirectory(reports)

    def attributes(self) -> Attributes:
        return Attributes(0o040555, timeout=0)

    def xattrs(self) -> Mapping[str, bytes]:
        return {}

    def lookup(self, name: str) -> Node | None:
        return dict(self.children()).get(name)

    def children(self) -> Iterable[tuple[str, Node]]:
        data = go_json.dumps_indented(dict(self._status())) + b"\n"
        if self._events.is_long:
            self._events = self._events.renewed()
        return [
            ("events", self._events),
            ("imports", self._imports),
            ("status.json", _snapshot("status.json", data)),
        ]

    def entry_timeout(self, child: Node) -> float:  # noqa: ARG002 (a `Directory`)
        return 0.0

    def may_block(self, name: str | None) -> bool:  # noqa: ARG002 (a `Directory`)
        return False

    def version(self) -> None:
        """The kernel keeps no name."""


def _snapshot(name: str, data: bytes) -> BytesFile:
    """A file of its bytes: other bytes are another inode, so that nobody reads a stale one."""
    return BytesFile(f"{name}\n{digest.of_bytes(data)}", data, timeout=0)
