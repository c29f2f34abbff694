"""How good a bundle's answers are."""
