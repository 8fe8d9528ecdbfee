"""A seeded fuzz: at each message that a party waits for, wrong ones are thrown at it first.

A wrong message must be answered by a sentence of this library, and change nothing. The true one is
then accepted, in whatever form it comes; and the run must end as one at which nothing was thrown.
"""

import copy
import dis
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from malformed import Due, another_form, malformed, with_gaps
from snapshots import differences, not_finite, snapshot

import splitlab as sl

LIBRARY = Path(sl.__file__).parent
RAISED = (TypeError, ValueError, RuntimeError, NotImplementedError)
LONGEST = 400  # characters of a sentence
STEPS, WRONG = 11, (2, 3)  # steps of each client; wrong messages before each true one
SIZES = (8, 8, 16, 5)  # of the batches, in turn: an attack's own have 8 rows


@dataclass
class Parties:
    """Who takes part in a run.

    Attributes:
        clients: They take their steps in turn, and hand on their weights.
        server: Their server.
        u_shaped: Whether the clients have tails.
        aggregator: Averages the clients' weights after each round, where there is one; else they
            pass through the server.
    """

    clients: list[sl.Client]
    server: sl.Server
    u_shaped: bool = False
    aggregator: sl.Aggregator | None = None

    def __iter__(self):
        yield from [*self.clients, self.server]
        if self.aggregator is not None:
            yield self.aggregator


class Fault(AssertionError):
    """A party did not do with a message what it must."""


class Run:
    """One run, with or without wrong messages.

    Args:
        parties: Made for this run alone.
        seed: Of what is thrown, and of the way by which messages arrive.
        fuzzed: Whether anything is thrown.
        labeled: Whether the server needs labels, so that these must be right.

    Attributes:
        thrown: How many messages were thrown: "wrong", "true" and "again".
        answers: Copies of all answers to true messages.
    """

    def __init__(self, parties, seed, *, fuzzed=True, labeled=False):
        self.parties, self.fuzzed, self.labeled = parties, fuzzed, labeled
        self.random, self.route = random.Random(f"{seed}: thrown"), random.Random(f"{seed}: route")
        self.thrown, self.answers = Counter(), []
        self.handled = {}

    def take(self, steps=STEPS):
        """Take some steps of each client; return itself."""
        for step in range(steps):
            for client in self.parties.clients:
                client.sampler.batch_size = SIZES[step % len(SIZES)]
                self._step(client)
            self._hand_on()
            if bad := not_finite(snapshot(*self.parties)):
                raise Fault(f"not finite after a round: {bad[:5]}")
        return self

    def _step(self, client):
        server, smashed = self.parties.server, client.forward()
        if self.parties.u_shaped:
            output = self.send(server, "forward", smashed)
            da = self.send(client, "finish", output)
            gradient = self.send(server, "backward", da)
        else:
            gradient = self.send(server, "reply", smashed)
        self.send(client, "backward", gradient)

    def _hand_on(self):
        clients, server, third = self.parties.clients, self.parties.server, self.parties.aggregator
        if third is None:
            weights = self.send(server, "relay", clients[-1].weights())
        else:
            for client in clients:
                self.send(third, "collect", client.weights(optimizer=False))
            weights = third.aggregate()
            server.end_round()
        for client in clients:
            self.send(client, "load", weights)

    def send(self, receiver, method, message):
        """Deliver a true message, after some wrong ones; return a copy of the answer."""
        message = message.delivered(to=receiver.name)
        if self.route.random() < 0.2:
            message = with_gaps(message)
        handled = isinstance(receiver, sl.Server) and self.route.random() < 0.6
        call = receiver.handle if handled else getattr(receiver, method)
        if self.fuzzed:
            self._throw_wrong(receiver, method, call, message)
        answer = self._accepted(receiver, call, message)
        if self.fuzzed:
            self._throw_again(receiver, method, call, message, answer)
        if answer is not None:
            self.answers.append(copy.deepcopy([*answer.tensors()]))
        return answer

    def _throw_wrong(self, receiver, method, call, message):
        """Throw wrong messages in place of a true one that is due."""
        before, due = snapshot(receiver), self._due(receiver, method, message)
        direct = getattr(receiver, method)
        for _ in range(self.random.randint(*WRONG)):
            what, wrong = malformed(due, self.random)
            self._refused(receiver, self.random.choice([call, direct]), wrong, what, before)
        if isinstance(message, sl.SmashedData) and self.random.random() < 0.3:
            asks = "gradient" if message.asks == "output" else "output"
            wrong = replace(message, asks=asks)
            self._refused(receiver, direct, wrong, f"asks for {asks}", before)

    def _throw_again(self, receiver, method, call, message, answer):
        """Deliver a message again that was accepted; before it, a late copy of an earlier one."""
        before = snapshot(receiver)
        if call == getattr(receiver, "handle", None):
            if late := self.handled.get((method, message.sender)):
                self._refused(receiver, call, late, "a late copy", before)
            self.handled[method, message.sender] = message
        elif method in ("finish", "backward", "collect"):
            self._refused(receiver, call, message, "the true one again", before)
            return
        elif method != "load":  # without `handle`, a server takes it for another one
            return
        self.thrown["again"] += 1
        again = call(another_form(message, self.random))
        about = f"{type(message).__name__} again, to {type(receiver).__name__}.{call.__name__}"
        if changed := differences(before, snapshot(receiver)):
            raise Fault(f"{about}: it changed {', '.join(changed[:5])}")
        if answer is not None and differences(snapshot(answer), snapshot(again)):
            raise Fault(f"{about}: another answer")

    def _due(self, receiver, method, message):
        collected = getattr(receiver, "received", [])
        return Due(
            message,
            answers=method in ("finish", "backward"),
            at_client=isinstance(receiver, sl.Client),
            labeled=self.labeled,
            trains=receiver.optimizer if method == "load" else None,
            known=method == "load" or (method == "collect" and len(collected) > 0),
            counts=method == "collect",
        )

    def _refused(self, receiver, call, message, what, before):
        """Throw a message that must be refused with a sentence, and must change nothing."""
        self.thrown["wrong"] += 1
        about = f"{what}, to {type(receiver).__name__}.{call.__name__} in step {_step(receiver)}"
        try:
            call(message)
        except Exception as error:
            fault = fault_of(error)
        else:
            fault = "it was accepted"
        if fault:
            raise Fault(f"{about}: {fault}")
        if changed := differences(before, snapshot(receiver)):
            raise Fault(f"{about}: refused, and it changed {', '.join(changed[:5])}")

    def _accepted(self, receiver, call, message):
        """Deliver the true message, in another form where this run is fuzzed."""
        self.thrown["true"] += 1
        form = another_form(message, self.random) if self.fuzzed else message
        try:
            answer = call(form)
        except Exception as error:
            where = f"{type(receiver).__name__}.{call.__name__} in step {_step(receiver)}"
            raise Fault(f"the true message, to {where}: {error!r}") from error
        return None if answer is None else answer.delivered()


