"""Compression and decompression of layers and archives."""
