"""How the single best model is found."""
