"""A Llama of a few hundred kilobytes that has learned nothing: real formats, one token per byte, two adapters."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HIDDEN, HEADS, KEY_HEADS, LAYERS, INNER, RANK = 64, 2, 1, 2, 128, 8
ADAPTERS = ("loud", "odd")


def make_tiny_llama(folder: Path) -> Path:
    """Write the model and its adapters."""
    folder.mkdir(parents=True)
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    _write_tokenizer(folder, words)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(words),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 2}))
    _write_weights(folder / "model.safetensors", _shapes(len(words)), seed=0)
    for seed, name in enumerate(ADAPTERS, start=1):
        _write_adapter(folder / "adapters" / name, seed)
    return folder


def _write_tokenizer(folder: Path, words: list[str]) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, HIDDEN), "model.norm.weight": ()}
    keys = HIDDEN * KEY_HEADS // HEADS
    for layer in range(LAYERS):
        own = {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (keys, HIDDEN),
            "self_attn.v_proj": (keys, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN),
            "mlp.up_proj": (INNER, HIDDEN),
            "mlp.down_proj": (HIDDEN, INNER),
            "input_layernorm": (),
            "post_attention_layernorm": (),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    return shapes


def _write_adapter(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj", "o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"bias": "none", "task_type": "CAUSAL_LM"}))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        for name in ("q_proj", "o_proj"):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            shapes |= {f"{stem}.lora_A.weight": (RANK, HIDDEN), f"{stem}.lora_B.weight": (HIDDEN, RANK)}
    _write_weights(folder / "adapter_model.safetensors", shapes, seed)


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    import torch  # noqa: PLC0415 - only where it is
    from safetensors.torch import save_file  # noqa: PLC0415 - the same

    chance = torch.Generator().manual_seed(seed)
    weights: dict[str, Any] = {
        name: torch.randn(shape, generator=chance) * 0.3 if shape else torch.ones(HIDDEN)
        for name, shape in shapes.items()
    }
    if "model.embed_tokens.weight" in weights:
        weights["model.embed_tokens.weight"][: len(SPECIAL)] = 0  # so that it hardly ever ends by itself
    save_file(weights, str(path), metadata={"format": "pt"})
