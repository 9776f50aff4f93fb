"""Values and text formats of the OCI and Docker specifications; no input or output."""
