"""`python -m stack`: boosters on the network's residual, and the verdict."""

from stack.cli import stack_command

if __name__ == "__main__":
    stack_command()
