"""Repeated messages get the same answer, which a transport that can lose messages needs."""

from __future__ import annotations

import dataclasses
from typing import Any

from splitlab.core import validate
from splitlab.core.messages import KINDS, Message, OutputGradient, SmashedData, Weights


def answer_once(server: Any, message: Message) -> Message:
    """Answer a message, or repeat its earlier answer; errors as in `Server.handle`."""
    validate.header(message, server)
    key, never = f"{message.sender}: {type(message).__name__}", {"step": -1}
    kept, over = server.answered, -1
    if getattr(message, "asks", "") == "output":  # not saved: the graph would be missing
        kept = server.outputs
        over = server.answered.get(f"{message.sender}: OutputGradient", never)["step"]
    last = max(kept.get(key, never)["step"], over)
    if message.step > last:
        answer = _answer(server, message).delivered(to=message.sender)
        kept[key] = {"step": message.step, "kind": type(answer).__name__} | {
            "fields": {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer)}
        }
    elif message.step < last or key not in kept:
        raise ValueError(
            f"{server.name} has answered step {last} of {message.sender} and keeps no earlier "
            f"answer: send the next step, not step {message.step}"
        )
    return KINDS[kept[key]["kind"]](**kept[key]["fields"]).delivered()


def _answer(server: Any, message: Message) -> Any:
    if isinstance(message, SmashedData):
        return server.forward(message) if message.asks == "output" else server.reply(message)
    if isinstance(message, OutputGradient):
        return server.backward(message)
    if isinstance(message, Weights):
        return server.relay(message)
    raise TypeError(
        f"{server.name} has no answer to {type(message).__name__}: send SmashedData, "
        "OutputGradient or Weights"
    )
