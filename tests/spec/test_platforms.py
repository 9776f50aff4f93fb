import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidPlatform
from engine.spec import platforms
from engine.spec.oci import Platform
from engine.spec.platforms import Matcher

HOST = Platform(architecture="amd64", os="linux")


def at(specifier: str) -> Platform:
    return platforms.parse(specifier, HOST)


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [
        ("linux", Platform(architecture="amd64", os="linux")),
        ("Windows", Platform(architecture="amd64", os="windows")),
        ("macOS", Platform(architecture="amd64", os="darwin")),
        ("aarch64", Platform(architecture="arm64", os="linux")),
        ("armhf", Platform(architecture="arm", os="linux")),
        ("armel", Platform(architecture="arm", os="linux", variant="v6")),
        ("i386", Platform(architecture="386", os="linux")),
        ("x86-64", Platform(architecture="amd64", os="linux")),
        ("linux/arm64", Platform(architecture="arm64", os="linux")),
        ("linux/arm64/v8", Platform(architecture="arm64", os="linux", variant="v8")),
        ("linux/arm64/8", Platform(architecture="arm64", os="linux", variant="v8")),
        ("linux/arm64/9.0", Platform(architecture="arm64", os="linux", variant="v9")),
        ("linux/arm", Platform(architecture="arm", os="linux")),
        ("linux/arm/7", Platform(architecture="arm", os="linux", variant="v7")),
        ("linux/amd64/V1", Platform(architecture="amd64", os="linux")),
        ("linux/i386/v9", Platform(architecture="386", os="linux")),
        ("made-up/cpu_1.0", Platform(architecture="cpu_1.0", os="made-up")),
        ("windows()/amd64", Platform(architecture="amd64", os="windows")),
        (
            "windows(10.0.1%2Bx+b+a%25)/amd64",
            Platform(
                architecture="amd64",
                os="windows",
                os_version="10.0.1+x",
                os_features=("b", "a%"),
            ),
        ),
    ],
)
def test_parses(specifier: str, expected: Platform) -> None:
    assert at(specifier) == expected


@pytest.mark.parametrize(
    "specifier",
    [
        "",
        "/",
        "*",
        "linux/*",
        "marsos",
        "amd64(1.0)",
        "linux/",
        "linux//v8",
        "linux/amd64/",
        "linux/arm/v7/x",
        "linux/arm64\n",
        "linux\n",
        "linux/ärm",
        "lin.ux/amd64",
        "linux(1/amd64",
        "linux(+)/amd64",
        "linux(%4)/amd64",
        "linux(+%zz)/amd64",
        "linux (1)/amd64",
    ],
)
def test_refuses(specifier: str) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        at(specifier)
    assert caught.value.subject == specifier
    assert str(caught.value).isprintable()


def test_the_host_fills_in_what_a_specifier_leaves_out() -> None:
    pi = Platform(architecture="arm", os="linux", variant="v6")
    assert platforms.parse("linux", pi) == pi
    assert platforms.parse("s390x", pi) == Platform(architecture="s390x", os="linux")
    v7 = Platform(architecture="arm", os="linux", variant="v7")
    assert platforms.parse("linux", v7) == Platform(architecture="arm", os="linux")
    assert platforms.parse("linux").architecture == platforms.host().architecture


