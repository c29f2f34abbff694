"""The demo: a rendered picture and a rendered clip, answered by nano."""
