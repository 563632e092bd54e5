"""The error tree: every way a request or a job can fail, each with one public sentence.

StokerError
├── CallerError                the caller can mend it (4xx)
│   ├── MalformedError              400 malformed
│   ├── UnauthenticatedError        401 unauthenticated
│   ├── ForbiddenError              403 forbidden
│   ├── NotFoundError               404 not_found
│   │   └── ModelNotFoundError      404 model_not_found
│   ├── MethodNotAllowedError       405 method_not_allowed
│   ├── UploadTimeoutError          408 upload_timeout
│   ├── ConflictError               409 conflict
│   │   └── JobFailedError          409 job_failed
│   ├── GoneError                   410 gone
│   ├── TooLargeError               413 too_large
│   ├── InvalidError                422 invalid
│   │   ├── ContextLengthError      422 context_length_exceeded
│   │   ├── ContentPolicyError      422 content_policy_violation
│   │   ├── IdempotencyMismatchError 422 idempotency_mismatch
│   │   └── UrlRefusedError          422 url_refused
│   └── TooManyError                429 too_many
├── ServiceError               ours to mend (5xx)
│   ├── InternalError               500 internal_error
│   ├── UnavailableError            503 unavailable: not accepted, nothing happened
│   ├── EngineFailedError           500 engine_failed: a door's job ended without an answer
│   └── DoorTimeoutError            504 door_timeout: a door's job did not end in time
├── FaultError                 a backend is sick: wait and try again, never the job's fault
│   ├── DatabaseFaultError, ObjectStoreFaultError, RedisFaultError
├── JobError                   how a job ends `failed`
│   ├── EngineError                 engine_error, retryable
│   ├── EngineRefusedError          engine_refused: this input can never run
│   │   ├── InputTooLongError           context_length_exceeded
│   │   └── AdapterGoneError            adapter_gone
│   ├── EngineDeadError             engine_dead: the engine is gone and its neighbours with it
│   ├── JobTimeoutError             timeout
│   ├── WorkerLostError             worker_lost
│   └── ModelRemovedError           model_removed
└── StartError                 a part refuses to start, with a sentence for the operator
    └── CatalogError
"""

from __future__ import annotations

from typing import ClassVar

from schemas.base import JsonObject


class StokerError(Exception):
    """The root: a code for programs, a sentence for people."""

    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "api_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    sentence: ClassVar[str] = "Something went wrong on our side; try again, and report the request id if it stays."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.message = message or self.sentence
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def as_job_error(self) -> JsonObject:
        """Return the plain data that a job's row and view carry."""
        return {"type": self.type, "code": self.code, "message": self.message, "retryable": self.retryable}

    def as_wire_error(self, request_id: str | None) -> JsonObject:
        """Return the body of an HTTP error, in OpenAI's shape."""
        return {
            "error": {
                "type": self.type,
                "code": self.code,
                "message": self.message,
                "param": self.param,
                "request_id": request_id,
            }
        }


class CallerError(StokerError):
    """The request is at fault and the caller can mend it."""

    code = "invalid_request"
    type = "invalid_request_error"
    status = 400
    sentence = "The request cannot be served as it is."


class MalformedError(CallerError):
    """The body or a header cannot be read at all."""

    code = "malformed"
    sentence = "The request body is not valid JSON; send one UTF-8 JSON object."


class UnauthenticatedError(CallerError):
    """No key, a wrong one, a revoked or an expired one."""

    code = "unauthenticated"
    type = "authentication_error"
    status = 401
    sentence = "Send a valid API key in the header 'Authorization: Bearer …'."


class ForbiddenError(CallerError):
    """The key is valid and may not do this."""

    code = "forbidden"
    type = "permission_error"
    status = 403
    sentence = "This API key lacks the scope for this call; use a key that has it."


class NotFoundError(CallerError):
    """There is no such thing, or it belongs to somebody else."""

    code = "not_found"
    type = "not_found_error"
    status = 404
    sentence = "There is nothing here under that name; check the address and the id."


class ModelNotFoundError(NotFoundError):
    """The catalog has no such model."""

    code = "model_not_found"
    sentence = "The catalog has no such model; GET /v1/models lists the known ones."


