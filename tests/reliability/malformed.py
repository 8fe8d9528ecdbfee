"""Messages that are wrong in one way or two, made of a true one; and right ones in other forms."""

import copy
import dataclasses
import math
from dataclasses import dataclass, replace

import numpy as np
import torch

import splitlab as sl

STRANGE = (None, 7, "z", [1.0], {}, np.zeros(3, np.float32), torch.float32)
NUMBERS = {"NaN": math.nan, "inf": math.inf, "-inf": -math.inf, "1e30": 1e30, "-3e38": -3e38}
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64)
BASES = (sl.SmashedData, sl.Gradient, sl.ServerOutput, sl.OutputGradient, sl.Weights)


@dataclass
class Due:
    """What a receiver waits for.

    Attributes:
        message: The true message, as it arrives.
        answers: Whether it answers what the receiver sent, so that its step and rows are known.
        at_client: Whether a client waits for it.
        labeled: Whether the receiver needs labels or row numbers.
        trains: The optimizer that weights are loaded into, and None where they pass through.
        known: Whether names and shapes of weights are known to the receiver.
        counts: Whether weights must say how many images they come from.
    """

    message: sl.Message
    answers: bool = False
    at_client: bool = False
    labeled: bool = False
    trains: torch.optim.Optimizer | None = None
    known: bool = False
    counts: bool = False


def malformed(due, rng):
    """Return (what is wrong, the message) for a way of being wrong, or two, drawn by `rng`."""
    what, thrown = _once(due, rng)
    if rng.random() < 0.15 and isinstance(thrown, sl.Message):
        field, value = rng.choice([one for one in _headers(due) if hasattr(thrown, one[0])])
        what, thrown = f"{what}, and {field}={value!r}", replace(thrown, **{field: value})
    return what, thrown


def another_form(message, rng):
    """Return a message that says the same in another form, which must make no difference."""
    forms = [lambda m: m, lambda m: replace(m, to=""), _subclassed, _learned]
    return rng.choice(forms)(message)


def with_gaps(message):
    """Return the same numbers, in memory with gaps; a sum of them may round in another way."""

    def apart(tensor):
        if not tensor.dim():
            return tensor
        wide = tensor.new_zeros(2 * len(tensor), *tensor.shape[1:])
        wide[::2] = tensor
        return wide[::2]

    return _mapped(message, apart)


def _once(due, rng):
    ways = [_wrong_tensor] * 6 + [_wrong_header] * 4 + [_wrong_kind] * 2
    if isinstance(due.message, sl.Weights):
        ways = [_wrong_weights] * 7 + [_wrong_header] * 3 + [_wrong_kind] * 2
    elif isinstance(due.message, sl.SmashedData):
        ways += [_wrong_labels] * 4
    while (found := rng.choice(ways)(due, rng)) is None:
        pass
    return found


def _wrong_header(due, rng):
    field, value = rng.choice(list(_headers(due)))
    return f"{field}={value!r}", replace(due.message, **{field: value})


def _headers(due):
    """(field, value) of headers that cannot be right."""
    step = due.message.step
    for value in (-1, -1000, step + 0.5, float(step), None, str(step), math.nan, [step], True):
        yield "step", value
    if due.answers:
        yield from (("step", value) for value in (step + 1, step + 1000, 2**70))
        if isinstance(due.message, sl.OutputGradient):
            yield "sender", "somebody else"
        else:  # of an earlier step a server may still keep the answer
            yield "step", step - 1
    for value in ("", None, 7, b"client", ("client",)):
        yield "sender", value
    for value in ("somebody else", None, 7, due.message.sender):
        yield "to", value
    if isinstance(due.message, sl.SmashedData):
        for value in ("", None, "gradients", 7, ["gradient"]):
            yield "asks", value


