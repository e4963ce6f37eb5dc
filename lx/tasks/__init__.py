"""What a net is trained to do: one file a task, each following :class:`lx.tasks.base.Task`."""
