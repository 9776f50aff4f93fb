import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidDigest
from engine.spec import digest
from engine.spec.digest import Digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(("algorithm", "length"), [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_parses_each_registered_algorithm(algorithm: str, length: int) -> None:
    encoded = "a1" * (length // 2)
    parsed = digest.parse(f"{algorithm}:{encoded}")
    assert (parsed.algorithm, parsed.encoded) == (algorithm, encoded)
    assert parsed == f"{algorithm}:{encoded}"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "invalid_format"),
        (":", "invalid_format"),
        ("sha256", "invalid_format"),
        ("sha256:", "invalid_format"),
        (f":{HEX}", "invalid_format"),
        (f"sha256:{HEX[:-1]}g", "invalid_format"),
        (f"sha256:{HEX[:-1]}:", "invalid_format"),
        (f"sha256:{HEX[:-1]}\n", "invalid_format"),
        (f"sha256:{HEX.upper()}", "invalid_format"),
        (f"sha256:{HEX[:-2]}ß", "invalid_format"),
        (f"sha256:{HEX[:-1]}٣", "invalid_length"),
        (f"sha256:{HEX}\n", "invalid_length"),
        (f"sha256:{HEX[:-1]}\ud800", "invalid_length"),
        (f"sha256:{HEX[1:]}", "invalid_length"),
        (f"sha512:{HEX}", "invalid_length"),
        (f"SHA256:{HEX}", "invalid_format"),
        (f"sha256_:{HEX}", "invalid_format"),
        (f"sha256--x:{HEX}", "invalid_format"),
        (f"md4:{HEX}\n", "invalid_format"),
        (f"md4:{HEX}", "unsupported"),
        (f"sha256+b64.x-y_z:{HEX}", "unsupported"),
        ("tarsum:AZ=_-", "unsupported"),
    ],
)
def test_refuses(text: str, kind: str) -> None:
    with pytest.raises(InvalidDigest) as caught:
        digest.parse(text)
    assert (caught.value.text, caught.value.kind) == (text, kind)
    assert str(caught.value).isprintable()


def test_digests_bytes() -> None:
    assert digest.of_bytes(b"") == EMPTY
    assert digest.of_bytes(b"layer", "sha512").encoded == hashlib.sha512(b"layer").hexdigest()


def test_digests_what_a_hasher_took_in() -> None:
    state = digest.hasher("sha384")
    state.update(b"la")
    state.update(b"yer")
    assert digest.from_hash("sha384", state) == digest.of_bytes(b"layer", "sha384")


def test_hashes_with_registered_algorithms_only() -> None:
    with pytest.raises(InvalidDigest) as caught:
        digest.hasher("md5")
    assert caught.value.kind == "unsupported"


@given(st.binary(), st.sampled_from(digest.ALGORITHMS))
def test_what_is_made_parses(data: bytes, algorithm: str) -> None:
    made = digest.of_bytes(data, algorithm)
    assert digest.parse(str(made)) == made


@given(st.text() | st.from_regex(r"[a-z0-9.+]{1,8}:[a-zA-Z0-9=_-]{1,70}", fullmatch=True))
def test_any_text_is_a_digest_or_invalid(text: str) -> None:
    try:
        parsed = digest.parse(text)
    except InvalidDigest:
        return
    assert parsed == text
    assert digest.well_formed(text)


def test_a_digest_is_plain_text_everywhere() -> None:
    parsed = digest.parse(EMPTY)
    assert {parsed: 1}[Digest(EMPTY)] == 1
    assert pickle.loads(pickle.dumps(parsed)) == EMPTY


def test_chain_ids_fold_the_layers_below() -> None:
    def joined(below: str, diff_id: str) -> str:
        return f"sha256:{hashlib.sha256(f'{below} {diff_id}'.encode()).hexdigest()}"

    second = joined("sha256:one", "sha256:two")
    expected = ["sha256:one", second, joined(second, "sha256:one")]
    diff_ids = ["sha256:one", "sha256:two", "sha256:one"]
    assert digest.chain_ids(diff_ids) == expected
    assert digest.chain_id(iter(diff_ids)) == expected[-1]


def test_chain_id_of_nothing_is_empty() -> None:
    assert digest.chain_ids([]) == []
    assert digest.chain_id([]) == ""


def test_chain_id_of_one_layer_is_its_diff_id() -> None:
    assert digest.chain_id(["not even a digest"]) == "not even a digest"
