"""engine.docker: manifest.json, repositories, and v1 configs turned into image configs."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidDocument
from engine.spec import docker, oci
from engine.spec.digest import of_bytes

# --- manifest.json and repositories ---


def test_manifest_json() -> None:
    data = (
        b'[{"Config":"c.json","RepoTags":["a:1","b"],"Layers":["x/layer.tar","y/layer.tar"],'
        b'"Parent":"sha256:p","LayerSources":{"sha256:d":{"mediaType":"m/m","size":3,'
        b'"digest":"sha256:d"}},"Unknown":1},{"Config":"d.json","RepoTags":null,"Layers":null}]\n'
    )
    first, second = docker.parse_manifest_json(data)
    assert first == docker.ManifestItem(
        "c.json",
        ("a:1", "b"),
        ("x/layer.tar", "y/layer.tar"),
        "sha256:p",
        {"sha256:d": docker.LayerSource("m/m", 3, "sha256:d")},
    )
    assert second == docker.ManifestItem("d.json", None, None)


def test_manifest_json_in_lower_case_with_text_behind_it() -> None:
    data = b'[{"config":"c","repoTags":["a:1"],"layers":["l"]}][{"Config":"other"}]'
    assert docker.parse_manifest_json(data) == [docker.ManifestItem("c", ("a:1",), ("l",))]


def test_missing_keys_are_empty() -> None:
    assert docker.parse_manifest_json(b"[{}]") == [docker.ManifestItem("", None, None)]


@pytest.mark.parametrize("data", [b"null", b"[]", b" [ ] x"])
def test_a_manifest_json_that_names_no_image(data: bytes) -> None:
    with pytest.raises(InvalidDocument, match=r"^manifest\.json: it names no image$"):
        docker.parse_manifest_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[null]",
        b'[{"Config":"c"},null]',
        b"[[]]",
        b"[1]",
        b'[{"Config":1}]',
        b'[{"Layers":"l"}]',
        b'[{"Layers":[1]}]',
        b'[{"RepoTags":{}}]',
        b'[{"LayerSources":[]}]',
        b'[{"LayerSources":{"a":{"size":1.5}}}]',
        b'[{"Config":"c"}',
    ],
)
def test_what_is_no_manifest_json(data: bytes) -> None:
    with pytest.raises(InvalidDocument):
        docker.parse_manifest_json(data)


def test_render_manifest_json() -> None:
    source = docker.LayerSource("m/m", 3, "sha256:d", ("u",), {"k": "v"}, oci.Platform("a", "o"))
    items = [
        docker.ManifestItem("blobs/sha256/c", ("a:1",), ("blobs/sha256/l",)),
        docker.ManifestItem("c", None, None),
        docker.ManifestItem("c", (), (), "sha256:p", {"sha256:e": source, "sha256:d": source}),
    ]
    written = (
        '{"mediaType":"m/m","size":3,"digest":"sha256:d","urls":["u"],"annotations":{"k":"v"},'
        '"platform":{"architecture":"a","os":"o"}}'
    )
    data = docker.render_manifest_json(items)
    assert data.decode() == (
        '[{"Config":"blobs/sha256/c","RepoTags":["a:1"],"Layers":["blobs/sha256/l"]},'
        '{"Config":"c","RepoTags":null,"Layers":null},'
        '{"Config":"c","RepoTags":[],"Layers":[],"Parent":"sha256:p",'
        f'"LayerSources":{{"sha256:d":{written},"sha256:e":{written}}}}}]'
    )
    assert docker.parse_manifest_json(data) == items


def test_repositories() -> None:
    data = b'\n{"a/b":{"1":"x","2":"y"},"c":{},"A/b":null}\n{'
    assert docker.parse_repositories(data) == {"a/b": {"1": "x", "2": "y"}, "c": {}, "A/b": {}}
    assert docker.parse_repositories(b"null") == {}
    for bad in (b"[]", b'{"a":[]}', b'{"a":{"1":2}}', b""):
        with pytest.raises(InvalidDocument, match=r"^repositories: "):
            docker.parse_repositories(bad)


@given(st.binary())
def test_any_bytes_are_a_document_or_an_error(data: bytes) -> None:
    for parse in (docker.parse_manifest_json, docker.parse_repositories, docker.parse_v1):
        with suppress(InvalidDocument):
            parse(data)


# --- v1 configs ---

DIFF_ID = "sha256:ca553150ff688376ad7ba31c0131c9720b628d558bcef9681a4c2690f6aa651c"
EMPTY_CONFIG = (
    '{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,'
    '"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,'
    '"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}'
)
ROOTFS = f'"rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}}'
MODERN = b'"os":"linux","docker_version":"1.9.1"'


def config_of(v1_json: bytes) -> bytes:
    """The config of an image with one layer."""
    history = docker.history_from_v1(docker.parse_v1(v1_json))
    return docker.config_from_v1(v1_json, [DIFF_ID], [history])


@pytest.mark.parametrize(
    ("v1_json", "image_id"),
    [
        (
            (
                b'{ "os" : "linux",  "docker_version" : "1.9.1" , "x" : { "b" : 1.50, "a" : [ 1E5 ,'
                b' "  s<>& \\u003c \\u2028 \xe2\x80\xa8 \\/ \xc3\xa9 \\" q " ] } , "id":"q",'
                b'"Size":3,"size":4,"ID":"zz","Throwaway":true,"throwaway":true}'
            ),
            "c58645b0a97dfab557bf306c62d6b75104a10c08c8f61325148ebe729d490d35",
        ),
        (
            b"{" + MODERN + b',"author":"a\xff\xe2\x82z","c\xff":1,'
            b'"comment":"\\ud800 \\ud83d\\ude00"}',
            "d49ca46718446b405bed7cb26f8836668286c3e3507e3890102a728bda8ea1c1",
        ),
        (
            b"{" + MODERN + b',"a":1,"a":2,"author":"x","Author":"y","rootfs":1}',
            "8e23a546f1b34fb881e52a4170578f6e675e6266902e6da653f24d6c8308097b",
        ),
        (
            (
                b'{"os":"linux","OS":"linux","Created":"2015-01-01T00:00:00.120-00:00","comment":"c",'
                b'"config":{"cmd":"sh","Entrypoint":["a",null],"ExposedPorts":{"80/tcp":{},'
                b'"22/tcp":null},"Healthcheck":{"Test":[],"Interval":5},"StopTimeout":0,'
                b'"Volumes":{"/z":{},"/a":null},"Labels":{"z":null,"a":"<"},"Shell":["x"],"Env":[],'
                b'"OnBuild":[],"ArgsEscaped":true,"Memory":1.5,"StopSignal":"9","MacAddress":"m",'
                b'"NetworkDisabled":true},"variant":"v7","architecture":"arm"}'
            ),
            "0e4ef346cdfede51f0550906dcf0b3916be906a571fe09b37f8c1193a6a0b6c0",
        ),
        (
            (
                b'{"os":"linux","config":{"Healthcheck":{},"Shell":[],"ExposedPorts":{},"Volumes":{},'
                b'"Labels":{},"Cmd":[]},"container_config":null}'
            ),
            "69e84f82d80426ba610ced26390ad94dc66b6244c9c5ea4f832c44a67c3815d8",
        ),
        (
            (
                b'{"os":"linux","author":"a\xff\xe2\x82z",'
                b'"comment":"\\ud800 \\ud83d\\ude00 \x7f \\u001f\\n\\t"}'
            ),
            "0d393843e9b1f168b1d88e6eab8a82dcd69b0c5cf0c10c78cfccf13449188b02",
        ),
        (
            '{"os":"linux","comment":"a","ſize":7,"\u212aey":1,"author":"b","AUTHOR":"c",'
            '"author":"d"}'.encode(),
            "4c6de70ca6240a211004d180870d953e2e18c86f9ef6f2350a4811ffd36b0010",
        ),
    ],
)
def test_the_image_ids_that_dockerd_gives(v1_json: bytes, image_id: str) -> None:
    """Observed with dockerd 20.10.24."""
    assert of_bytes(config_of(v1_json)) == f"sha256:{image_id}"


def test_a_config_of_docker_1_8_3_and_later_keeps_its_members() -> None:
    v1_json = (
        b'{"os":"linux","docker_version":"1.8.3","z":1,"id":"i","parent":"p","Size":1,'
        b'"parent_id":"p","layer_id":"l","throwaway":true,"created":"2015-01-01T00:00:00.50Z",'
        b'"container_config":{"Cmd":["/bin/sh","-c"],"x":1}, "history":[], "author":"<a>"}'
    )
    assert config_of(v1_json).decode() == (
        '{"author":"\\u003ca\\u003e","container_config":{"Cmd":["/bin/sh","-c"],"x":1},'
        '"created":"2015-01-01T00:00:00.50Z","docker_version":"1.8.3",'
        '"history":[{"created":"2015-01-01T00:00:00.5Z","author":"\\u003ca\\u003e",'
        f'"created_by":"/bin/sh -c"}}],"os":"linux",{ROOTFS},"z":1}}'
    )


def test_an_older_config_keeps_the_known_fields() -> None:
    assert config_of(b"{}").decode() == (
        f'{{"container_config":{EMPTY_CONFIG},"created":"0001-01-01T00:00:00Z",'
        f'"history":[{{"created":"0001-01-01T00:00:00Z"}}],{ROOTFS}}}'
    )
    assert config_of(b'{"docker_version":"1.8.2","z":1,"config":{"Cpuset":""}}').decode() == (
        f'{{"config":{EMPTY_CONFIG},"container_config":{EMPTY_CONFIG},'
        '"created":"0001-01-01T00:00:00Z","docker_version":"1.8.2",'
        f'"history":[{{"created":"0001-01-01T00:00:00Z"}}],{ROOTFS}}}'
    )


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        ("", False),
        ("0.4.0", False),
        ("1.8.3-rc4", False),
        ("1.8", False),
        ("dev", False),
        ("-1.9.0", False),
        ("1.8.3", True),
        ("+1.8.3.x", True),
        ("1.10.0-dev", True),
        ("19", True),
        ("19.03.1", True),
    ],
)
def test_which_versions_keep_all(version: str, kept: bool) -> None:
    config = config_of(json.dumps({"docker_version": version, "z": 1}).encode())
    assert ("z" in json.loads(config)) is kept


def test_several_layers() -> None:
    history = [docker.History(created="2015-01-01T00:00:00Z", comment="base", empty_layer=True)]
    config = oci.parse_config(
        docker.config_from_v1(b"{" + MODERN + b"}", ["sha256:a", "sha256:b"], history), "it"
    )
    assert config.rootfs == oci.RootFS("layers", ("sha256:a", "sha256:b"))
    assert config.history == (
        oci.History(created="2015-01-01T00:00:00Z", comment="base", empty_layer=True),
    )


def test_v1_fields() -> None:
    image = docker.parse_v1(
        b'{"ID":"i","Parent":"p","created":"2015-01-01T00:00:00.10+00:00","OS":"linux",'
        b'"author":"a","comment":"c","container_config":{"Cmd":"one two"}}'
    )
    assert (image.id, image.parent, image.os) == ("i", "p", "linux")
    assert docker.history_from_v1(image) == docker.History(
        created="2015-01-01T00:00:00.1Z", author="a", created_by="one two", comment="c"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"[]",
        b'{"os":"linux"} x',
        b'\xef\xbb\xbf{"os":"linux"}',
        b'{"created":"2015-02-30T00:00:00Z"}',
        b'{"created":"2015-02-03"}',
        b'{"created":1}',
        b'{"docker_version":19}',
        b'{"Size":1.0}',
        b'{"config":{"Env":[1]}}',
        b'{"config":{"Cmd":1}}',
        b'{"config":{"Volumes":{"/a":"x"}}}',
        b'{"config":{"ExposedPorts":{"80":[]}}}',
    ],
)
def test_v1_configs_that_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidDocument, match=r"^v1: "):
        docker.parse_v1(data, "v1")
    with pytest.raises(InvalidDocument, match=r"^v1: "):
        docker.config_from_v1(data, [], [], "v1")


# --- the settings of containers ---


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (b"{}", {}),
        (b'{"config":null}', {}),
        (b'{"config":{"Env":["a"]},"Config":null}', {}),
        (b'{"config":5,"CONFIG":{"user":"x"}}', {"User": "x"}),
        (b'{"config":{"User":"x","user":null}}', {"User": "x"}),
        (b'{"config":{"Env":["x"],"env":null}}', {"Env": None}),
        (b'{"config":{"Env":[null,"\\ud800\xff"]}}', {"Env": ["", "\ufffd\ufffd"]}),
        (b'{"config":{"labelS":{"k":null}}}', {"Labels": {"k": ""}}),
        (b'{"config":{"ExposedPorts":{"80/tcp":null}}}', {"ExposedPorts": {"80/tcp": {}}}),
        (b'{"config":{"Cmd":"a b","StopTimeout":5}}', {"Cmd": "a b", "StopTimeout": 5}),
    ],
)
def test_settings_as_docker_reads_them(config: bytes, expected: dict[str, object]) -> None:
    assert docker.parse_process(config, "it") == expected


def test_settings_that_docker_ignores_keep_their_bytes() -> None:
    found = docker.parse_process(b'{"config":{"x": 1e999 ,"HealthCheck":{"retries":3}}}', "it")
    assert {name: bytes(raw) for name, raw in found.items()} == {
        "x": b"1e999",
        "Healthcheck": b'{"retries":3}',
    }


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"[]", "it: it is not a JSON object"),
        (b'{"config":5}', "it: config: it is not a JSON object"),
        (b'{"config":{"Env":5}}', "it: config: Env: Expected"),
        (b'{"config":{"StopTimeout":1e999}}', "it: config: StopTimeout: "),
        (b'{"config":{"Labels":{"k":1}}}', "it: config: Labels: Expected"),
        (b'{"config":{"Healthcheck":[]}}', "it: config: Healthcheck: Expected"),
    ],
)
def test_settings_that_docker_refuses(config: bytes, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=f"^{reason}"):
        docker.parse_process(config, "it")
