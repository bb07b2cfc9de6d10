"""The workshop: what hook authors write, check and try hooks with, away from any processor."""
