"""How the schema came to be, step by step, and the check that code and database agree."""
