"""Trees of files: of a directory on disk, of one layer, and of the merged layers of an image."""
