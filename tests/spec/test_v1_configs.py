"""engine.v1_image: the v1 configs that docker save writes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidDocument
from engine.spec import v1_configs as v1_image
from engine.spec.digest import chain_ids, of_bytes

FIRST, SECOND = (of_bytes(name) for name in (b"first", b"second"))
BARE = (
    '"container_config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,'
    '"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,'
    '"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,'
    '"OnBuild":null,"Labels":null}'
)


def texts(config: str, *diff_ids: str) -> list[str]:
    return [data.decode() for data in v1_image.configs(config.encode(), diff_ids, "config")]


def id_of(hashed: str) -> str:
    return of_bytes(hashed.encode()).encoded


def test_the_lower_layers_are_empty_and_know_their_parents() -> None:
    _, chain_id = chain_ids([FIRST, SECOND])
    lower_id = id_of(f'{{{BARE},"created":"1970-01-01T00:00:00Z","layer_id":"{FIRST}"}}')
    top_id = id_of(
        f'{{"architecture":"arm64",{BARE},"created":"2020-01-02T03:04:05.6Z",'
        f'"layer_id":"{chain_id}","os":"linux","parent":"sha256:{lower_id}"}}'
    )
    config = '{"architecture":"arm64","os":"linux","created":"2020-01-02T03:04:05.600Z"}'
    lower, top = texts(config, FIRST, SECOND)
    assert lower == f'{{"id":"{lower_id}","created":"1970-01-01T00:00:00Z",{BARE},"os":"linux"}}'
    assert top == (
        f'{{"id":"{top_id}","parent":"{lower_id}","created":"2020-01-02T03:04:05.6Z",{BARE},'
        '"architecture":"arm64","os":"linux"}'
    )


def test_the_top_has_all_of_the_images_own_fields_in_dockers_order() -> None:
    config = (
        '{"os":"linux","variant":"v8","architecture":"arm64","author":"A <a>","comment":"c",'
        '"container":"d","docker_version":"20.10.1","created":"2021-05-06T07:08:09Z",'
        '"container_config":{"Cmd":"sh"},"config":{"StopSignal":"SIGTERM","Labels":{"b":"2",'
        '"a":"1"},"Healthcheck":{"StartInterval":5,"Retries":2,"Test":["NONE"]},'
        '"ExposedPorts":{"80/tcp":{}}},"Size":7,"id":"old","parent":"old","unknown":1}'
    )
    (text,) = texts(config, FIRST)
    found = json.loads(text)
    assert list(found) == [
        *("id", "comment", "created", "container", "container_config", "docker_version"),
        *("author", "config", "architecture", "variant", "os", "Size"),
    ]
    assert found["id"] != "old"
    assert found["container_config"]["Cmd"] == ["sh"]
    assert '"author":"A \\u003ca\\u003e"' in text
    assert '"ExposedPorts":{"80/tcp":{}},"Tty":false' in text
    assert '"Healthcheck":{"Test":["NONE"],"StartInterval":5,"Retries":2},"Image":""' in text
    assert '"Labels":{"a":"1","b":"2"},"StopSignal":"SIGTERM"}' in text


def test_null_is_nothing() -> None:
    nulls = ",".join(f'"{name}":null' for name in ("Shell", "Cmd", "Healthcheck", "Labels", "Tty"))
    (text,) = texts(f'{{"container_config":{{{nulls}}},"config":null,"created":null}}', FIRST)
    assert f'"created":null,{BARE}}}' in text


def test_an_image_without_a_time() -> None:
    (text,) = texts("{}", FIRST)
    assert f'"created":null,{BARE}}}' in text


@pytest.mark.parametrize("config", ["", "[]", '{"created":"today"}', '{"config":{"Cmd":1}}'])
def test_a_config_that_docker_could_not_read(config: str) -> None:
    with pytest.raises(InvalidDocument, match=r"^config: "):
        texts(config, FIRST)


@given(st.lists(st.sampled_from([FIRST, SECOND]), max_size=6))
def test_every_layer_names_the_one_below_it(diff_ids: list[str]) -> None:
    found = [json.loads(text) for text in texts("{}", *diff_ids)]
    assert [v1.get("parent") for v1 in found] == [None, *(v1["id"] for v1 in found)][: len(found)]
    assert len({v1["id"] for v1 in found}) == len(diff_ids)
