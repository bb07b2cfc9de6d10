"""Events that may kill the process that runs them: known by what was in flight, run in processes of their own."""
