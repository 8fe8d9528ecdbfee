"""Edits of a saved state: every node of it deleted, or replaced by what does not belong there."""

import torch


def nodes(state, path=()):
    """Yield the path to each part of a nested state, from the outside in."""
    for key, item in state.items() if isinstance(state, dict) else enumerate(state):
        yield (*path, key)
        if isinstance(item, dict | list | tuple):
            yield from nodes(item, (*path, key))


def at(state, path):
    """Return the part at a path."""
    for key in path:
        state = state[key]
    return state


DELETED = object()


def edited(state, path, value):
    """Return the state with another value at a path, the rest shared; `DELETED` takes it away."""
    key, *rest = path
    value = edited(state[key], rest, value) if rest else value
    if isinstance(state, dict):
        return {
            k: value if k == key else v for k, v in state.items() if (k, value) != (key, DELETED)
        }
    items = [value if n == key else item for n, item in enumerate(state)]
    return type(state)(item for item in items if item is not DELETED)


def edits(value):
    """Yield (name, replacement) for a part: all of another kind, type, shape or number of parts."""
    yield "deleted", DELETED
    for name, other in {"None": None, "text": "abc", "list": [0], "dict": {"a": 1}}.items():
        if type(other) is not type(value):
            yield name, other
    if isinstance(value, torch.Tensor):
        yield "another shape", torch.cat([value.reshape(-1), value.reshape(-1), value.new_ones(3)])
        yield "another type", value.double() if value.dtype != torch.float64 else value.float()
        yield "a number", 0
    elif isinstance(value, bool | int | float):
        yield "a tensor", torch.zeros(3)
        yield "a half", value + 0.5 if not isinstance(value, float) else int(value) + 1
    elif isinstance(value, dict):
        yield "one more", value | {"an extra key": 1}
    elif isinstance(value, list | tuple):
        yield "one more", type(value)([*value, None])
        yield "the other kind", (tuple if isinstance(value, list) else list)(value)
