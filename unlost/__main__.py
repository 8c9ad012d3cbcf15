"""``python -m unlost`` is the command ``unlost``."""

from unlost.ops.start import main

if __name__ == "__main__":
    main()
