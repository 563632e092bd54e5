"""The tests, one folder per tier: what a tier may touch decides where a test lives."""
