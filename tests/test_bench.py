"""Tests of `scripts/bench`: its statistics, and how it runs commands."""

import json
import sys
from pathlib import Path

import pytest

from engine.archive.import_options import ImportOptions
from engine.archive.load_directory import load_directory
from scripts.lib.bench import printing
from scripts.lib.bench.debian_roots import RootImage, make_layout, with_other_digests
from scripts.lib.bench.images import make_files
from scripts.lib.bench.printing import Circumstances
from scripts.lib.bench.results import Goal, Report, Row
from scripts.lib.bench.running import Failed, command
from scripts.lib.bench.turns import Contender, Contest, Sample, by_turns
from tests.local_engine import LocalEngine

WHERE = Circumstances("2024-02-03", "a machine", 0.5, "small", 3)
CONTEST = Contest(
    "copying | pasting",
    {
        "disk": [Sample(1), Sample(10), Sample(2)],
        "ours": [Sample(2, 0.5, 5_000_000, 7), Sample(30, 1.5, 9_000_000, 9), Sample(3)],
    },
    size=2_000_000,
)


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def contender(name: str) -> Contender:
        def once() -> Sample:
            turns.append(name)
            return Sample(float(len(turns)))

        return Contender(name, once)

    done = by_turns("x", 2, [contender("a"), contender("b")])
    assert turns == ["a", "b", "a", "b"]
    assert [sample.seconds for sample in done.samples["b"]] == [2, 4]


def test_one_that_takes_long_runs_once() -> None:
    times = iter([31.0])
    done = by_turns("x", 3, [Contender("slow", lambda: Sample(next(times)))])
    assert [sample.seconds for sample in done.samples["slow"]] == [31, 31, 31]


def test_a_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    assert CONTEST.ratio("ours", "disk") == 2
    assert CONTEST.seconds("ours") / CONTEST.seconds("disk") == 1.5


def test_what_was_not_measured_is_left_out() -> None:
    assert CONTEST.first_byte("ours") == 1
    assert CONTEST.memory("ours") == 9_000_000
    assert CONTEST.written("ours") == 8
    assert CONTEST.memory("disk") is None


def test_the_cores_in_use_are_processor_time_by_time() -> None:
    samples = [Sample(2, processor=3), Sample(1, processor=1), Sample(4, processor=8), Sample(1)]
    assert Contest("x", {"ours": samples}).cores("ours") == 1.5
    assert CONTEST.cores("ours") is None


def test_processor_time_is_that_of_a_command_and_its_children() -> None:
    script = "import os; os.system('true'); sum(range(3_000_000)); print(os.times()[:4])"
    found = command([sys.executable, "-c", script]).processor
    assert found is not None
    assert 0.01 <= found < 60


def test_who_did_not_take_part_is_no_reference() -> None:
    assert CONTEST.fastest(["nobody", "ours"]) == "ours"
    assert CONTEST.slowest(["disk", "ours"]) == "ours"
    assert CONTEST.fastest(["nobody"]) is None


@pytest.mark.parametrize(
    ("goal", "value", "passthrough", "met"),
    [
        (Goal(1.5), 1.5, False, True),
        (Goal(1.5), 1.6, True, False),
        (Goal(1.3, 1.8), 1.6, True, False),
        (Goal(1.3, 1.8), 1.6, False, True),
        (Goal(0.9, at_least=True), 0.8, True, False),
        (Goal(0.9, 0.3, at_least=True), 0.8, False, True),
    ],
)
def test_goals(goal: Goal, value: float, passthrough: bool, met: bool) -> None:
    assert goal.is_met(value, passthrough) is met


def report() -> Report:
    found = Report(contests=[CONTEST], notes=["docker is left out"], passthrough="off: not here")
    found.time(CONTEST, "copying", "ours", Goal(1.5, 2.5), "disk")
    found.throughput(CONTEST, "speed", "ours", Goal(0.9, at_least=True), "disk")
    found.time(CONTEST, "copying ÷ a peer", "ours", Goal(1), None)
    found.rows.append(Row("speed of a small one", 0.0021, Goal(0.01), note="disk"))
    found.rows.append(Row("memory", 45.1, Goal(45), "MB"))
    return found


