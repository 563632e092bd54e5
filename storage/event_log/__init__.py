"""What a job said while it ran, kept until shortly after its end."""