@pytest.mark.parametrize(
    ("machine", "specifier"),
    [
        ("x86_64", "linux/amd64"),
        ("i686", "linux/386"),
        ("aarch64", "linux/arm64/v8"),
        ("armv8l", "linux/arm/v8"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("armv5tejl", "linux/arm/v5"),
        ("loongarch64", "linux/loong64"),
        ("ppc64le", "linux/ppc64le"),
        ("riscv64", "linux/riscv64"),
    ],
)
def test_the_host_is_named_as_go_names_it(machine: str, specifier: str) -> None:
    assert platforms.format(platforms.host(machine)) == specifier


def test_the_host_is_this_machine() -> None:
    assert platforms.host() == platforms.host(os.uname().machine)


def test_formats() -> None:
    features = Platform(
        architecture="amd64", os="linux", os_version="5(rc/1)", os_features=("z", "", "a+", "z")
    )
    assert platforms.format(features) == "linux/amd64"
    assert platforms.format_all(features) == "linux(5%28rc%2F1%29+a%2B+z)/amd64"
    assert platforms.format_all(Platform(architecture="", os="linux", variant="v7")) == "linux/v7"
    assert platforms.format_all(Platform(architecture="amd64", os="")) == "unknown"
    nameless = Platform(architecture="amd64", os="linux", os_features=("",))
    assert platforms.format_all(nameless) == "linux/amd64"


def test_normalizes() -> None:
    messy = Platform(architecture="ARMHF", os="", os_features=("b", "a", "b"), variant="v5")
    assert platforms.normalize(messy) == Platform(
        architecture="arm", os="linux", os_features=("a", "b"), variant="v7"
    )
    assert platforms.normalize(at("linux/arm64/v8")).variant == ""
    assert platforms.normalize(at("linux/arm/v7")).variant == "v7"


OPTIONS = st.text(
    st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]) | st.sampled_from("+()%/.-")
)
PLATFORMS = st.builds(
    Platform,
    architecture=st.sampled_from(["amd64", "arm64", "arm", "386", "made-up"]),
    os=st.sampled_from(["linux", "windows", "made-up"]),
    os_version=OPTIONS,
    os_features=st.lists(OPTIONS.filter(bool), max_size=3).map(tuple),
    variant=st.sampled_from(["", "v1", "v2", "v5", "v6", "v7", "v8", "v8.2", "v9"]),
)


@given(PLATFORMS)
def test_the_full_format_leads_back(platform: Platform) -> None:
    normal = platforms.normalize(platform)
    text = platforms.format_all(normal)
    assert platforms.normalize(platforms.parse(text, HOST)) == normal
    assert platforms.normalize(normal) == normal


@given(st.text() | st.text(alphabet="linuxarm64/()+%v8.", max_size=20))
def test_any_text_is_a_platform_or_invalid(text: str) -> None:
    try:
        platform = at(text)
    except InvalidPlatform:
        return
    assert platform.os
    assert platform.architecture


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [
        ("linux/amd64", "amd64 386"),
        ("linux/amd64/v3", "amd64/v3 amd64/v2 amd64/v1 386"),
        ("linux/amd64/v1000000000", "amd64/v1000000000 386"),
        ("linux/386", "386"),
        ("linux/arm", "arm/v7 arm/v6 arm/v5"),
        ("linux/arm/v4", "arm/v4"),
        ("linux/arm64", "arm64/v8 arm/v8 arm/v7 arm/v6 arm/v5"),
        ("linux/arm64/v8.1", "arm64/v8.1 arm64/v8 arm/v8 arm/v7 arm/v6 arm/v5"),
        (
            "linux/arm64/v9",
            (
                "arm64/v9 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64/v8"
                " arm/v8 arm/v7 arm/v6 arm/v5"
            ),
        ),
        ("linux/arm64/v9.8", ""),
        ("linux/arm64/x", ""),
        ("linux/s390x", "s390x"),
    ],
)
def test_preferences(specifier: str, expected: str) -> None:
    found = [platforms.format(platform) for platform in platforms.preferences(at(specifier))]
    assert found == [f"linux/{rest}" for rest in expected.split()]


def test_the_highest_arm64_runs_all_lower_ones() -> None:
    names = [platforms.format(p) for p in platforms.preferences(at("linux/arm64/v9.7"))]
    assert names[:9] == [
        *(f"linux/arm64/v9.{n}" for n in range(7, 0, -1)),
        "linux/arm64/v9",
        "linux/arm64/v8.9",
    ]


