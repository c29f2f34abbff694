"""Results as pictures, videos, JSON and text."""
