"""Every theorem seen to hold: claims with error bars, one file a theorem.

A file here that does not begin with an underscore states one theorem and has one function,
`check(size)`, which returns a `Report`. `python -m validation` finds the files by name.
"""
