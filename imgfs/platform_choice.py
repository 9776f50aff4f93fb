"""Which platforms a mount shows, and which one `manifest.json` describes."""

import msgspec

from engine import platforms
from engine.layouts import combined, selection
from engine.oci import Platform


class PlatformChoice(msgspec.Struct, frozen=True):
    """The platforms asked for, the most wanted first; none means everything, described for this
    host.
    """

    wanted: tuple[Platform, ...] = ()

    def options(self, mtime: int) -> combined.Options:
        """A layout's options; an image that has none of the platforms is shown whole."""
        if not self.wanted:
            return combined.Options(fallback=selection.any_complete, mtime=mtime)
        matcher = platforms.any_of(*(q for p in self.wanted for q in platforms.preferences(p)))
        return combined.Options(matcher, matcher, selection.any_complete, mtime=mtime)
