"""The whole platform, started and used the way its users do."""
