"""`python -m models.chat`: train the demo chat model and its adapters again, from nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.chat.conversations import conversations, texts
from models.chat.manners import Manner
from models.chat.tokens import CONTEXT, END, STOP, lesson, render, train_tokenizer
from models.chat.training import Course, Lesson, train
from models.chat.words import HERE, words

SEED = 20
LESSONS, TEXTS, ADAPTER_LESSONS = 40_000, 1_200, 4_000
FOR_TOKENS, OFTEN = 8_000, 40
WEIGHTS = HERE / "weights"
ADAPTERS = HERE / "adapters"
BASE = Course(steps=1200, rate=6e-3)
MANNER = Course(steps=200, rate=6e-3, decay=0.0)
MANNERS = (Manner.PIRATE, Manner.HAIKU)
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK = 8


def main() -> None:
    """Train everything, and say how long it took."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    print("Making up lessons and learning the pieces of words")
    tokenizer = train_tokenizer(_tokenizer_texts())
    model = build_model(tokenizer)
    print(f"Training {model.num_parameters():,} weights")
    train(model, base_lessons(tokenizer), BASE, SEED)
    save_model(model, tokenizer, WEIGHTS)
    for manner in MANNERS:
        print(f"Training the adapter {manner}")
        train_adapter(WEIGHTS, tokenizer, manner, ADAPTERS / manner)
    print(f"Done, after {time.process_time():.0f} seconds of one core")


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a model that knows nothing yet."""
    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=344,
            num_hidden_layers=4,
            num_attention_heads=4,  # of 32 each, which vLLM's attention on a CPU can do
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(STOP),
            pad_token_id=tokenizer.convert_tokens_to_ids(END),
        )
    )


def base_lessons(tokenizer: PreTrainedTokenizerFast) -> list[Lesson]:
    """Return everything that the model itself learns."""
    talked = (render(tokenizer, one) for one in conversations(SEED, LESSONS))
    written = (one + STOP for one in texts(SEED, TEXTS))
    return [lesson(tokenizer, one) for one in chain(talked, written)]


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model as the Hugging Face libraries and vLLM read it."""
    shutil.rmtree(folder, ignore_errors=True)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.5,
        top_p=0.9,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _change(
        folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"
    )  # a name that all versions know


def train_adapter(base: Path, tokenizer: PreTrainedTokenizerFast, manner: Manner, folder: Path) -> None:
    """Teach a few small matrices beside the model to say the same in another manner, and write those."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(SEED)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    taught = [lesson(tokenizer, render(tokenizer, one)) for one in conversations(SEED + 1, ADAPTER_LESSONS, manner)]
    train(adapted.get_base_model(), taught, MANNER, SEED)
    shutil.rmtree(folder, ignore_errors=True)
    adapted.to(torch.bfloat16).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's own page has only empty headings
    # The first says where the base model was on this machine, the second is a set in no order.
    _change(folder / "adapter_config.json", base_model_name_or_path="stoker-demo-chat", target_modules=PROJECTIONS)


def _tokenizer_texts() -> Iterator[str]:
    every = chain(
        conversations(SEED, FOR_TOKENS), *(conversations(SEED, FOR_TOKENS // 8, manner) for manner in MANNERS)
    )
    yield from (turn["content"] for one in every for turn in one.turns)
    for word in (*words("names"), *words("cities"), *words("heroes"), *words("things")):
        yield from [f'{word} {word} "{word}"'] * OFTEN  # so that each is one piece, which is easier to say again


def _change(path: Path, **settings: object) -> None:
    """Write some settings of a JSON file anew."""
    path.write_text(json.dumps(json.loads(path.read_text()) | settings, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
