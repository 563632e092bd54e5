"""The demo chat model's tokenizer: byte-level BPE, so that every character of every script makes the round trip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.chat.conversations import Conversation
from models.chat.words import HERE

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TAGS = ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
VOCABULARY = 2048
CONTEXT = 1024
ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)
IGNORED = -100
"""What torch takes for "learn nothing from this token"."""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learn the pieces of words. Only English is learned: other scripts stay bytes, several to a character."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=[END, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for text in texts if text.isascii()), trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=STOP,
        pad_token=END,
        chat_template=(HERE / "chat_template.jinja").read_text(encoding="utf-8"),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def render(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> str:
    """Return a conversation in the words of the template."""
    written: str = tokenizer.apply_chat_template(conversation.turns, tools=conversation.tools or None, tokenize=False)
    return written


def lesson(tokenizer: PreTrainedTokenizerFast, written: str) -> tuple[list[int], list[int]]:
    """Return tokens and what is to be learned from them: the answers, or all of a text without turns."""
    ids: list[int] = []
    labels: list[int] = []
    for piece, learned in _pieces(written):
        found = tokenizer(piece, add_special_tokens=False)["input_ids"]
        ids += found
        labels += found if learned else [IGNORED] * len(found)
    return ids, labels


def _pieces(written: str) -> Sequence[tuple[str, bool]]:
    pieces, at = [], 0
    for answer in ANSWER.finditer(written):
        pieces += [(written[at : answer.start()], False), (answer[0], True)]
        at = answer.end()
    return [*pieces, (written[at:], not pieces)] if at < len(written) else pieces
