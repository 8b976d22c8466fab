import unittest

from calculator import add, calculate, divide, multiply, subtract


class CalculatorTest(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    def test_subtract(self):
        self.assertEqual(subtract(2, 3), -1)

    def test_multiply(self):
        self.assertEqual(multiply(4, 2.5), 10)

    def test_divide_keeps_the_fraction(self):
        self.assertEqual(divide(7, 2), 3.5)

    def test_divide_by_zero_is_refused(self):
        with self.assertRaises(ValueError):
            divide(1, 0)

    def test_calculate_reads_words(self):
        self.assertEqual(calculate("7", "+", "2"), 9)

    def test_calculate_names_the_operators_it_knows(self):
        with self.assertRaisesRegex(ValueError, "use one of"):
            calculate("7", "%", "2")


if __name__ == "__main__":
    unittest.main()
