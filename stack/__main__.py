"""`python -m stack`: boosters on the residual, and the verdict."""

from stack.cli import stack_command

if __name__ == "__main__":
    stack_command()
