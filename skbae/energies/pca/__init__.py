"""PCA at any temperature of its code: the energy, its prior and its charts."""
