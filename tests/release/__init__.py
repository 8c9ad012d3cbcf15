"""Whether what is built can be installed and used by somebody who has nothing else: ``make release``."""
