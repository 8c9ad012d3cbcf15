"""Foreign feeds: a profile or a Python class decides what each message becomes. Only this package knows them."""
