"""A streaming reader of tar archives and an encoder of tar headers."""
