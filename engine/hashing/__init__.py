"""Hashing of several streams of bytes at a time."""
