"""The `admin` command, one file for each noun. It reads the command line and prints; the use cases do the work."""
