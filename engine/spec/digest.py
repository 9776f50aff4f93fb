"""Digests by the rules of go-digest, and chain IDs by those of image-spec's identity package.

A digest is "<algorithm>:<lower-case hex>" and names the content with that hash. All functions are
pure and safe from any thread. Only `parse` turns text into a Digest, so a Digest is always valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from engine.errors import InvalidDigest

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from engine.hashing.sha256 import Hash

_HEX_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
ALGORITHMS: Final = tuple(_HEX_LENGTHS)
"""The registered algorithms, the canonical one first."""

_GRAMMAR: Final = r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"
_HEX: Final = re.compile(r"[a-f0-9]+")


class Digest(str):
    """A valid digest of a registered algorithm; its text is the string itself.

    Only this module creates one from text.
    """

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        """One of ALGORITHMS."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hash in lower-case hex."""
        return self.partition(":")[2]

    @property
    def raw(self) -> bytes:
        """The bytes of the hash."""
        return bytes.fromhex(self.encoded)


def parse(text: str) -> Digest:
    """Return `text` as a Digest; raise InvalidDigest with the kind that go-digest's Validate
    reports.

    The kind is "unsupported" for an unknown algorithm in well-formed text. For a known algorithm
    the length (in bytes) is checked before the characters.
    """
    algorithm, _, encoded = text.partition(":")
    if not algorithm or not encoded:
        raise InvalidDigest(text, "invalid_format")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidDigest(text, "unsupported" if well_formed(text) else "invalid_format")
    if len(encoded.encode(errors="surrogatepass")) != length:
        raise InvalidDigest(text, "invalid_length")
    if not _HEX.fullmatch(encoded):
        raise InvalidDigest(text, "invalid_format")
    return Digest(text)


def well_formed(text: str) -> bool:
    """Return whether `text` follows go-digest's grammar, for any algorithm and length."""
    return re.fullmatch(_GRAMMAR, text) is not None


def hasher(algorithm: str = "sha256") -> Hash:
    """Return a new hash object of a registered algorithm; raise InvalidDigest for any other."""
    if algorithm not in ALGORITHMS:
        raise InvalidDigest(algorithm, "unsupported")
    if algorithm == "sha256":
        from engine.hashing import sha256  # late, since parsing names does not need it

        return sha256.new()
    import hashlib

    return hashlib.new(algorithm, usedforsecurity=False)


def of_bytes(data: ReadableBuffer, algorithm: str = "sha256") -> Digest:
    """Return the digest of `data`."""
    state = hasher(algorithm)
    state.update(data)
    return from_hash(algorithm, state)


def from_hash(algorithm: str, state: Hash) -> Digest:
    """Return the digest of the data that a hash object of `hasher(algorithm)` has received."""
    return Digest(f"{algorithm}:{state.hexdigest()}")


def from_raw(raw: bytes) -> Digest:
    """Return the digest with these hash bytes; their number determines the algorithm."""
    algorithm = next(name for name, length in _HEX_LENGTHS.items() if length == 2 * len(raw))
    return Digest(f"{algorithm}:{raw.hex()}")


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Return the chain ID of each prefix of the layers, lowest layer first, without validation."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            chain.append(of_bytes(f"{chain[-1]} {diff_id}".encode(errors="surrogatepass")))
        else:
            chain.append(diff_id)
    return chain


def chain_id(diff_ids: Iterable[str]) -> str:
    """Return the chain ID of all the layers, "" for none."""
    return next(reversed(chain_ids(diff_ids)), "")
