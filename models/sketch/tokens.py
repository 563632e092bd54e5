"""The tokenizer: CLIP's own kind, with a vocabulary so small that each word Sketch knows is one token."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from models.sketch.prompts import vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 77
"""As many tokens as in any Stable Diffusion: what counts prompts need not know this model."""


def build_tokenizer() -> CLIPTokenizer:
    """Merge bytes until each known word is one token. Unknown words stay letters."""
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learned.train_from_iterator(vocabulary(), trainer)
    found = json.loads(learned.to_str())["model"]
    pieces = [*found["vocab"], *sorted({f"{letter}</w>" for letter in alphabet} - found["vocab"].keys()), START, END]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    merges = [(first, second) for first, second in found["merges"]]
    return CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=CONTEXT)
