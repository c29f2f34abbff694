"""Video: reading frames, tracking objects, captioning events."""
