"""Objects: inputs too large for a row, and everything that jobs produce."""
