"""How the zoo is made: a program that runs from a checkout. `python -m train --help` tells more."""