class MethodNotAllowedError(CallerError):
    """The address exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    sentence = "This address does not know that method; the Allow header names the ones it knows."


class UploadTimeoutError(CallerError):
    """A file came too slowly."""

    code = "upload_timeout"
    status = 408
    retryable = True
    sentence = "The upload fell silent or took too long and was given up; try again, with a smaller file if it stays."


class ConflictError(CallerError):
    """The thing is not in a state that allows this."""

    code = "conflict"
    type = "conflict_error"
    status = 409
    sentence = "The job's state does not allow this; look at its status first."


class JobFailedError(ConflictError):
    """A result was asked of a job that has none."""

    code = "job_failed"
    sentence = "The job ended without a result; its 'error' says why, POST …/retry runs it again."


class GoneError(CallerError):
    """It was here and its retention has passed."""

    code = "gone"
    status = 410
    sentence = "The result was kept until its retention passed and is erased now; run the job again."


class TooLargeError(CallerError):
    """The body is over the limit."""

    code = "too_large"
    status = 413
    sentence = "The request body is too large."


class InvalidError(CallerError):
    """The body can be read and a field is wrong."""

    code = "invalid"
    status = 422
    sentence = "A field of the request is not valid."


class ContextLengthError(InvalidError):
    """The input is longer than the model can read."""

    code = "context_length_exceeded"
    sentence = "The input is longer than the model can read; send less."


class ContentPolicyError(InvalidError):
    """A safety checker will not have it."""

    code = "content_policy_violation"
    sentence = "A safety checker refused this; ask for something else."


class IdempotencyMismatchError(InvalidError):
    """The same idempotency key came with another body."""

    code = "idempotency_mismatch"
    sentence = "This Idempotency-Key was used with another request body; send a new key for a new request."


class UrlRefusedError(InvalidError):
    """A URL of the caller's that we may not send anything to."""

    code = "url_refused"
    sentence = "This URL may not be contacted from here; use a public https:// address."


class TooManyError(CallerError):
    """A limit of this caller is reached."""

    code = "too_many"
    type = "rate_limit_error"
    status = 429
    retryable = True
    sentence = "Too many jobs of yours are waiting; submit more when some have ended."


class ServiceError(StokerError):
    """The request is fine; we are not."""


class InternalError(ServiceError):
    """Anything we did not foresee; the log has the rest."""


class UnavailableError(ServiceError):
    """Not accepted, and nothing happened: the caller may simply try again."""

    code = "unavailable"
    status = 503
    retryable = True
    sentence = "The service cannot accept this right now and nothing was stored; try again in a few seconds."


class EngineFailedError(ServiceError):
    """Whoever waited for an answer gets none: its job failed."""

    code = "engine_failed"
    sentence = "The job failed, also when it was tried again; GET /v1/jobs/{id} with X-Stoker-Job-Id says why."


class DoorTimeoutError(ServiceError):
    """Whoever waited for an answer waited too long."""

    code = "door_timeout"
    status = 504
    sentence = "The job did not end in time and was canceled; send less at once, or submit it to POST /v1/jobs."


class FaultError(StokerError):
    """A backend is sick; it is waited for and never counted against a job."""

    code = "unavailable"
    status = 503
    retryable = True
    sentence = UnavailableError.sentence


class DatabaseFaultError(FaultError):
    """SQL cannot be reached or is locked."""


class ObjectStoreFaultError(FaultError):
    """The object store cannot be reached or answers nonsense."""


class RedisFaultError(FaultError):
    """Redis cannot be reached."""


class JobError(StokerError):
    """How a job ends `failed`."""

    type = "job_error"


class EngineError(JobError):
    """The engine failed this job and may succeed at the next attempt."""

    code = "engine_error"
    retryable = True
    sentence = "The engine failed while it ran this job."


class EngineRefusedError(JobError):
    """The engine can never run this input."""

    code = "engine_refused"
    sentence = "The engine cannot run this input."


class InputTooLongError(EngineRefusedError):
    """The model's own tokenizer counted more than the model can read."""

    code = ContextLengthError.code
    sentence = ContextLengthError.sentence


class AdapterGoneError(EngineRefusedError):
    """An adapter that the input names is not there any more."""

    code = "adapter_gone"
    sentence = "An adapter that this job names is not there any more; GET /v1/loras lists those there are."


class EngineDeadError(JobError):
    """The engine is gone, and every job in it: the worker starts anew."""

    code = "engine_dead"
    retryable = True
    sentence = "The engine died while it ran this job."


class JobTimeoutError(JobError):
    """The job ran longer than its timeout."""

    code = "timeout"
    sentence = "The job ran longer than its timeout_seconds and was stopped; ask for less or allow more time."


class WorkerLostError(JobError):
    """Three workers were lost while they ran this job."""

    code = "worker_lost"
    sentence = "Three workers died while they ran this job; it is not tried again."


class ModelRemovedError(JobError):
    """The catalog lost the model before the job ran."""

    code = "model_removed"
    sentence = "The model was removed from the catalog before the job could run; submit it for another model."


class StartError(StokerError):
    """A part refuses to start; the message tells the operator what to mend."""

    code = "start_refused"


class CatalogError(StartError):
    """The catalog is wrong; the message names file, table, key and what was expected."""

    code = "catalog_invalid"