def test_every_row_stands_beside_its_goal() -> None:
    rows = printing.Markdown().area("copying", report()).splitlines()
    assert "| copying | 2.00 | ≤ 1.5 | ≤ 2.5 | yes | disk |" in rows
    assert "| speed | 0.50 | ≥ 0.9 |  | **no** | disk |" in rows
    assert "| copying ÷ a peer | – | ≤ 1 |  |  | no such peer is installed |" in rows
    assert "| memory | 45.1 MB | ≤ 45 MB |  | **no** |  |" in rows
    assert "Copying | pasting (2 MB):" in rows
    assert "| ours | 3.00 s | 2.00 | 1 | 1.00 s | 9 MB | 0 MB |" in rows
    assert "| speed of a small one | 0.002 | ≤ 0.01 |  | yes | disk |" in rows
    assert "## Copying" in rows
    assert "docker is left out." in rows
    assert "passthrough: off: not here." in rows


def test_text_has_the_same_figures() -> None:
    text = printing.Text().area("copying", report())
    assert "docker is left out" in text
    (line,) = [line for line in text.splitlines() if line.startswith("copying  ")]
    assert line.split() == ["copying", "2.00", "≤", "1.5", "≤", "2.5", "yes", "disk"]


def test_json_has_samples_and_the_goal_that_counts() -> None:
    printer = printing.Json()
    assert not printer.begin(WHERE)
    assert not printer.area("copying", report())
    reported = json.loads(printer.end())
    assert reported["date"] == "2024-02-03"
    assert reported["passthrough"] == "off: not here"
    assert reported["rows"][0]["area"] == "copying"
    assert reported["rows"][0]["goal"] == 2.5
    assert reported["rows"][0]["met"] is True
    assert reported["contests"][0]["contenders"]["ours"]["samples"][0]["seconds"] == 2


def test_a_command_is_measured() -> None:
    script = "import sys, time; print(1, flush=True); sys.stdin.read(); print('2' * 10**6)"
    sample = command([sys.executable, "-c", script])
    assert sample.first_byte is not None
    assert 0 < sample.first_byte < sample.seconds


def test_what_a_command_writes_is_counted(tmp_path: Path) -> None:
    script = f"dd if=/dev/zero of={tmp_path}/x bs=1M count=3 status=none conv=fsync"
    written = command(["sh", "-c", script]).written
    if not written:
        pytest.skip("the kernel counts nothing for this file system")
    assert written >= 3 << 20


def test_a_command_that_fails_tells_why() -> None:
    with pytest.raises(Failed, match="no such thing"):
        command(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(Failed, match="no-such-command is not installed"):
        command(["no-such-command"])


def test_generated_files_are_the_same_each_time(tmp_path: Path) -> None:
    def made(name: str) -> dict[str, bytes]:
        root = tmp_path / name
        make_files(root, 3, 200_000)
        return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}

    assert made("a") == made("b")
    assert sum(map(len, made("c").values())) == 200_000


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_roots_are_images_of_files(tmp_path: Path, compression: str) -> None:
    (tmp_path / "file").write_text("content")
    image = RootImage(tmp_path / "made")
    make_layout(image.layout, [[str(tmp_path)], [str(tmp_path / "file")]], compression)
    with LocalEngine(tmp_path / "store") as engine:
        load_directory(engine.store, image.layout, ImportOptions())
        found = engine.details("bench:1").manifest.manifest.layers
    assert [layer.digest for layer in found] == [f"sha256:{path.name}" for path in image.layers]


def test_roots_of_other_digests_have_the_same_diff_ids(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    image = RootImage(tmp_path / "made")
    make_layout(image.layout, [[str(tmp_path / "file")]], "gzip")
    with_other_digests(image, tmp_path / "other", 7)
    with LocalEngine(tmp_path / "store") as engine:
        for layout in (image.layout, tmp_path / "other"):
            load_directory(engine.store, layout, ImportOptions())
        one, other = engine.details("bench:1"), engine.details("bench:7")
    assert one.config.rootfs == other.config.rootfs
    assert one.manifest.manifest.layers != other.manifest.manifest.layers
