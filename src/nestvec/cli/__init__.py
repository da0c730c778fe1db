"""The command line: one file a command, each of which parses, calls one job or function, and prints."""