@pytest.mark.parametrize(
    ("wanted", "candidate", "only", "strict"),
    [
        ("linux/amd64", "linux/x86_64", True, True),
        ("linux/amd64", "linux/386", True, False),
        ("linux/386", "linux/amd64", False, False),
        ("linux/amd64", "linux/amd64/v1", True, True),
        ("linux/amd64", "linux/amd64/v2", False, False),
        ("linux/amd64/v2", "linux/amd64", True, False),
        ("linux/arm64", "linux/arm64/v8", True, True),
        ("linux/arm64", "linux/arm/v7", True, False),
        ("linux/arm64/v8.1", "linux/arm64", True, False),
        ("linux/arm64", "linux/arm64/v8.1", False, False),
        ("linux/arm64/v10", "linux/arm64/v10", False, True),
        ("linux/arm/v6", "linux/arm/v5", True, False),
        ("linux/arm/v6", "linux/arm", False, False),
        ("linux/arm", "linux/armhf", True, True),
        ("linux/arm/v5", "linux/arm/v4", False, False),
        ("linux/amd64", "freebsd/amd64", False, False),
        ("linux/amd64", "unknown/unknown", False, False),
        ("linux(1)/amd64", "linux(2)/amd64", True, True),
        ("linux(+a+b)/amd64", "linux(+b)/amd64", True, True),
        ("linux(+a+b)/amd64", "linux(+c)/amd64", False, False),
        ("linux/amd64", "linux(+a)/amd64", False, False),
        ("windows/amd64", "windows(10.0.17763)/amd64", True, True),
        ("windows(10.0.17763)/amd64", "windows/amd64", True, True),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763.99)/amd64", True, True),
        ("windows(10.0.17763)/amd64", "windows(10.0.17762)/amd64", False, False),
        ("windows(10.0.17763)/amd64", "windows(nonsense)/amd64", False, False),
        ("windows(nonsense)/amd64", "windows(10.0.17763)/amd64", True, True),
        ("windows(10.0.20348)/amd64", "windows(10.0.17763)/amd64", False, False),
        ("windows(10.0.22621)/amd64", "windows(10.0.20348)/amd64", True, True),
        ("windows(10.0.26100)/amd64", "windows(10.0.20348)/amd64", True, True),
        ("windows(10.0.26101)/amd64", "windows(10.0.25398)/amd64", False, False),
        ("windows(10.0.20348)/amd64", "windows(10.0.26100)/amd64", False, False),
        ("windows(10.0.20348)/amd64", "windows(11.0.20348)/amd64", False, False),
        ("windows(10.0.20348)/amd64", "windows(256.0.20348)/amd64", False, False),
        ("windows/amd64", "windows(+win32k)/amd64", True, True),
        ("windows/amd64", "windows(+win32k+x)/amd64", False, False),
        ("linux/amd64", "linux(+win32k)/amd64", False, False),
    ],
)
def test_matches(wanted: str, candidate: str, only: bool, strict: bool) -> None:
    assert platforms.only(at(wanted)).matches(at(candidate)) is only
    assert platforms.only_strict(at(wanted)).matches(at(candidate)) is strict


@pytest.mark.parametrize(
    ("candidate", "fits"),
    [
        ("linux/riscv64", True),
        ("linux(+a)/arm64", True),
        ("linux(+b)/amd64", False),
        ("darwin/amd64", False),
    ],
)
def test_only_os_takes_every_architecture(candidate: str, fits: bool) -> None:
    assert platforms.only_os(at("linux(+a)/amd64")).matches(at(candidate)) is fits


def test_only_os_prefers_its_own_architecture() -> None:
    matcher = platforms.only_os(at("linux/arm64"))
    assert (
        ranked(matcher, "darwin/arm64 linux/amd64 linux/arm64/v8")
        == "linux/arm64/v8 linux/amd64 darwin/arm64"
    )


def test_all_takes_everything_and_prefers_nothing() -> None:
    assert platforms.ALL.matches(at("unknown/unknown"))
    assert ranked(platforms.ALL, "linux/s390x linux/amd64") == "linux/s390x linux/amd64"


def ranked(matcher: Matcher, specifiers: str) -> str:
    return " ".join(platforms.sort(specifiers.split(), matcher, at))


def test_only_ranks_by_preference() -> None:
    matcher = platforms.only(at("linux/arm64"))
    names = "linux/amd64 linux/arm/v5 linux/arm linux/s390x linux/arm64"
    assert ranked(matcher, names) == "linux/arm64 linux/arm linux/arm/v5 linux/amd64 linux/s390x"


