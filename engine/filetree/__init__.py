"""Trees of files: what a directory on disk holds, and what the layers of an image make together."""
