"""What an operator's examination asks the database: only reading, each statement quick on a table of any size."""
