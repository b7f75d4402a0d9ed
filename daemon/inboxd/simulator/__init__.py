"""A local Instagram: a Graph API and a webhook sender, for demos, tests and benchmarks."""
