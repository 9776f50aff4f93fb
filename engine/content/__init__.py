"""The protocols of a content store."""