def _wrong_kind(due, rng):
    """Another kind of message, or none at all."""
    message = due.message
    tensor = next(message.tensors())
    about = {"sender": message.sender, "step": message.step, "to": message.to}
    kinds = [
        sl.SmashedData(z=tensor, labels=torch.zeros(len(tensor), dtype=torch.int64), **about),
        sl.Gradient(dz=tensor, **about),
        sl.ServerOutput(a=tensor, **about),
        sl.OutputGradient(da=tensor, **about),
        sl.Message(**about),
        *(None, 7, "message", tensor, [message], {"z": tensor}, type(message), object()),
        {field.name: getattr(message, field.name) for field in dataclasses.fields(message)},
    ]
    if due.at_client:  # a server hands them on
        kinds.append(sl.Weights(state={"0.weight": tensor}, samples=3, **about))
    thrown = rng.choice([kind for kind in kinds if type(kind) is not type(message)])
    return f"{type(thrown).__name__} for {type(message).__name__}", thrown


def _wrong_tensor(due, rng):
    """The payload with a number, a type or a shape that cannot be right."""
    (field,) = {"z", "dz", "a", "da"} & {f.name for f in dataclasses.fields(due.message)}
    value = getattr(due.message, field)
    rows = due.answers or getattr(due.message, "labels", None) is not None
    rows = rows or getattr(due.message, "index", None) is not None
    what, wrong = rng.choice([_wrong_number, _wrong_type, _wrong_shape])(value, rng, rows)
    return f"{field} {what}", replace(due.message, **{field: wrong})


def _wrong_number(value, rng, rows=True, numbers=tuple(NUMBERS)):
    name = rng.choice(numbers)
    number = NUMBERS[name]
    wrong = value.clone()
    if rng.random() < 0.5:
        return f"all {name}", wrong.fill_(number)
    wrong.view(-1)[rng.randrange(wrong.numel())] = number
    return f"with {name}", wrong


def _not_finite(value, rng):
    """A square, as an optimizer keeps them, may be large."""
    return _wrong_number(value, rng, numbers=("NaN", "inf", "-inf"))


def _wrong_type(value, rng, rows=True):
    strange = [
        *STRANGE,
        value.numpy(),
        value.tolist(),
        [value],
        value.to_sparse(),
        value.to_mkldnn(),
        value.to("meta"),
    ]
    if rng.random() < 0.6:
        dtype = rng.choice(DTYPES)
        return f"as {dtype}", value.to(dtype)
    wrong = rng.choice(strange)
    return f"as {type(wrong).__name__} {getattr(wrong, 'layout', '')}", wrong


def _wrong_shape(value, rng, rows=True):
    shape, value = value.shape, torch.atleast_2d(value)
    shapes = [
        value[:0],
        value[:, :-1],
        torch.cat([value, value[:, :1]], 1),
        value.flatten(),
        value.unsqueeze(1),
        value.unsqueeze(0),
        value.unsqueeze(-1),
        value.sum(),
        value[0],
        value[:, :0],
        value.transpose(0, 1),
        value.new_zeros(len(value)),
    ]
    if rows:
        shapes += [value[:-1], value[:1], torch.cat([value, value[:1]])]
    if value.dim() == 4:
        shapes += [value.flatten(1), value[..., :-1], value.repeat(1, 1, 2, 2), value.movedim(1, 3)]
    wrong = rng.choice([one for one in shapes if one.shape != shape])
    return f"of {tuple(wrong.shape)}", wrong


def _wrong_labels(due, rng):
    """Labels or row numbers that cannot be right, or are missing."""
    message = due.message
    field = "labels" if message.labels is not None else "index"
    value = getattr(message, field)
    if value is None:
        return None
    numbers = value.clone()
    n = rng.randrange(len(value))
    changed = {number: numbers.clone().index_fill_(0, torch.tensor(n), number) for number in _FAR}
    wrong = {
        "as floats": value.float(),
        "as NaN": value.float() * math.nan,
        "as int32": value.int(),
        "as bool": value.bool(),
        "as a list": value.tolist(),
        "as numpy": value.numpy(),
        "a number": 3,
        "a column": value[:, None],
        "a scalar": value[0],
        "one less": value[:-1],
        "one more": torch.cat([value, value[:1]]),
        "empty": value[:0],
        "sparse": value.to_sparse(),
        "meta": value.to("meta"),
        "one-hot": torch.nn.functional.one_hot(value, int(value.max()) + 1),
    }
    if due.labeled:
        wrong |= {"missing": None} | {f"with {number}": one for number, one in changed.items()}
    what = rng.choice(list(wrong))
    return f"{field} {what}", replace(message, **{field: wrong[what]})


