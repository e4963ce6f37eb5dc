"""Start the processes of a run: one worker, several ranks under torchrun's launcher, or a job of a Slurm cluster.

Read `local` first: `launch`, `resume` and `start` are where every command enters. `command` says which program trains,
`torchrun` starts ranks on one machine, `slurm` submits and follows a job, and `slurm_node` runs on its nodes. A sweep
forks its runs from `forkserver`, or watches their jobs by `slurm_queue`.
"""
