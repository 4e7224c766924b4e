"""Benchmarks that anybody can run: real servers, services as processes, ratios to a bare handler in the same run."""
