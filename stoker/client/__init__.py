"""The Python client: jobs, queues, workers, models and keys over HTTP, blocking and asynchronous."""

from stoker.client.asynchronous import AsyncStoker
from stoker.client.blocking import Stoker
from stoker.client.documents import Artifact, Batch, Drain, Event, Job, JobFailure, Key, Lora, Model, Queue, Worker
from stoker.client.errors import (
    ApiError,
    BatchTimeoutError,
    ConflictError,
    DamagedError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServiceError,
    StokerError,
    TooManyError,
    UnauthenticatedError,
    UnreachableError,
    WaitTimeoutError,
)
from stoker.client.transcript import Answer, ToolCall, Transcript

__all__ = [
    "Answer",
    "ApiError",
    "Artifact",
    "AsyncStoker",
    "Batch",
    "BatchTimeoutError",
    "ConflictError",
    "DamagedError",
    "Drain",
    "Event",
    "ForbiddenError",
    "GoneError",
    "InvalidError",
    "Job",
    "JobFailure",
    "Key",
    "Lora",
    "Model",
    "NotFoundError",
    "Queue",
    "ServiceError",
    "Stoker",
    "StokerError",
    "TooManyError",
    "ToolCall",
    "Transcript",
    "UnauthenticatedError",
    "UnreachableError",
    "WaitTimeoutError",
    "Worker",
]
