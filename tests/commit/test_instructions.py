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
    'HEALTHCHECK CMD ["a"]': ({}, {"Healthcheck": {"Test": ["CMD", "a"]}}),
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
        ("HEALTHCHECK --retries=² CMD y", "unknown option"),
        (f"HEALTHCHECK --retries={1 << 63} CMD y", "unknown option"),
        (f"HEALTHCHECK --interval={'9' * 400}h CMD y", "at most 292 years"),
        ("ENV a=1 b\x1b[2J\nc", "found b"),
        ("HEALTHCHECK y", "expected NONE or CMD"),
    ],
)
def test_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(InvalidInstruction, match=reason) as raised:
        applied({}, text)
    assert str(raised.value).isprintable()


def test_json_that_is_nested_too_deeply_is_a_shell_s() -> None:
    assert applied({}, f"CMD {'[' * 200_000}")["Cmd"][:2] == ["/bin/sh", "-c"]
