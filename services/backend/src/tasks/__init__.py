"""What a task is, and how tasks are kept."""
