"""The network lab: the networks of users, made of namespaces on one machine, with real engines in them.

`warren netlab` runs it, so that an operator can reproduce a network; `tests/netlab` asserts what it finds.
"""
