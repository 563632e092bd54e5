"""The engines a worker can hold; the only place that may import torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from schemas.catalog import Model
from schemas.errors import CatalogError
from schemas.jobs import Kind
from tasks.adapters import AdapterSource
from tasks.engine import Engine
from tasks.safety import find_checker
from workers.engines.catalog_adapters import CatalogAdapters

ENGINES = {
    "diffusers": "workers.engines.image:create",
    "embedding": "workers.engines.embedding:create",
    "fake": "workers.engines.fake:create",
    "vllm": "workers.engines.text:create",
}
"""Where each engine of the catalog is: a module is imported only when a worker holds its engine."""

KINDS = {"diffusers": Kind.IMAGE, "embedding": Kind.EMBEDDING, "vllm": Kind.TEXT}
"""What each engine makes; `fake` makes anything."""

ENVIRONMENTS = {
    "diffusers": {
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TRANSFORMERS_VERBOSITY": "error",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",  # as below; a pipeline has more layers, and few shapes
    },
    # oneDNN keeps what it compiled for each shape of a step, and torch what it made of that: a thousand of each are
    # hundreds of MB that steps of ever new shapes fill slowly, and compiling is cheap.
    "embedding": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"},
    "vllm": {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # no third process; what computes has one of its own all the same
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_V1_OUTPUT_PROC_CHUNK_SIZE": "8",  # where many answers end in one step, the first are stored meanwhile
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",  # as above: prompts have more lengths than batches have sizes
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    },
}
"""What an engine's libraries look for in the environment when they are imported; the operator's own words beat it."""

LITTERING = frozenset({"vllm"})
"""Engines whose libraries never remove the sockets and files by which their processes find each other."""


def create_engine(
    model: Model,
    device: str = "cpu0",
    locate: Callable[[str], str] = str,
    library: Callable[[AdapterSource], AdapterSource] = lambda listed: listed,
) -> Engine:
    """Make the engine that the catalog names for a model on a device; it is not loaded yet.

    `locate` turns a source of the catalog into a folder or a hub's id; it may fetch for a while. `library` adds to
    the adapters that the catalog lists.
    """
    address = ENGINES.get(model.engine)
    if address is None:
        known = ", ".join(sorted(ENGINES))
        raise CatalogError(
            f"The model '{model.alias}' wants the engine '{model.engine}', which this release does not have. "
            f"Known engines: {known}. Correct 'engine' in [models.{model.alias}]."
        )
    made = KINDS.get(model.engine, model.kind)
    if made is not model.kind:
        raise CatalogError(
            f"The model '{model.alias}' is of the kind '{model.kind}', the engine '{model.engine}' is for '{made}'. "
            f"Correct 'kind' or 'engine' in [models.{model.alias}]."
        )
    if model.image.safety:
        find_checker(model.image.safety)  # a wrong name stops the start and no job
    module, _, name = address.partition(":")
    engine: Engine = getattr(import_module(module), name)(
        model, device, locate, library(CatalogAdapters(model, locate))
    )
    return engine
