"""The command line, a file for each group of commands; what is heavy is imported by the command that needs it."""
