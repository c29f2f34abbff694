"""From a picture and a prompt to a mask and text."""