def test_any_of_ranks_by_place() -> None:
    matcher = platforms.any_of(at("linux/s390x"), at("linux/amd64"))
    assert (
        ranked(matcher, "linux/386 linux/amd64 linux/s390x") == "linux/s390x linux/amd64 linux/386"
    )


def test_any_equally_ranks_by_features_alone() -> None:
    matcher = platforms.any_equally(at("linux/s390x"), at("linux(+a+b)/amd64"))
    names = "linux/386 linux(+c)/amd64 linux(+a)/amd64 linux/s390x linux(+a+b)/amd64"
    assert ranked(matcher, names) == (
        "linux(+a+b)/amd64 linux(+a)/amd64 linux/s390x linux(+c)/amd64 linux/386"
    )


def test_what_lacks_a_match_for_its_features_alone_comes_next() -> None:
    matcher = platforms.only(at("linux/amd64"))
    names = "darwin/amd64 linux(+x)/386 linux(+x)/amd64 linux/386"
    assert ranked(matcher, names) == "linux/386 linux(+x)/amd64 linux(+x)/386 darwin/amd64"


def test_more_features_are_better_on_the_same_platform() -> None:
    matcher = platforms.only_strict(at("linux(+a+b)/amd64"))
    names = "linux/amd64 linux(+b)/amd64 linux(+a)/amd64 linux(+a+b)/amd64"
    assert ranked(matcher, names) == (
        "linux(+a+b)/amd64 linux(+b)/amd64 linux(+a)/amd64 linux/amd64"
    )


def test_the_newest_windows_comes_first_as_text() -> None:
    matcher = platforms.newest_windows(at("windows(10.0.17763)/amd64"))
    names = (
        "linux/amd64 windows/amd64 windows(10.0.17763.10)/amd64 windows(10.0.17763.9)/amd64"
        " windows(10.0.17763)/amd64"
    )
    assert ranked(matcher, names) == (
        "windows(10.0.17763.9)/amd64 windows(10.0.17763.10)/amd64 windows(10.0.17763)/amd64"
        " windows/amd64 linux/amd64"
    )


ENTRIES = [
    (1, None),
    (2, "linux/386"),
    (3, "linux/s390x"),
    (4, None),
    (5, "linux/amd64"),
    (6, "linux/386"),
]


def platform_of(entry: tuple[int, str | None]) -> Platform | None:
    return None if entry[1] is None else at(entry[1])


def test_entries_without_a_platform_pass_and_come_last() -> None:
    matcher = platforms.only(at("linux/amd64"))
    assert [n for n, _ in platforms.select(ENTRIES, matcher, platform_of)] == [5, 2, 6, 1, 4]
    assert [n for n, _ in platforms.sort(ENTRIES, matcher, platform_of)] == [5, 2, 6, 3, 1, 4]
    assert platforms.best(ENTRIES, matcher, platform_of) == (5, "linux/amd64")
    assert platforms.best(ENTRIES, platforms.only(at("linux/arm64")), platform_of) == (1, None)
    assert platforms.best(ENTRIES[1:3], platforms.only(at("linux/arm64")), platform_of) is None


MATCHERS = st.one_of(
    st.just(platforms.ALL),
    PLATFORMS.map(platforms.only),
    PLATFORMS.map(platforms.only_os),
    PLATFORMS.map(platforms.newest_windows),
    st.lists(PLATFORMS, max_size=3).map(lambda found: platforms.any_of(*found)),
    st.lists(PLATFORMS, max_size=3).map(lambda found: platforms.any_equally(*found)),
)


@given(MATCHERS, PLATFORMS, PLATFORMS)
def test_what_matches_is_better_than_what_does_not(
    matcher: Matcher, a: Platform, b: Platform
) -> None:
    if matcher.matches(a) and not matcher.matches(b):
        assert matcher.rank(a) < matcher.rank(b)


@given(PLATFORMS)
def test_only_strict_takes_the_platform_itself(platform: Platform) -> None:
    assert platforms.only_strict(platform).matches(platforms.normalize(platform))
