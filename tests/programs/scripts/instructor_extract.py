"""Instructor: single calls, and its batches."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import instructor
from instructor.batch import BatchProcessor, extract_results
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


MODEL = "anthropic/claude-haiku-4-5"
QUESTION = [{"role": "user", "content": "Ada is 36 years old."}]

client = instructor.from_provider(MODEL, max_tokens=256)
assert isinstance(client.create(response_model=Person, messages=QUESTION, max_tokens=256), Person)
print("ok: create")

with tempfile.TemporaryDirectory() as folder:
    file = str(Path(folder) / "requests.jsonl")
    processor = BatchProcessor(MODEL, Person)
    processor.create_batch_from_messages(file_path=file, messages_list=[QUESTION] * 3, max_tokens=256)
    batch_id = processor.submit_batch(file)
    while processor.get_batch_status(batch_id)["status"] != "ended":
        time.sleep(0.2)
    results = processor.retrieve_results(batch_id)
    assert len(extract_results(results)) == 3, results
print("ok: batches")
