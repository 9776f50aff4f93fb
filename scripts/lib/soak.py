"""Run clients of every kind on one mount and measure the growth of its process, for `scripts/soak`.

All clients stop while the process is measured, after the first minute and at the end. In between
these may grow: the lines of `.imgfs/events` (10,000 to 20,000 are kept), the reports of the last
1,000 uploads, SQLite's cache and the allocator's slack.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests import archives
from tests.archives import ImageParts
from tests.mounts import IMGFS, Mounted, mounts
from tests.waiting import wait_until

LAYERS = 48
IMAGES = 60
SLACK_BYTES = 24 << 20
REPORTS_BYTES = 4 << 20
GONE = {errno.ENOENT, errno.ESTALE, errno.EPERM, errno.EEXIST, errno.EINVAL}
"""The errnos that a client may get because of another client's change."""


@dataclass(frozen=True)
class Figures:
    """Resources that the mount's process uses."""

    rss: int
    descriptors: int
    database_descriptors: int
    handles: int
    inodes: int
    images: int
    event_bytes: int

    def __str__(self) -> str:
        return (
            f"RSS {self.rss / (1 << 20):.1f} MiB, {self.descriptors} descriptors and "
            f"{self.database_descriptors} of the database, {self.handles} handles, "
            f"{self.inodes} inodes, {self.images} images, {self.event_bytes >> 10} KiB of events"
        )


