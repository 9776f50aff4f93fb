"""A store over a containerd: its images by gRPC, its blobs by file."""
