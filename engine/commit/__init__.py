"""Creation of images: layers from directory trees, and configs, manifests and indexes from layers."""
