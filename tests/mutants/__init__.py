"""Would the tests notice? `make mutants` breaks the source one line at a time."""
