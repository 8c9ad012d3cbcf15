"""Mutation testing: small mistakes are put into the code one at a time, and some test must notice each.

mutmut makes the mistakes, but its runner is not used. It rewrites every function into a switch between all its mutants.
Our sources (checked slots, decoders made at import) and our tests (real servers as children of a session) do not
survive that. Here each mutant is one changed file in a copy of the repository. The tests that reach the changed line
run in a fork of a process that has imported all libraries, but none of our modules.
"""
