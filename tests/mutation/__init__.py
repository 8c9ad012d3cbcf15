"""Mutation testing: small mistakes put into the code one at a time, each of which some test must notice.

The mistakes are mutmut's. Its runner is not used: it rewrites every function into a switch between all its mutants,
which our sources (checked slots, decoders made at import) and our tests (real servers as children of a session) do not
survive. Here each mutant is one changed file in a copy of the repository, and the tests that reach the changed line run
in a fork of a process that has imported all libraries, but nothing of ours.
"""
