"""The desktop: the controller's brain with processes and folders for hands.

`loop.drive` runs observe -> decide -> apply until a job ends. Nothing here imports torch: a stage is
always a child process.
"""
