"""One module of HTTP routes per noun."""
