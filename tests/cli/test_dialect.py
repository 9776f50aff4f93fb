"""Tests of docker's dialect: templates, filters, patterns, ages, and `help`."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgfs.cli.support.ages import age
from imgfs.cli.support.formats import rendered
from imgfs.cli.support.template_functions import Record, TemplateFailed
from imgfs.cli.support.templates import Template
from tests import archives
from tests.archives import ImageParts
from tests.cli.command import Command, Done, names, refusal, succeeded

DATA = Record(ID="abc", Labels={"b": "2", "a": "1"}, Names=["x", "y"], Empty="", Size=3)
OLD = ImageParts(layers=[archives.layer("old")], created="2023-01-02T03:04:05Z")
NEW = ImageParts(layers=[archives.layer("new")], created="2024-01-02T03:04:05Z")
BARE = ImageParts(layers=[archives.layer("bare")], created="2022-01-02T03:04:05Z")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.ID}} {{json .Labels}}", 'abc {"b":"2","a":"1"}'),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .Names}}<{{.}}>{{else}}none{{end}}", "<x><y>"),
        ('{{if eq .ID "abc"}}y{{else}}n{{end}}', "y"),
        ("{{with .Empty}}a{{else with .ID}}b{{.}}{{end}}", "babc"),
        ('{{.ID | upper | printf "%5s|%-5s|" "a"}}', "    a|ABC  |"),
        ("a {{- /* }} */ -}} b", "ab"),
        ("{{(index .Names 1) | title}}{{len .Names}}", "Y2"),
        ('{{join .Names ", "}} {{pad .ID 1 2}}{{truncate .ID 2}}', "x, y  abc  ab"),
        ("{{.Labels.z}} {{.Labels}} {{.Names}}", "<no value> map[a:1 b:2] [x y]"),
        ('{{$x := .Size}}{{println $x "a"}}{{$.ID}}', "3 a\nabc"),
        ('{{"}}\\t"}}{{`\\t`}}', "}}\t\\t"),
        ("{{and .ID .Empty}}{{or .Empty .ID}}{{not .Empty}}{{lt 1 2}}", "abctruetrue"),
        ("{{and .Empty (upper .Size)}}{{or .ID (upper .Size)}}", "abc"),
        ("{{and .ID .Size .Empty (upper .Size)}}{{or .Empty 0 .Size .ID}}", "3"),
    ],
)
def test_templates_are_rendered_as_go_does(source: str, expected: str) -> None:
    assert Template(source).render(DATA) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{.Nope}}", "there is no field .Nope; expected one of ID, Labels"),
        ("{{.ID.Nope}}", "there is no field .Nope in a text"),
        ("a {{if", "unclosed action"),
        ("{{if .ID}}", "{{if}} without its {{end}}"),
        ("{{end}}", "{{end}} without if, with or range"),
        ('{{define "x"}}', "{{define}} is not supported"),
        ("{{foo .ID}}", "no function foo"),
        ("{{and}}", "and: wrong number of arguments: 0"),
        ("{{or .Empty (upper .Size)}}", "upper: expected a text, found a number"),
        ("{{upper}}", "upper: wrong number of arguments: 0"),
        ("{{upper .Size}}", "upper: expected a text, found a number"),
        ("{{$x}}", "undefined variable $x"),
        ("{{(.ID}}", "unclosed parenthesis"),
        ("{{index .Names 2}}", "there are 2 elements, none at 2"),
        ("{{.ID .Size}}", "is no function"),
        ("{{pad .ID 99999 0}}", "expected a number up to 10000"),
        ("{{}}", "missing value"),
    ],
)
def test_a_template_that_is_not_supported_gives_its_reason(source: str, reason: str) -> None:
    with pytest.raises(TemplateFailed) as raised:
        Template(source).render(DATA)
    assert reason in str(raised.value)


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_stays_as_it_is(text: str) -> None:
    assert Template(text).render(None) == text


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="`\r")))
def test_values_and_literals_stay_as_they_are(value: str, literal: str) -> None:
    assert Template("{{.V}}{{`" + literal + "`}}").render(Record(V=value)) == value + literal
    assert json.loads(Template("{{json .V}}").render(Record(V=value))) == value


@given(st.text())
def test_json_is_json_on_any_terminal(value: str) -> None:
    shown = rendered(Template("{{json .}}"), {value: value})
    assert shown.isprintable()
    assert json.loads(shown) == {value: value}


def test_spaces_are_shown_and_what_a_terminal_obeys_is_escaped() -> None:
    spaces, unsafe = "a\u00a0b\u3000c\td\n", "\x1b\x7f\u009b\u202e\u2028\udc80\U000e0001"
    assert rendered(Template("{{.}}"), spaces) == spaces
    escapes = r"\x1b\x7f\x9b\u202e\u2028\udc80\U000e0001"
    assert rendered(Template("{{.}}"), unsafe) == escapes
    assert json.loads(rendered(Template("{{json .}}"), spaces + unsafe)) == spaces + unsafe


WORDS = ("{{", "}}", ".", "if", "end", "range", "-", "$x", ":=", "(", ")", "|", '"', "`", " ", "1")


@given(st.lists(st.sampled_from((*WORDS, "else", "json", "index", "/*", "*/"))))
def test_any_source_is_rendered_or_refused_with_a_reason(words: list[str]) -> None:
    with suppress(TemplateFailed):
        assert isinstance(Template("".join(words)).render(DATA), str)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_ages_are_those_of_docker(seconds: int, text: str) -> None:
    assert age(seconds) == f"{text} ago"


@pytest.fixture
def images(stock: Callable[..., None], inside: Callable[..., Done]) -> Callable[..., list[str]]:
    """Return a function that gives the names which `imgfs images` prints for some arguments."""
    stock(archives.oci_archive((OLD, "app:v2"), (OLD, "app:v10"), (NEW, "ghcr.io/org/app:1")))
    stock(archives.docker_archive((BARE, None)))

    def run(*arguments: str) -> list[str]:
        form = "{{.Repository}}:{{.Tag}}"
        return succeeded(inside("images", "--format", form, *arguments)).lines

    return run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["ghcr.io/org/app:1", "app:v2", "app:v10", "<none>:<none>"]),
        (("-a", "ap*"), ["app:v2", "app:v10"]),
        (("nope*",), []),
        (("--filter", "reference=*/org/*:1"), ["ghcr.io/org/app:1"]),
        (("--filter", "dangling=true"), ["<none>:<none>"]),
        (("-f", "dangling=false", "-f", "before=ghcr.io/org/app:1"), ["app:v2", "app:v10"]),
        (("--filter", "since=app:v2"), ["ghcr.io/org/app:1"]),
        (("--filter", "until=2022-06-01T00:00:00Z"), ["<none>:<none>"]),
        (("--filter", "label=nope"), []),
    ],
)
def test_images_are_filtered(
    images: Callable[..., list[str]], arguments: tuple[str, ...], expected: list[str]
) -> None:
    assert images(*arguments) == expected


@pytest.mark.parametrize(
    ("label", "tags"),
    [("a", ["1", "2"]), ("a=b", ["1"]), ("a=x", []), ("b", [])],
)
def test_images_are_filtered_by_label(
    inside: Callable[..., Done], tmp_path: Path, label: str, tags: list[str]
) -> None:
    (tmp_path / "root").mkdir()
    for tag, value in (("1", "b"), ("2", "c")):
        change = ("-c", f"LABEL a={value}")
        succeeded(inside("commit", "-q", *change, tmp_path / "root", f"labelled:{tag}"))
    done = succeeded(inside("images", "-f", f"label={label}", "--format", "{{.Tag}}"))
    assert sorted(done.lines) == tags


@pytest.mark.usefixtures("images")
def test_tables_and_json_of_templates(inside: Callable[..., Done]) -> None:
    form = r"table {{.Repository}}\t{{.ID}}"
    head, first, *_ = succeeded(inside("images", "--format", form)).lines
    assert head == "REPOSITORY        IMAGE ID"
    assert first == f"ghcr.io/org/app   {NEW.id[7:19]}"
    line, *_ = succeeded(inside("images", "--format", "{{json .}}")).lines
    assert json.loads(line)["CreatedAt"] == "2024-01-02 03:04:05 +0000 UTC"


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("form", ["{{.Size}}", r"table {{.Size}}\t{{.ID}}", "{{json .}}"])
@pytest.mark.parametrize("command", [("images",), ("history", "app:v2")])
def test_a_template_is_used_with_quiet_too(
    inside: Callable[..., Done], command: tuple[str, ...], form: str
) -> None:
    wanted = succeeded(inside(*command, "--format", form))
    assert succeeded(inside(*command, "-q", "--format", form)).out == wanted.out
    assert succeeded(inside(*command, "-q", "--format", "table")).out != wanted.out


@pytest.mark.usefixtures("images")
def test_inspect_history_and_rm_take_dockers_options(inside: Callable[..., Done]) -> None:
    form = "{{.Os}} {{.Config.User}}{{json .Config.Labels}}"
    assert succeeded(inside("inspect", "-f", form, "app:v2")).lines == ["linux null"]
    done = succeeded(inside("history", "--format", "{{.ID}} {{.Comment}}", "app:v2"))
    assert done.lines[0].startswith(OLD.id[7:19])
    assert succeeded(inside("rm", "-f", "nope:1", "app:v2")).lines == ["Untagged: app:v2"]
    assert succeeded(inside("help", "rm")).out == succeeded(inside("rm", "--help")).out
    assert succeeded(inside("help")).out == succeeded(inside("--help")).out


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "form", ["{{json $}}", "{{with .Os}}{{$ | json}}{{end}}", "{{$all := $}}{{json $all}}"]
)
def test_the_whole_document_is_the_same_by_any_name(inside: Callable[..., Done], form: str) -> None:
    whole = succeeded(inside("inspect", "-f", "{{json .}}", "app:v2")).json
    assert {"LeftOut", "Referrers"} <= whole.keys()
    assert succeeded(inside("inspect", "-f", form, "app:v2")).json == whole


NULLS = ImageParts(
    layers=[archives.layer("nulls")],
    extra={"config": {"Labels": None, "Env": None, "Healthcheck": None}},
)


@pytest.mark.parametrize("name", ["app:v2", "nulls:1"])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ('{{index .Config.Labels "foo"}}|{{.Config.Labels.foo}}', "|<no value>"),
        ("{{.Config.Labels}}{{.Config.Env}}{{.Config.Shell}}", "map[][][]"),
        ("{{json .Config.Labels}}{{json .Config.Env}}{{json .Config.Healthcheck}}", "null" * 3),
        ('{{and .Config.Labels (index .Config.Labels "foo" "bar")}}', "map[]"),
        ("{{if .Config.Healthcheck}}a{{else if .Config.Shell}}b{{else}}c{{end}}", "c"),
        ("{{.Config.Hostname}}{{.Config.Tty}}{{len .Config.Volumes}}", "false0"),
        ('{{range $k, $v := .Config.Labels}}{{$k}}{{end}}{{join .Config.OnBuild " "}}', ""),
    ],
)
def test_what_a_config_does_not_set_is_empty(
    images: Callable[..., list[str]],
    stock: Callable[..., None],
    inside: Callable[..., Done],
    name: str,
    form: str,
    expected: str,
) -> None:
    assert images()
    stock(archives.docker_archive((NULLS, ["nulls:1"])))
    assert succeeded(inside("inspect", "-f", form, name)).lines == [expected]


@pytest.mark.usefixtures("images")
def test_the_json_of_a_config_has_null_where_go_has_nil(inside: Callable[..., Done]) -> None:
    (line,) = succeeded(inside("inspect", "-f", "{{json .Config}}", "app:v2")).lines
    found = json.loads(line)
    assert found["Cmd"] == ["/hello"]
    assert found["Labels"] is found["Env"] is found["Healthcheck"] is None


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (("--format", "{{.Nope}}"), 1, "there is no field .Nope"),
        (("--format", "jsn"), 2, "expected table, json or a template"),
        (("--filter", "colour=red"), 2, "expected one of reference=…"),
        (("--filter", "dangling=maybe"), 2, "expected true or false"),
        (("--filter", f"until={'9' * 5000}"), 2, "expected RFC 3339"),
        (("--filter", "before=nope:1"), 1, "not found"),
        (("a[",), 1, "malformed name pattern"),
    ],
)
def test_bad_options_are_refused(
    inside: Callable[..., Done], arguments: tuple[str, ...], status: int, reason: str
) -> None:
    assert reason in refusal(inside("images", *arguments), status)


@pytest.mark.usefixtures("images")
def test_prune_removes_images_without_a_name(inside: Callable[..., Done], store: Path) -> None:
    target = next(name for name in names(store) if name.startswith("sha256:"))
    kept = {name: id_ for name, id_ in names(store).items() if name != target}
    later = ("--filter", "until=2021-01-01T00:00:00Z")
    assert succeeded(inside("prune", "-f", *later)).lines == ["Total reclaimed space: 0B"]
    assert target in names(store)
    deleted, freed = succeeded(inside("prune", "-f", "--filter", "label!=nope")).lines
    assert deleted == f"Deleted: {target}"
    assert freed != "Total reclaimed space: 0B"
    assert names(store) == kept


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("time", ["0", "0.5", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z"])
def test_prune_removes_nothing_from_before_the_epoch(
    inside: Callable[..., Done], store: Path, time: str
) -> None:
    before = names(store)
    done = succeeded(inside("prune", "-a", "-f", "--filter", f"until={time}"))
    assert done.lines == ["Total reclaimed space: 0B"]
    assert names(store) == before


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", None])
def test_an_image_of_the_epoch_or_without_a_time_is_the_oldest(
    images: Callable[..., list[str]], stock: Callable[..., None], time: str | None
) -> None:
    oldest = ImageParts(layers=[archives.layer("oldest")], extra={"created": time, "history": []})
    stock(archives.oci_archive((oldest, "oldest:1")))
    assert images("-f", "before=oldest:1") == []
    assert "oldest:1" in images("-f", "before=app:v2")
    assert images("-f", "since=oldest:1") == [name for name in images() if name != "oldest:1"]


@pytest.mark.usefixtures("images")
def test_prune_asks_and_removes_nothing_without_an_answer(imgfs: Command, store: Path) -> None:
    before = names(store)
    done = imgfs("prune", "-a")
    assert done.status == 1
    assert done.err.decode().endswith("imgfs: nothing was removed; answer y, or use -f\n")
    assert names(store) == before
    assert imgfs("prune", "-a", stdin=b"y\n").status == 0
    assert names(store) == {}


@pytest.mark.usefixtures("images")
def test_events_take_a_template(inside: Callable[..., Done]) -> None:
    form = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"
    lines = succeeded(inside("events", "--since", "0", "--until", "0s", "--format", form)).lines
    assert "image tag docker.io/library/app:v10" in lines
    assert "there is no field .Nope" in refusal(
        inside("events", "--since", "0", "--until", "0s", "--format", "{{.Nope}}")
    )
