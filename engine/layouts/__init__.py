"""The layouts in which stored images appear as an archive or a directory."""
