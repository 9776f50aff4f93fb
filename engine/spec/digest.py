"""Digests, as go-digest has them, and chain IDs, as image-spec's identity package has them.

A digest is "<algorithm>:<lower-case hex>" and the name of the content that hashes to it. Everything
here is pure and safe from any thread. Text becomes a Digest in `parse` only; who holds a Digest
need not look at it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from engine.errors import InvalidDigest

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from _typeshed import ReadableBuffer

_HEX_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
ALGORITHMS: Final = tuple(_HEX_LENGTHS)
"""The registered algorithms, the canonical one first."""

_GRAMMAR: Final = r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+"
_HEX: Final = re.compile(r"[a-f0-9]+")


class Digest(str):
    """A valid digest of a registered algorithm, made only by this module; it is its own text."""

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
    """`text` as a Digest, or InvalidDigest with the kind that go-digest's Validate reports.

    "unsupported" is said of an unknown algorithm in well-formed text. Of a known one, the length
    (in bytes) is judged before the letters.
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
    """Whether `text` follows go-digest's grammar, whatever its algorithm and its length."""
    return re.fullmatch(_GRAMMAR, text) is not None


def hasher(algorithm: str = "sha256") -> Hash:
    """A fresh hash object of a registered algorithm; InvalidDigest of any other."""
    if algorithm not in ALGORITHMS:
        raise InvalidDigest(algorithm, "unsupported")
    import hashlib  # OpenSSL is not for who only reads names

    return hashlib.new(algorithm, usedforsecurity=False)


def of_bytes(data: ReadableBuffer, algorithm: str = "sha256") -> Digest:
    """The digest of `data`."""
    state = hasher(algorithm)
    state.update(data)
    return from_hash(algorithm, state)


def from_hash(algorithm: str, state: Hash) -> Digest:
    """The digest of what the hash object, got from `hasher(algorithm)`, has taken in so far."""
    return Digest(f"{algorithm}:{state.hexdigest()}")


def from_raw(raw: bytes) -> Digest:
    """The digest of these bytes of a hash: the registered algorithms differ in their lengths."""
    algorithm = next(name for name, length in _HEX_LENGTHS.items() if length == 2 * len(raw))
    return Digest(f"{algorithm}:{raw.hex()}")


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The chain ID of every prefix of the layers, lowest layer first; the texts are not judged."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if chain:
            chain.append(of_bytes(f"{chain[-1]} {diff_id}".encode(errors="surrogatepass")))
        else:
            chain.append(diff_id)
    return chain


def chain_id(diff_ids: Iterable[str]) -> str:
    """The chain ID of all the layers together, "" of none."""
    return next(reversed(chain_ids(diff_ids)), "")
