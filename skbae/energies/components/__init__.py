"""Components for counts, categories, bits and positive numbers, and products of columns."""
