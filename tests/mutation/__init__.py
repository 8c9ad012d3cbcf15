"""Mutation testing: small mistakes put into the code one at a time, each of which some test must notice.

The mistakes are mutmut's. Its runner is not used: it rewrites every function into a switch between all its mutants and
forks a pytest that is loaded already, which our sources (checked slots, decoders made at import) and our tests (real
servers as children of a session) do not survive. Here each mutant is one changed file in a copy of the repository, and
a pytest of its own runs the tests that reach the changed line.
"""
