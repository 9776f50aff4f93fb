"""Templates give what docker's own command line gives for the same image."""

from pathlib import Path

from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, succeeded
from tests.clients.daemons import Dockerd

INSPECTED = (
    "{{.Os}}/{{.Architecture}} {{.Created}}",
    "{{json .RepoTags}} {{len .RepoTags}} {{index .RepoTags 0 | upper}}",
    "{{json .Config.Labels}} {{json .Config.User}}{{.Config.WorkingDir}}",
    "{{range $i, $l := .RootFS.Layers}}{{$i}}={{truncate $l 12}}{{println}}{{end}}",
    '{{join .RepoTags ", "}} {{(split (index .RepoTags 0) ":")}} {{pad .Os 2 2}}|',
    '{{if and (eq .Os "linux") (not .Author)}}a{{else}}b{{end}} {{- /* c */}}',
    '{{printf "%6s|%-8s|%q" .Os .Os .Os}}',
    '{{with .Author}}{{.}}{{else}}nobody{{end}} {{print 1 2 "x" 3}} {{title "one two"}}',
)
LISTED = (
    "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}}",
    r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}",
    r"table {{upper .Repository}}\t{{.Tag}}",
    "{{json .Repository}} {{lower .Tag}}",
)


def test_templates_give_what_docker_gives(dockerd: Dockerd, tmp_path: Path) -> None:
    imgfs = Command(tmp_path / "store")
    image = ImageParts(layers=[archives.layer("app")], created="2020-02-03T04:05:06Z")
    archive = archives.docker_archive((image, ["example.com/team/app:1"]))
    dockerd.docker("load", stdin=archive)
    succeeded(imgfs("load", "-q", stdin=archive))
    for form in INSPECTED:
        wanted = dockerd.docker("image", "inspect", "-f", form, "example.com/team/app:1")
        found = succeeded(imgfs("inspect", "-f", form, "example.com/team/app:1"))
        assert found.out.decode().strip() == wanted.strip(), form
    for form in LISTED:
        wanted = dockerd.docker("images", "--format", form)
        found = succeeded(imgfs("images", "--format", form))
        assert found.out.decode().strip() == wanted.strip(), form
    containers = ("images", "--format", "{{.Containers}}")
    assert dockerd.docker(*containers).strip() in ("N/A", "0"), "docker counts them since 28"
    assert succeeded(imgfs(*containers)).out == b"N/A\n"
