"""How orders are fulfilled: plans of tasks, their undoing, and the systems that carry them out."""