_FAR = (-1, -100, 10_000, 2**40, -(2**60))


def _wrong_weights(due, rng):
    """Weights, a number of images or an optimizer's state that cannot be right."""
    ways = [_wrong_state] * 4 + [_wrong_samples]
    if due.trains is not None:
        ways += [_wrong_optimizer] * 3
    return rng.choice(ways)(due, rng)


def _wrong_state(due, rng):
    state = dict(due.message.state)
    floats = [name for name, value in state.items() if value.is_floating_point()]
    name = rng.choice(floats)
    kinds = ["number", "container"] + ["names", "tensor"] * 2 * due.known
    kind = rng.choice(kinds)
    if kind == "container":
        wrong = rng.choice([None, [*state], list(state.values()), state[name], 7, "state"])
        return f"state as {type(wrong).__name__}", replace(due.message, state=wrong)
    if kind == "number":
        what, state[name] = _wrong_number(state[name], rng)
    elif kind == "tensor":
        what, state[name] = rng.choice([_wrong_type, _wrong_shape])(state[name], rng)
    else:
        what = rng.choice(["missing", "renamed", "with one more", "empty", "of numbers"])
        if what in ("missing", "renamed"):
            value = state.pop(name)
        if what in ("renamed", "with one more"):
            state["another"] = value if what == "renamed" else torch.zeros(3)
        if what in ("empty", "of numbers"):
            state = {} if what == "empty" else dict(enumerate(state.values()))
    return f"state, {name} {what}", replace(due.message, state=state)


def _wrong_samples(due, rng):
    numbers = [0, -1, 2.5, "8", math.nan, math.inf, True, [8]] + [None] * due.counts
    samples = rng.choice(numbers)
    return f"samples={samples!r}", replace(due.message, samples=samples)


def _wrong_optimizer(due, rng):
    """The state of an optimizer of other settings, other weights, or with a NaN."""
    if due.message.optimizer is None:
        return None
    state = copy.deepcopy(due.message.optimizer)
    weights = [weight for group in due.trains.param_groups for weight in group["params"]]
    group, learned = state["param_groups"][0], state["state"]
    another = torch.optim.SGD if "betas" in group else torch.optim.Adam
    what = rng.choice(["another's", "fewer", "rate", "strange", "a part less", "tensor"])
    if what == "another's":
        state = another(weights, lr=0.1).state_dict()
    elif what == "fewer":
        group["params"] = group["params"][:-1]
    elif what == "rate":
        group["lr"] = rng.choice([math.nan, -1.0, None, "fast", math.inf, [0.1]])
    elif what == "strange":
        state = rng.choice([7, [], "state", {}, {"state": {}}, torch.zeros(3), (state,)])
    elif what == "a part less":
        del state[rng.choice(["state", "param_groups"])]
    elif not learned:
        return None
    else:
        part = rng.choice(list(learned))
        name = rng.choice([k for k, v in learned[part].items() if torch.is_tensor(v) and v.dim()])
        change = rng.choice([_not_finite, _wrong_shape])
        changed, learned[part][name] = change(learned[part][name], rng)
        what = f"{name} {changed}"
    return f"optimizer {what}", replace(due.message, optimizer=state)


def _subclassed(message):
    """A message of a class that was derived from its kind."""
    kind = type(message)
    derived = dataclass(frozen=True, slots=True, eq=False, kw_only=True)(
        type(kind.__name__, (kind,), {})
    )
    return derived(**{f.name: getattr(message, f.name) for f in dataclasses.fields(message)})


def _learned(message):
    """The same numbers, of tensors that take gradients."""
    return _mapped(message, lambda t: t.detach().requires_grad_(t.is_floating_point()))


def _mapped(message, function):
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    for name, value in fields.items():
        if isinstance(value, torch.Tensor):
            fields[name] = function(value)
        elif name == "state":
            fields[name] = {key: function(tensor) for key, tensor in value.items()}
    return type(message)(**fields)
