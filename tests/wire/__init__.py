"""A package, so that its API server is shared by its modules and ends with them."""
