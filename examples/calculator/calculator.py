"""A calculator for two numbers.

python3 calculator.py 7 + 2
"""

import sys


def add(a, b):
    return a + b


def subtract(a, b):
    return a - b


def multiply(a, b):
    return a * b


def divide(a, b):
    if b == 0:
        raise ValueError("cannot divide by zero")
    return a // b


OPERATIONS = {"+": add, "-": subtract, "x": multiply, "/": divide}


def calculate(left, operator, right):
    """The result of, for example, `calculate("7", "+", "2")`."""
    if operator not in OPERATIONS:
        raise ValueError(f"unknown operator {operator!r}; use one of {' '.join(OPERATIONS)}")
    return OPERATIONS[operator](float(left), float(right))


def main(words):
    if len(words) != 3:
        return "usage: python3 calculator.py 7 + 2"
    try:
        print(f"{calculate(*words):g}")
    except ValueError as error:
        return f"calculator: {error}"
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
