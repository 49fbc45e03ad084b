"""Settings of nbgrader for this course. `make notebooks` and `nbgrader generate_assignment NN_topic` both read them.

A chapter's folder is an assignment: its notebook with solutions lies in `solutions`, the students' version in `notebooks`.
"""

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.py", "*.pyc"]    # the scripts hold the solutions

# What students find in place of a solution. The text is what Python says when an unsolved function is called.
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("replace this line with your answer")',
}

# `nbgrader generate_assignment` writes over the version that is there, as `make notebooks` does.
c.GenerateAssignment.force = True

# A check compiles its kernels when it first runs, and nbgrader's 30 seconds per cell are short for that.
c.Execute.timeout = 600
