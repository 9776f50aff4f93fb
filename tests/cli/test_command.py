"""Parsing of a command's arguments."""

from argparse import Namespace

import pytest

from imgfs.cli.support.command import Command, Parser, UsageError


def options(parser: Parser) -> None:
    parser.add_argument("-o", "--output")
    parser.flag("-q", "--quiet", help="Say nothing.")
    parser.repeatable("--platform", metavar="P", help="As often as you like.")


def read(*arguments: str, least: int = 0, most: int | None = None) -> Namespace:
    """Return the arguments with which the command would run."""
    reported: list[Namespace] = []
    command = Command(reported.append, options, words="NAME…", least=least, most=most)
    command.call("imgfs try", arguments, "/store")
    (args,) = reported
    return args


def refused(*arguments: str, least: int = 0, most: int | None = None) -> str:
    with pytest.raises(UsageError) as error:
        read(*arguments, least=least, most=most)
    return str(error.value)


@pytest.mark.parametrize(
    "line",
    ["-q -o x a b", "a -q b -o x", "a b -ox -q", "-qo x a b", "a --output=x b -q", "-q -ox -- a b"],
)
def test_options_and_words_may_be_mixed(line: str) -> None:
    args = read(*line.split())
    assert (args.quiet, args.output, args.words) == (True, "x", ["a", "b"])


def test_missing_options_have_defaults() -> None:
    args = read()
    assert (args.quiet, args.output, args.platform, args.words) == (False, None, [], [])
    assert args.store == "/store"


def test_the_store_option_after_the_command_is_preferred() -> None:
    assert read("a", "--store", "/other").store == "/other"


def test_repeated_options() -> None:
    args = read("--platform", "a", "-o", "x", "--platform=b=c", "-o", "y")
    assert (args.platform, args.output) == (["a", "b=c"], "y")
    assert read().platform == []


@pytest.mark.parametrize("value", ["-q", "--quiet", "-", "-x", "--x=y", "", "-1", "- x", "a=b"])
@pytest.mark.parametrize("option", ["-o", "--output"])
def test_a_value_may_look_like_an_option(option: str, value: str) -> None:
    args = read(option, value, "a")
    assert (args.output, args.quiet, args.words) == (value, False, ["a"])


@pytest.mark.parametrize("line", ["-o --", "-o=--", "-o--", "--output --", "--output=--"])
def test_two_dashes_are_no_value(line: str) -> None:
    assert "-- is no value" in refused(*line.split(), "a")


@pytest.mark.parametrize("word", ["-q", "--help", "--", "-", "--bogus"])
def test_after_two_dashes_all_arguments_are_words(word: str) -> None:
    args = read("a", "--", word, "-o", "x")
    assert (args.output, args.quiet, args.words) == (None, False, ["a", word, "-o", "x"])


def test_one_dash_is_a_word() -> None:
    assert read("-", "-q").words == ["-"]


def test_unknown_options_are_refused() -> None:
    assert refused("a", "--bogus") == "no such option --bogus"
    assert refused("-1") == "no such option -1"
    assert refused("--platfrm=x") == "no such option --platfrm=x, did you mean --platform?"
    assert refused("--plat", "x").startswith("no such option --plat, ")
    assert "-q/--quiet" in refused("--quiet=1")
    assert "-o/--output" in refused("a", "-o")


def test_too_few_or_too_many_words_are_refused() -> None:
    assert refused("a", least=2) == "too few arguments, expected NAME…"
    assert read("a", "b", least=2).words == ["a", "b"]
    assert refused("a", "b", "c", most=1) == "unexpected argument b"
    assert read("a", most=1).words == ["a"]


def test_help_has_the_usage_the_text_and_the_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    def run(_: Namespace) -> None:
        """Do it.

        imgfs try this
        """
        pytest.fail("it was run")

    Command(run, options, words="NAME…", least=1).call("imgfs try", ["--help"], None)
    reported = capsys.readouterr().out.splitlines()
    assert reported[:5] == ["usage: imgfs try [OPTION…] NAME…", "", "Do it.", "", "imgfs try this"]
    assert any(
        line.split() == ["--platform", "P", "As", "often", "as", "you", "like."]
        for line in reported
    )
    assert not any("\x1b" in line for line in reported)
