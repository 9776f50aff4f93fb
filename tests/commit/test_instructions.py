"""Changes to a config in a Dockerfile's words."""

from typing import Any

import pytest

from engine.commit.instructions import InvalidInstruction, applied

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'CMD ["a", "b c"]': ({}, {"Cmd": ["a", "b c"]}),
    "CMD a b": ({}, {"Cmd": ["/bin/sh", "-c", "a b"]}),
    "cmd [not json": ({"Shell": ["sh"]}, {"Shell": ["sh"], "Cmd": ["sh", "[not json"]}),
    'ENTRYPOINT ["/e"]': ({"Cmd": ["x"]}, {"Entrypoint": ["/e"]}),
    "ENTRYPOINT e": ({}, {"Entrypoint": ["/bin/sh", "-c", "e"]}),
    "ENV A=1 B=\"2 3\" C='4' D=5\\ 6": ({}, {"Env": ["A=1", "B=2 3", "C=4", "D=5 6"]}),
    "ENV A some words": ({"Env": ["A=0", "B=1"]}, {"Env": ["A=some words", "B=1"]}),
    "ENV A=": ({}, {"Env": ["A="]}),
    "LABEL a=b c.d='e f'": ({"Labels": {"z": "1"}}, {"Labels": {"a": "b", "c.d": "e f", "z": "1"}}),
    "EXPOSE 80 53/UDP 8000-8001": (
        {"ExposedPorts": {"22/tcp": {}}},
        {"ExposedPorts": {p: {} for p in ("22/tcp", "53/udp", "80/tcp", "8000/tcp", "8001/tcp")}},
    ),
    "VOLUME /a /b": ({}, {"Volumes": {"/a": {}, "/b": {}}}),
    'VOLUME ["/a b"]': ({}, {"Volumes": {"/a b": {}}}),
    "WORKDIR ../x/./y": ({"WorkingDir": "/a/b"}, {"WorkingDir": "/a/x/y"}),
    "WORKDIR /": ({}, {"WorkingDir": "/"}),
    "USER 1:2": ({}, {"User": "1:2"}),
    "STOPSIGNAL SIGUSR1": ({}, {"StopSignal": "SIGUSR1"}),
    "STOPSIGNAL rtmin+3": ({}, {"StopSignal": "rtmin+3"}),
    "STOPSIGNAL 64": ({}, {"StopSignal": "64"}),
    "STOPSIGNAL SIGPOLL": ({}, {"StopSignal": "SIGPOLL"}),
    "ONBUILD RUN x": ({"OnBuild": ["USER a"]}, {"OnBuild": ["USER a", "RUN x"]}),
    'SHELL ["bash", "-c"]': ({}, {"Shell": ["bash", "-c"]}),
    "HEALTHCHECK NONE": ({}, {"Healthcheck": {"Test": ["NONE"]}}),
    "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl x": (
        {},
        {
            "Healthcheck": {
                "Test": ["CMD-SHELL", "curl x"],
                "Interval": 90 * 10**9,
                "Timeout": 5 * 10**8,
                "Retries": 3,
            }
        },
    ),
    "HEALTHCHECK --interval=0s --timeout=1ms CMD x": (
        {},
        {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 0, "Timeout": 10**6}},
    ),
    'HEALTHCHECK CMD ["a"]': ({}, {"Healthcheck": {"Test": ["CMD", "a"]}}),
    "ENV PATH=/opt/bin:$PATH A=${PATH}": (
        {"Env": ["PATH=/bin"]},
        {"Env": ["PATH=/opt/bin:/bin", "A=/bin"]},
    ),
    "ENV A=1 B=$A C=${A:-none}": ({"Env": ["A=0"]}, {"Env": ["A=1", "B=0", "C=0"]}),
    "ENV A=\"\\$X\" B='$X'": ({"Env": ["X=1"]}, {"Env": ["X=1", "A=$X", "B=$X"]}),
    'ENV A\t"$X"  and more': ({"Env": ["X=1"]}, {"Env": ["X=1", "A=1  and more"]}),
    'LABEL v "1.0"': ({}, {"Labels": {"v": "1.0"}}),
    'LABEL $X.y="of $X" "a=b"=c': (
        {"Env": ["X=x"]},
        {"Env": ["X=x"], "Labels": {"a=b": "c", "x.y": "of x"}},
    ),
    'LABEL "a b"=c': ({}, {"Labels": {"a b": "c"}}),
    'LABEL "a b" c d': ({}, {"Labels": {"a b": "c d"}}),
    "ENV A\\ B=c": ({}, {"Env": ["A B=c"]}),
    'EXPOSE $PORTS "80"': (
        {"Env": ["PORTS=1 2/udp"]},
        {"Env": ["PORTS=1 2/udp"], "ExposedPorts": {"1/tcp": {}, "2/udp": {}, "80/tcp": {}}},
    ),
    "VOLUME \"/d\" $X '/a b'": (
        {"Env": ["X=/x"]},
        {"Env": ["X=/x"], "Volumes": {"/a b": {}, "/d": {}, "/x": {}}},
    ),
    'VOLUME ["$X"]': ({"Env": ["X=/x"]}, {"Env": ["X=/x"], "Volumes": {"/x": {}}}),
    'WORKDIR "/a b"': ({}, {"WorkingDir": "/a b"}),
    "WORKDIR $X/y": ({"Env": ["X=/x"]}, {"Env": ["X=/x"], "WorkingDir": "/x/y"}),
    'USER "app"': ({}, {"User": "app"}),
    "USER ${X}:1": ({"Env": ["X=me"]}, {"Env": ["X=me"], "User": "me:1"}),
    'STOPSIGNAL "$X"': ({"Env": ["X=SIGINT"]}, {"Env": ["X=SIGINT"], "StopSignal": "SIGINT"}),
    'CMD echo "$X"': ({"Env": ["X=1"]}, {"Env": ["X=1"], "Cmd": ["/bin/sh", "-c", 'echo "$X"']}),
    'ENTRYPOINT ["$X"]': ({"Env": ["X=1"]}, {"Env": ["X=1"], "Entrypoint": ["$X"]}),
    "ONBUILD ENV A=$X": ({"Env": ["X=1"]}, {"Env": ["X=1"], "OnBuild": ["ENV A=$X"]}),
    'HEALTHCHECK CMD test "$X"': (
        {"Env": ["X=1"]},
        {"Env": ["X=1"], "Healthcheck": {"Test": ["CMD-SHELL", 'test "$X"']}},
    ),
}


