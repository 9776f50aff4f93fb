"""Import, export and naming of images in archives, in the OCI, docker and legacy formats."""
