"""What happens to batches: their files are validated, their lines run, their answers become files."""
