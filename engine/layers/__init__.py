"""Access to the uncompressed bytes of stored layers."""
