"""The command `seatkeeper`: one module for each group of verbs. It reads the line and prints; the SDK does the work."""
