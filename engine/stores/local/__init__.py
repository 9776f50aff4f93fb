"""The store on disk: content, images, leases, events, garbage collection and checks."""
