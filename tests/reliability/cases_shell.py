"""What the shell and the doctor are asked wrongly from Python."""

from misuse import Misuse

import splitlab as sl
from splitlab.course.doctor import doctor
from splitlab.course.options import chosen

CASES = [
    Misuse(
        "the doctor is given a setting",
        lambda given: doctor(sl.tiny),
        ValueError,
        ("there is no profile a Setting", "choose one of tiny, gpu, paper", "by its name"),
    ),
    Misuse(
        "the doctor is given a list",
        lambda given: doctor(["tiny"]),
        ValueError,
        ("there is no profile a list", "choose one of tiny, gpu, paper"),
    ),
    Misuse(
        "a chapter without claims is verified",
        lambda given: sl.claims.verify(99),
        sl.claims.ClaimError,
        ("chapter 99 has no claims", "choose one of"),
    ),
    Misuse(
        "a device is misspelled",
        lambda given: chosen("cuda:first", "tiny"),
        ValueError,
        ("there is no device 'cuda:first'", "choose auto, cpu, cuda or cuda:N"),
    ),
    Misuse(
        "a device has a number that the machine lacks",
        lambda given: chosen("cpu:7", "tiny"),
        ValueError,
        ("--device cpu:7", "no such device", "leave out the number"),
    ),
]
