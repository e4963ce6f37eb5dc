"""The run directory, which launchers make and training fills, and what it takes to resume a run.

Read `directory` first (the files, and how they are read without trusting them) and `result`, then `checkpoint` (intact
or refused), `lock` (one process at a time) and `resume_config` (which settings may change when a run goes on).
"""
