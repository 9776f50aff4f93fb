"""Addresses that a registry names: its own, by its own scheme, and those of others."""

import pytest

from engine.errors import StoreError
from engine.stores.registry.addresses import Addresses
from engine.stores.registry.location import parse_location

TLS = "registry+https://h.example"
PORT = "registry+https://h.example:5000"
PLAIN = "registry+http://h.example:5000"


def addresses(url: str) -> Addresses:
    return Addresses(parse_location(url))


@pytest.mark.parametrize(
    ("registry", "reference", "url"),
    [
        (TLS, "/v2/u?x=1", "https://h.example/v2/u?x=1"),
        (TLS, "https://h.example:443/v2/u", "https://h.example:443/v2/u"),
        (TLS, "HTTPS://H.example/v2/u", "https://H.example/v2/u"),
        (TLS, "http://h.example/v2/u?x=1", "https://h.example/v2/u?x=1"),
        (PORT, "http://h.example/v2/u", "https://h.example:5000/v2/u"),
        (PORT, "http://h.example:5000/v2/u", "https://h.example:5000/v2/u"),
        (PLAIN, "https://h.example:5000/v2/u", "http://h.example:5000/v2/u"),
    ],
)
def test_its_own(registry: str, reference: str, url: str) -> None:
    found = addresses(registry)
    assert found.of(reference) == url
    assert found.is_own(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/v2/u",
        "https://h.example:8443/v2/u",
        "https://h.example@other.example/v2/u",
        "https://other.example\\@h.example/v2/u",
        "https://h.example.other.example/v2/u",
    ],
)
def test_those_of_others(url: str) -> None:
    found = addresses(TLS)
    assert found.of(url) == url
    assert not found.is_own(url)


@pytest.mark.parametrize(
    "url", ["http://other.example/", "http://h.example:80/", "http://[", "//h:x/", "ftp://other/"]
)
def test_those_that_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="names an address") as caught:
        addresses(TLS).of(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://h.example/", "http://other.example/", "http://["])
def test_redirects_that_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="names an address"):
        addresses(TLS).followed("HTTPS://h.example/v2/", url)
