"""scikit-learn shells: validation, fitted attributes, nothing numerical."""
