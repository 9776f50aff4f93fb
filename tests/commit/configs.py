"""Images with configs that loads accept, and that not every reader of JSON takes."""

from dataclasses import dataclass

from tests.archives import ImageParts


@dataclass(frozen=True)
class OddImage(ImageParts):
    """An image in whose config these bytes replace the member `config`."""

    members: bytes = b""

    @property
    def config(self) -> bytes:
        return ImageParts(self.layers).config.replace(b'"config":{"Cmd":["/hello"]}', self.members)


DEEP = b"[" * 600 + b"]" * 600
ODD = {
    "not UTF-8": b'"config":{"Env":["A=b"],"x":"\xff"}',
    "a large number": b'"config":{"Env":["A=b"],"x":1e999}',
    "nested": b'"config":{"Env":["A=b"],"x":%s}' % DEEP,
    "null in a list": b'"config":{"Env":["A=b",null]}',
    "twice": b'"config":5,"Config":{"Env":["A=b"]}',
    "half a pair": b'"config":{"Env":["A=b"],"Labels":{"k":"\\ud800"}}',
    "in lower case": b'"config":{"env":["A=b"]}',
    "in both cases": b'"config":{"Env":["B=c"],"env":["A=b"]}',
}
"""Members that all mean the environment `A=b`."""
