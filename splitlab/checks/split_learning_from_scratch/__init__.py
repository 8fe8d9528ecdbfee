"""Checks of the exercises to chapter 01, Split learning from scratch."""

from splitlab.checks.split_learning_from_scratch.clinic import client_turn
from splitlab.checks.split_learning_from_scratch.cloud import joint_turn, server_turn
from splitlab.checks.split_learning_from_scratch.squeezing import squeeze
from splitlab.checks.split_learning_from_scratch.wire import deliver

__all__ = ["client_turn", "deliver", "joint_turn", "server_turn", "squeeze"]
