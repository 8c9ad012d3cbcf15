"""Editing the events of letters: a patch or a function, the versions that it makes, and the run over many letters."""