def fuzz(make, seed, steps=STEPS):
    """Fuzz one run, and compare it with one that was not; return how many messages were thrown.

    Args:
        make: Makes the `Parties`, the same every time.
        seed: A text.
        steps: Of each client.

    Raises:
        Fault: If a party does not do with a message what it must.
    """
    fuzzed = Run(make(), seed, labeled=_needs_labels(make())).take(steps)
    twin = Run(make(), seed, fuzzed=False).take(steps)
    if changed := differences(snapshot(twin.answers), snapshot(fuzzed.answers)):
        raise Fault(f"other answers than without the wrong messages: {changed[:5]}")
    if changed := differences(snapshot(*twin.parties), snapshot(*fuzzed.parties)):
        raise Fault(f"ends otherwise than without the wrong messages: {changed[:5]}")
    return fuzzed.thrown


def fault_of(error):
    """Say what is wrong with an answer to a wrong message; None for a sentence of the library.

    An error is the library's own if a `raise` in one of its files raised it. All others come from
    torch, or from Python, and say what failed there and not what was wrong with the message.
    """
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code, text = last.tb_frame.f_code, str(error)
    shown = f"{type(error).__name__}: {text} ({code.co_filename}:{last.tb_lineno})"
    if not isinstance(error, RAISED) or isinstance(error, sl.HijackingDetected):
        return f"raw {shown}"
    if dis.opname[code.co_code[last.tb_lasti]] != "RAISE_VARARGS":
        return f"raw {shown}"
    if not Path(code.co_filename).is_relative_to(LIBRARY):
        return f"raw {shown}"
    if "\n" in text or ": " not in text or len(text) >= LONGEST:
        return f"no sentence: {shown}"
    return None


def _needs_labels(parties):
    """Whether the server answers nothing without labels, so that these must be right."""
    server, message = parties.server, parties.clients[0].forward()
    message = message.delivered(to=server.name)
    if message.asks == "output":
        return False
    try:
        server.reply(replace(message, labels=None, index=None))
    except RAISED:
        return True
    return False


def _step(receiver):
    return getattr(receiver, "step", "?")
