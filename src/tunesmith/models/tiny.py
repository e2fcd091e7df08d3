"""Tiny random models: small enough to tune in seconds, shaped like the large ones, with nothing to download.

They know nothing, so their answers mean nothing; but a recipe that runs through with one runs through with a real
one, and tests that use one need neither network nor patience.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import UsageError

HEAD = 16  # width of an attention head; two of them share one pair of key and value
CONTEXT = 1024  # tokens

# One turn per line block, each between a start and an end token, as chat models in the ChatML manner expect it.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""


def write_tiny(  # noqa: PLR0913 what it takes to say which model, and no two of them belong together
    folder: Path,
    *,
    kind: Literal["causal", "seq2seq"],
    texts: Sequence[str],
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    vocabulary: int = 512,
) -> Path:
    """Write a small random model and a tokenizer trained on ``texts`` into ``folder``; the same seed, the same bytes.

    Args:
        folder: Where config, weights and tokenizer go; made if it is not there.
        kind: "causal": Llama with grouped-query attention, tied embeddings and a chat template. "seq2seq": T5 in
            its version 1.1, with gated GELU and an output head of its own.
        texts: What the byte-level BPE tokenizer learns its merges from; every text can be encoded afterwards.
        seed: Of the weights.
        hidden: Width of the model; a multiple of 32.
        layers: Of the decoder, and of the encoder where there is one.
        vocabulary: Highest number of tokens; at least 260 (256 bytes and the special tokens).

    Returns:
        The folder.

    Raises:
        UsageError: The width or the vocabulary is not possible.
    """
    problems = []
    if hidden < 2 * HEAD or hidden % (2 * HEAD):
        problems.append(f"hidden is {hidden}; give a multiple of {2 * HEAD}, such as 64.")
    if vocabulary < 260:
        problems.append(f"vocabulary is {vocabulary}; give at least 260: 256 bytes and the special tokens.")
    if layers < 1:
        problems.append(f"layers is {layers}; give at least 1.")
    if problems:
        raise UsageError(problems)
    import torch

    tokenizer = _tokenizer(kind, texts, vocabulary)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        make = _llama if kind == "causal" else _t5
        model = make(tokenizer, hidden=hidden, layers=layers)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(kind: str, texts: Sequence[str], vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<|im_start|>", "<|im_end|>"] if kind == "causal" else ["<pad>", "</s>", "<unk>"]
    bare = Tokenizer(BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    if kind == "causal":
        names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<pad>"}
    else:
        names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        bare.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, clean_up_tokenization_spaces=False, **names)
    if kind == "causal":
        tokenizer.chat_template = CHAT_TEMPLATE
        tokenizer.model_max_length = CONTEXT
    return tokenizer


def _llama(tokenizer: Any, *, hidden: int, layers: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = hidden // HEAD
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        initializer_range=hidden**-0.5,  # the usual 0.02 is made for wide models; here it would hide every difference
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _t5(tokenizer: Any, *, hidden: int, layers: int) -> Any:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=hidden,
        d_kv=HEAD,
        d_ff=2 * hidden,
        num_layers=layers,
        num_heads=hidden // HEAD,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    model = T5ForConditionalGeneration(config)
    # transformers would share it with the embedding; a head of its own stays so, because both are saved.
    model.lm_head.weight = torch.nn.Parameter(torch.randn(len(tokenizer), hidden) * hidden**-0.5)
    return model
