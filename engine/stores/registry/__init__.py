"""A registry as a store, whose blobs are fetched into a cache when they are read."""
