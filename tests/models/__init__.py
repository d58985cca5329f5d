"""Plain models that the tests compare the product with."""
