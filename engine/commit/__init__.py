"""Creation of images: layers from directory trees; configs, manifests and indexes from layers."""
