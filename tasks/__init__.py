"""What happens to a job: routing, dispatch, execution, retry and reconciliation."""
