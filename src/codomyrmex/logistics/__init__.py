"""The work of a project: storage, tasks, schedules, orchestration. Import the package you need."""
