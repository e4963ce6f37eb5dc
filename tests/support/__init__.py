"""Helpers of the tests, a file a topic.

`corpus` writes a tiny corpus, and `tiny_run` trains on it in this process. `commands` starts lx as a user does,
`forked` does the same without the seconds of imports, `ranks` works with several processes of one run. `run_files`
reads run directories, `waiting` waits for conditions, `process_table` finds the processes of a run. `sweeps` does the
same for sweeps.

What several files of tests of one topic share: `bad_input` (commands that are refused), `hostile` (runs from a
stranger), `interruptions` and `faults` (runs that are broken off), `counting` (a module whose losses count),
`optimizers`, `fake_cuda`, `postgres`. `slow` is a user's own model.
"""
