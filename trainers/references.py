"""What a record's answer is held against: its last message, in the words that a model would have to write.

Guarantees: a message that says something and calls nothing is its content; of one that calls tools it is what the chat
template makes of it, without special tokens, as answers are read.

Example:
    >>> reference_of(tokenizer, record)
    '<tool_call>\\n{"name": "book", "arguments": {"day": "Monday"}}\\n</tool_call>'
"""

from __future__ import annotations

from typing import Any

from trainers.encoding import as_tokens, prompt_text, render
from trainers.shards import Record


def reference_of(tokenizer: Any, record: Record) -> str:
    """The reference of one record.

    Raises:
        TrainerError: as ``trainers.encoding.render``.
    """
    if "tool_calls" not in record.messages[-1].extra:
        return record.messages[-1].content
    whole = render(tokenizer, record.messages, is_prompt=False, tools=record.tools)
    (tokens,) = as_tokens(tokenizer, [whole.removeprefix(prompt_text(tokenizer, record))])
    return str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()
