"""Checks of the exercises to chapter 11, Split learning from scratch."""

from splitlab.course.checks.split_learning_from_scratch.client_turn import client_turn
from splitlab.course.checks.split_learning_from_scratch.deliver import deliver
from splitlab.course.checks.split_learning_from_scratch.joint_turn import joint_turn
from splitlab.course.checks.split_learning_from_scratch.server_turn import server_turn
from splitlab.course.checks.split_learning_from_scratch.squeeze import squeeze

__all__ = ["client_turn", "deliver", "joint_turn", "server_turn", "squeeze"]
