"""How long a bundle takes, and how much memory."""
