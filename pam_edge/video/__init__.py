"""Video: reading frames, tracking objects, captions of what happens."""
