"""LangChain through the gateway, of which the environment alone tells: nothing here knows of Carpool.

source .carpool/env      # of a `carpool up`
pip install langchain-anthropic
python docs/examples/langchain_script.py
"""

from __future__ import annotations

from langchain_anthropic import ChatAnthropic
from pydantic import BaseModel


class Verdict(BaseModel):
    """What a review says."""

    sentiment: str
    reason: str


REVIEWS = ["I love it.", "It broke after a day, terrible.", "It is a kettle."]

model = ChatAnthropic(model="claude-haiku-4-5", max_tokens=256)

for answer in model.batch([f"Is this review positive, negative or neutral? {review}" for review in REVIEWS]):
    print(answer.content)

print(model.with_structured_output(Verdict).invoke(f"Judge this review: {REVIEWS[0]}"))