@pytest.mark.parametrize("text", CASES)
def test_an_instruction(text: str) -> None:
    before, after = CASES[text]
    assert applied(before, text) == after


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (('CMD ["a"]', 'ENTRYPOINT ["b"]'), {"Cmd": ["a"], "Entrypoint": ["b"]}),
        (('ENTRYPOINT ["b"]', 'CMD ["a"]'), {"Cmd": ["a"], "Entrypoint": ["b"]}),
        (('CMD ["x"]', 'ENTRYPOINT ["b"]'), {"Cmd": ["x"], "Entrypoint": ["b"]}),
        (("CMD []", 'ENTRYPOINT ["b"]'), {"Entrypoint": ["b"]}),
        (('ENTRYPOINT ["b"]', "USER me"), {"Entrypoint": ["b"], "User": "me"}),
        (("USER me",), {"Cmd": ["x"], "User": "me"}),
    ],
)
def test_an_entrypoint_removes_only_the_command_that_was_there_before(
    texts: tuple[str, ...], expected: dict[str, Any]
) -> None:
    assert applied({"Cmd": ["x"]}, *texts) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("RUN x", "expected one of CMD"),
        ('\u017fHELL ["a"]', "expected one of CMD"),
        ("", "expected one of"),
        ("CMD", "needs an argument"),
        ("ENV A", "expected NAME=VALUE"),
        ("ENV A=b c", "expected NAME=VALUE, found c"),
        ("LABEL ='x'", "NAME=VALUE"),
        ("EXPOSE x", "expected PORT"),
        ("EXPOSE 0", "from 1 to 65535"),
        ("EXPOSE 2-1", "from 1 to 65535"),
        ("SHELL bash -c", "JSON list"),
        ("USER a b", "one word"),
        ("ONBUILD FROM x", "cannot be put off"),
        ("HEALTHCHECK --retries=x CMD y", "unknown option"),
        ("HEALTHCHECK --interval=5 CMD y", "duration"),
        ("HEALTHCHECK --interval=999us CMD y", "at least 1ms, or 0s, found 999us"),
        ("HEALTHCHECK --start-interval=1ns CMD y", "at least 1ms"),
        (f"HEALTHCHECK --retries={1 << 31} CMD y", "at most 2147483647 retries"),
        ("HEALTHCHECK --retries=1 --retries=2 CMD y", "--retries is given twice"),
        ("HEALTHCHECK --timeout=1s --timeout=1s CMD y", "--timeout is given twice"),
        ("HEALTHCHECK CMD []", "needs a command"),
        ("HEALTHCHECK NONE x y", "takes no arguments"),
        ("EXPOSE 80/\u017fctp", "expected PORT"),
        ("HEALTHCHECK --retries=² CMD y", "unknown option"),
        (f"HEALTHCHECK --retries={1 << 63} CMD y", "unknown option"),
        (f"HEALTHCHECK --interval={'9' * 400}h CMD y", "at most 292 years"),
        ("ENV a=1 b\x1b[2J\nc", "found b"),
        ("HEALTHCHECK y", "expected NONE or CMD"),
        ("ENV A='b", "expected ' at the end"),
        ("ENV $NONE=a", "a name is empty"),
        ("VOLUME $NONE", "needs a path"),
        ("VOLUME []", "needs a path"),
        ("VOLUME [ ]", "needs a path"),
        ('VOLUME [""]', "needs a path"),
        ("LABEL 'a b'", "expected NAME=VALUE"),
        ("WORKDIR $NONE", "found \\$NONE, which is empty"),
        ("STOPSIGNAL ''", "which is empty"),
        ("STOPSIGNAL SIGNONE", "name or the number of a signal, found SIGNONE"),
        ("STOPSIGNAL 0", "found 0"),
        ("STOPSIGNAL RTMIN+16", "found RTMIN"),
        ("CMD [1]", "expected a JSON list of words"),
        ('ENTRYPOINT ["a", null]', "expected a JSON list of words"),
        ("HEALTHCHECK CMD [[]]", "expected a JSON list of words"),
        ("VOLUME [1]", "expected a JSON list of words"),
        ("USER ${NONE:?who}", "NONE: who"),
    ],
)
def test_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(InvalidInstruction, match=reason) as raised:
        applied({}, text)
    assert str(raised.value).isprintable()


def test_an_instruction_sees_the_variables_of_those_before_it() -> None:
    found = applied({"Env": ["A=1"]}, "ENV B=$A", "ENV A=2", "LABEL a=$A b=$B")
    assert found["Labels"] == {"a": "2", "b": "1"}


def test_a_variable_that_doubles_has_a_limit() -> None:
    with pytest.raises(InvalidInstruction, match="at most 131072 characters"):
        applied({"Env": ["A=12345678"]}, *["ENV A=$A$A"] * 64)


def test_json_that_is_nested_too_deeply_is_a_shell_s() -> None:
    assert applied({}, f"CMD {'[' * 200_000}")["Cmd"][:2] == ["/bin/sh", "-c"]
