"""``python -m lamina.examples``: say which examples there are."""

import lamina.examples

if __name__ == "__main__":
    print(lamina.examples.__doc__)
