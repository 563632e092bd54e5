"""What happens to a job: routing, dispatch, execution, retry, the Celery app and the reconciler; no torch."""
