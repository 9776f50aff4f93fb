"""Making images: trees of files become layers, layers and a config become images."""
