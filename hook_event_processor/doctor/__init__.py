"""`hep doctor`: looks at everything that can be wrong, says what it means, and mends what is safe to mend."""
