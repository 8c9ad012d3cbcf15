"""What is generated from the code: the pages of metrics and settings, the OpenAPI files."""
