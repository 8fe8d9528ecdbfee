"""The list of tests that every attack and every defense passes, yours included.

The pytest plugin `splitlab_pytest` runs it on a class outside this package:

    pytest --splitlab-attack my_module:MyAttack --splitlab-defense my_module:MyDefense

What a class needs is described in `splitlab.Server`, `splitlab.Client` and `splitlab.Defense`; most
of all a classmethod `conformance_example(private, public)` that makes a small one.
"""