class Soak:
    """The clients, and the means to stop them."""

    def __init__(self, mounted: Mounted, seed: int) -> None:
        self._mounted = mounted
        self._seed = seed
        self._layers = [
            archives.layer(f"l{n}", random.Random(n).randbytes(20_000 << n % 7))
            for n in range(LAYERS)
        ]
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._running = threading.Event()
        self._end = threading.Event()
        self._idle = threading.Semaphore(0)
        commands: list[Callable[[random.Random], str]] = [
            *[self._read] * 3,
            *[self._load] * 2,
            self._load_broken,
            self._tag,
            self._remove,
            self._kill_a_reader,
        ]
        if b" gc " in subprocess.run([*IMGFS, "--help"], capture_output=True, check=True).stdout:
            commands.append(self._collect)
        self._threads = [
            threading.Thread(target=self._repeat, args=(command, number))
            for number, command in enumerate(commands)
        ]

    def start(self) -> None:
        self._running.set()
        for thread in self._threads:
            thread.start()

    def run_for(self, seconds: float) -> None:
        """Let the clients work for some time, or until one fails."""
        self._end.wait(seconds)

    def measure(self) -> Figures:
        """Stop all clients, measure, and continue."""
        self._running.clear()
        for _ in self._threads:
            if not self._end.is_set():
                self._idle.acquire()
        figures = figures_of(self._mounted)
        self._running.set()
        return figures

    def stop(self) -> None:
        self._end.set()
        self._running.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, command: Callable[[random.Random], str], number: int) -> None:
        chance = random.Random(self._seed + number)
        while not self._end.is_set():
            if not self._running.is_set():
                self._idle.release()
                self._running.wait()
                continue
            try:
                self.counts[command(chance)] += 1
            except Exception as error:  # any error is reported at the end
                if not isinstance(error, OSError) or error.errno not in GONE:
                    self.wrong.append(f"{command.__name__}: {error!r}")
                    self._end.set()

    # -- what clients do --------------------------------------------------------------------------

    def _read(self, chance: random.Random) -> str:
        for directory, _, files in os.walk(self._mounted / chance.choice(self._images())):
            for file in files:
                data = Path(directory, file).read_bytes()
                if len(file) == 64 and hashlib.sha256(data).hexdigest() != file:
                    self.wrong.append(f"{directory}/{file} has other bytes")
        return "images read"

    def _load(self, chance: random.Random) -> str:
        parts = ImageParts(
            layers=chance.sample(self._layers, chance.randint(1, 4)),
            created=f"20{chance.randint(10, 24)}-01-01T00:00:00Z",
        )
        name = f"r{chance.randrange(12)}:t{chance.randrange(8)}"
        if chance.random() < 0.5:
            archive = archives.docker_archive((parts, [name]))
        else:
            archive = archives.oci_archive((parts, f"docker.io/library/{name}"), gzipped=True)
        file = f"{chance.randrange(1 << 30)}.tar"
        self._mounted.load(archive, file)
        if chance.random() < 0.5:
            (self._mounted.drop / file).unlink()
        return "images loaded"

    def _load_broken(self, chance: random.Random) -> str:
        file = f"bad{chance.randrange(1 << 30)}.tar"
        archive = archives.docker_archive((ImageParts(layers=[chance.choice(self._layers)]), None))
        try:
            self._mounted.load(archive[: len(archive) // 2], file)
        except OSError as error:
            if error.errno != errno.EBADMSG:
                raise
        else:
            self.wrong.append("a broken archive was loaded")
        (self._mounted.drop / file).unlink()
        return "broken archives refused"

    def _tag(self, chance: random.Random) -> str:
        source, target = chance.choice(self._images()), f"tagged:{chance.randrange(20)}"
        if chance.random() < 0.5:
            (self._mounted / target).symlink_to(source)
        else:
            (self._mounted / source).rename(self._mounted / target)
        return "images tagged"

    def _remove(self, chance: random.Random) -> str:
        images = self._images()
        if len(images) < IMAGES and chance.random() < 0.9:
            self._end.wait(0.05)
            return "rests"
        for image in chance.sample(images, max(1, len(images) - IMAGES)):
            (self._mounted / image).rmdir()
        for file in os.listdir(self._mounted.drop)[:1]:
            (self._mounted.drop / file).unlink()
        return "removals"

    def _kill_a_reader(self, chance: random.Random) -> str:
        command = ["tar", "-cC", str(self._mounted / chance.choice(self._images())), "."]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            process.stdout.read(chance.randrange(1 << 20))
            process.kill()
        self._end.wait(0.2)
        return "readers killed"

    def _collect(self, chance: random.Random) -> str:
        self._end.wait(chance.uniform(1, 10))
        command = [*IMGFS, "--store", str(self._mounted.store), "gc"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            self.wrong.append(f"gc: {done.stderr.decode()}")
        return "collections"

    def _images(self) -> list[str]:
        return [name for name in self._mounted.names() if ":" in name] or ["none"]


def figures_of(mounted: Mounted) -> Figures:
    """Measure the process, after it has released what can be released."""
    with contextlib.suppress(PermissionError):
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
    status = mounted / ".imgfs/status.json"

    def is_quiet() -> bool:
        return int(json.loads(status.read_bytes())["handles"]) == 0

    wait_until(is_quiet, "nothing is open in the mount")
    told = json.loads(status.read_bytes())
    links = []
    for link in Path(f"/proc/{mounted.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(link))
    of_database = sum("imgfs.db" in link for link in links)
    pages = int(Path(f"/proc/{mounted.pid}/statm").read_text().split()[1])
    return Figures(
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        descriptors=len(links) - of_database,
        database_descriptors=of_database,
        handles=told["handles"],
        inodes=told["inodes"],
        images=told["images"],
        event_bytes=(mounted / ".imgfs/events").stat().st_size,
    )


def unexplained(first: Figures, last: Figures) -> list[str]:
    """Return the resources that have grown more than they may."""
    found = []
    events = 3 * max(0, last.event_bytes - first.event_bytes)
    if last.rss > first.rss + events + REPORTS_BYTES + SLACK_BYTES:
        found.append(f"memory: {first.rss} → {last.rss} bytes")
    if last.descriptors > first.descriptors + 4:
        found.append(f"descriptors: {first.descriptors} → {last.descriptors}")
    if last.database_descriptors > 3 * 130:
        found.append(f"descriptors of the database: {last.database_descriptors}")
    if last.handles:
        found.append(f"handles: {last.handles}")
    per_image = first.inodes / max(1, first.images)
    if last.inodes > 2 * max(first.inodes, per_image * last.images) + 1000:
        found.append(f"inodes: {first.inodes} → {last.inodes}")
    return found


def soak(minutes: float) -> int:
    """Run the clients and return the exit status."""
    warm = min(1.0, minutes / 4) * 60
    with (
        tempfile.TemporaryDirectory(prefix="imgfs-soak-") as scratch,
        mounts(Path(scratch)) as mount,
    ):
        clients = Soak(mount(), seed=int(time.time()))
        clients.start()
        try:
            clients.run_for(warm)
            first = clients.measure()
            print(f"after {warm:.0f} s: {first}", flush=True)
            clients.run_for(minutes * 60 - warm)
            last = clients.measure()
            print(f"after {minutes * 60:.0f} s: {last}", flush=True)
        finally:
            clients.stop()
        wrong = [*clients.wrong, *unexplained(first, last)]
        print(", ".join(f"{count} {what}" for what, count in sorted(clients.counts.items())))
    for line in wrong:
        print(f"soak: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, prog="soak")
    parser.add_argument("minutes", nargs="?", type=float, default=60.0)
    sys.exit(soak(parser.parse_args().minutes))
