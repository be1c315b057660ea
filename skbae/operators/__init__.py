"""Pure functions over arrays: tempered maxima, tilted means, small linear algebra."""
