"""The commands of the command line, a file for each kind of work. Heavy imports wait inside the functions."""
