"""What the Makefile's verbs run: only the standard library, since they make the environment that holds the rest."""
