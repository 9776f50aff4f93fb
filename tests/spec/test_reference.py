import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.errors import InvalidDigest, InvalidReference
from engine.spec import reference
from engine.spec.digest import Digest
from engine.spec.reference import Reference

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX}{HEX}"


def kind_of(text: str) -> str:
    with pytest.raises(InvalidReference) as caught:
        reference.parse_normalized(text)
    assert caught.value.text == text
    assert str(caught.value).isprintable()
    return caught.value.kind


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("alpine", "", "alpine", None, None),
        ("localhost:5000", "", "localhost", "5000", None),
        ("org/app", "org", "app", None, None),
        ("host:5000/app", "host:5000", "app", None, None),
        ("Host.Example/a/b:V1", "Host.Example", "a/b", "V1", None),
        ("under_score.io/app", "", "under_score.io/app", None, None),
        (f"[fe80::1]:5000/app:t@{SHA256}", "[fe80::1]:5000", "app", "t", SHA256),
        (f"app@{SHA512}", "", "app", None, SHA512),
    ],
)
def test_parses_by_the_bare_grammar(
    text: str, domain: str, path: str, tag: str | None, digest: str | None
) -> None:
    ref = reference.parse(text)
    assert (ref.domain, ref.path, ref.tag, ref.digest) == (domain, path, tag, digest)
    assert str(ref) == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "name_empty"),
        (":tag", "reference_invalid_format"),
        (f"@{SHA256}", "reference_invalid_format"),
        ("App:tag", "name_contains_uppercase"),
        ("App:-", "reference_invalid_format"),
        ("[fe80::1%eth0]/app", "reference_invalid_format"),
        ("[fe80::1]", "reference_invalid_format"),
        ("host/" + "a" * 256, "name_too_long"),
        (f"app@md5:{HEX}", "digest_unsupported"),
        (f"app@sha256:{HEX[1:]}", "digest_invalid_length"),
        (f"app@sha256:{HEX.upper()}", "digest_invalid_format"),
        (f"app@sha256:{HEX[:31]}", "reference_invalid_format"),
    ],
)
def test_refuses_by_the_bare_grammar(text: str, kind: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        reference.parse(text)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        ("library/alpine", "docker.io/library/alpine", "alpine"),
        ("library", "docker.io/library/library", "library"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/org/app", "docker.io/org/app", "org/app"),
        ("org/app:1", "docker.io/org/app:1", "org/app:1"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost", "docker.io/library/localhost", "localhost"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app"),
        ("ghcr.io/org/app", "ghcr.io/org/app", "ghcr.io/org/app"),
        ("REGISTRY/app", "REGISTRY/app", "REGISTRY/app"),
        ("DOCKER.io/app", "DOCKER.io/app", "DOCKER.io/app"),
        ("[::1]/app", "[::1]/app", "[::1]/app"),
        (f"alpine:3@{SHA256}", f"docker.io/library/alpine:3@{SHA256}", f"alpine:3@{SHA256}"),
    ],
)
def test_normalizes(text: str, full: str, familiar: str) -> None:
    ref = reference.parse_normalized(text)
    assert (str(ref), ref.familiar) == (full, familiar)
    assert ref.name == f"{ref.domain}/{ref.path}"
    assert familiar.startswith(ref.familiar_name)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "reference_invalid_format"),
        ("Alpine", "name_contains_uppercase"),
        ("org/App:1", "name_contains_uppercase"),
        ("alpine\n", "reference_invalid_format"),
        ("alpine:3\n", "reference_invalid_format"),
        (f"alpine@{SHA256}\n", "reference_invalid_format"),
        ("alpine:٣", "reference_invalid_format"),
        ("alpine:é", "reference_invalid_format"),
        ("ñandu", "reference_invalid_format"),
        ("alpine:" + "t" * 129, "reference_invalid_format"),
        ("alpine:.x", "reference_invalid_format"),
        ("a:b:c", "reference_invalid_format"),
        ("https://ghcr.io/app", "reference_invalid_format"),
        ("../app", "reference_invalid_format"),
        ("org/../app", "reference_invalid_format"),
        ("ghcr.io/", "reference_invalid_format"),
        ("host:/app", "reference_invalid_format"),
        ("host:8a/app", "reference_invalid_format"),
        ("-host.io/app", "reference_invalid_format"),
        ("a__b___c", "reference_invalid_format"),
        (HEX, "identifier_not_allowed"),
        ("a" * 248, "name_too_long"),
    ],
)
def test_refuses_names(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_the_implied_library_counts_towards_the_length() -> None:
    assert len(reference.parse_normalized("a" * 247).path) == 255
    assert len(reference.parse_normalized("ghcr.io/" + "a" * 255).path) == 255


def test_a_tag_may_have_128_characters() -> None:
    assert reference.parse_normalized("alpine:" + "_" * 128).tag == "_" * 128


def test_63_or_65_hex_digits_are_a_name() -> None:
    assert reference.parse_normalized(HEX[1:]).path == f"library/{HEX[1:]}"
    assert reference.parse_normalized(f"{HEX}0").path == f"library/{HEX}0"
    assert reference.parse_normalized(f"org/{HEX}").path == f"org/{HEX}"


def test_the_default_tag_is_for_bare_names() -> None:
    def tagged(text: str) -> str:
        return str(reference.tag_name_only(reference.parse_normalized(text)))

    assert tagged("alpine") == "docker.io/library/alpine:latest"
    assert tagged("alpine:3") == "docker.io/library/alpine:3"
    assert tagged(f"alpine@{SHA256}") == f"docker.io/library/alpine@{SHA256}"


def test_any_reference_may_be_an_identifier_or_a_digest() -> None:
    assert reference.parse_any(HEX) == SHA256
    assert isinstance(reference.parse_any(SHA512), Digest)
    assert str(reference.parse_any("alpine")) == "docker.io/library/alpine"
    # Not a digest for its length, so it is a tag of the repository "sha256".
    assert str(reference.parse_any("sha256:abc")) == "docker.io/library/sha256:abc"
    assert not reference.is_identifier(f"{HEX}\n")


def test_a_tag_is_set() -> None:
    ref = reference.parse_normalized("alpine")
    tagged = reference.with_tag(ref, "3")
    assert str(tagged) == "docker.io/library/alpine:3"
    assert ref.is_name_only
    assert not tagged.is_name_only


@pytest.mark.parametrize("tag", ["", "-x", "x\n", "t" * 129])
def test_refuses_to_set_a_bad_tag(tag: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        reference.with_tag(Reference("", "app"), tag)
    assert caught.value.kind == "tag_invalid_format"


def test_a_broken_digest_keeps_its_cause() -> None:
    with pytest.raises(InvalidReference) as caught:
        reference.parse(f"app@sha512:{HEX}")
    assert isinstance(caught.value.__cause__, InvalidDigest)


def test_sorts_what_says_most_first() -> None:
    names = ["b", "!", f"b@{SHA256}", HEX, "b:2", "b:1", f"b:1@{SHA256}", "a:3"]
    assert reference.sort(names) == [
        f"docker.io/library/b:1@{SHA256}",
        "docker.io/library/a:3",
        "docker.io/library/b:1",
        "docker.io/library/b:2",
        f"docker.io/library/b@{SHA256}",
        "docker.io/library/b",
        SHA256,
        "!",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker.io/library/alpine:3", "3"),
        ("localhost:5000/app:1", "1"),
        (f"ghcr.io/org/app:1@{SHA256}", f"1@{SHA256}"),
        (f"ghcr.io/org/app@{SHA256}", f"ghcr.io/org/app@{SHA256}"),
        ("ghcr.io/org/app", "ghcr.io/org/app"),
        ("ghcr.io/org/app:1?x=y", "1"),
        ("alpine:3", "alpine:3"),
        ("no host: here", "no host: here"),
    ],
)
def test_the_oci_name_is_the_tag_where_there_is_one(name: str, expected: str) -> None:
    assert reference.oci_ref_name(name) == expected


def test_the_oci_name_of_a_reference() -> None:
    assert reference.oci_ref_name(reference.parse_normalized("alpine:3")) == "3"


def test_prefixes_complete_tags() -> None:
    assert reference.with_prefix("ghcr.io/org/app", "1") == "ghcr.io/org/app:1"
    assert reference.with_prefix("ghcr.io/org/app", "alpine:3") == "alpine:3"
    assert reference.with_prefix("", "alpine:3") == ""


LABELS = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
DOMAINS = st.sampled_from(["docker.io", "localhost", "localhost:5000", "[::1]:80", "A", "b.c"])
TAGS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
REFERENCES = st.builds(
    Reference,
    DOMAINS,
    st.lists(LABELS, min_size=2, max_size=4).map("/".join),
    TAGS,
    st.none() | st.just(Digest(SHA256)),
)


@given(REFERENCES)
def test_full_names_lead_back(ref: Reference) -> None:
    assert reference.parse(str(ref)) == ref
    assert reference.parse_normalized(str(ref)) == ref


@given(REFERENCES)
def test_familiar_names_lead_back(ref: Reference) -> None:
    below = replace(ref, path=f"org/{ref.path}")
    assert reference.parse_normalized(below.familiar) == below


def test_a_familiar_name_may_look_like_a_registry() -> None:
    ref = reference.parse("docker.io/a.b/app")
    assert ref.familiar == "a.b/app"
    assert reference.parse_normalized(ref.familiar).domain == "a.b"


@given(st.text() | st.text(alphabet="aA1.:/@_-[]\n٣", max_size=20))
def test_any_text_is_a_reference_or_invalid(text: str) -> None:
    try:
        ref = reference.parse_normalized(text)
    except InvalidReference:
        return
    assert str(reference.parse_normalized(str(ref))) == str(ref)
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize("part", ["a-", "a.", "a/", "A", "a", "_", "a:", "x@a+", "[:"])
def test_long_names_take_no_quadratic_time(part: str) -> None:
    text = part * 20_000 + "!"
    with pytest.raises(InvalidReference):
        reference.parse(text)
    assert reference.oci_ref_name(text)
