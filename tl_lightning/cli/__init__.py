"""The command line: words to a configuration, a verb to a job, errors to one line."""
