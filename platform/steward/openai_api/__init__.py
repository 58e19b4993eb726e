"""The OpenAI-compatible interface under /v1: what programs written for OpenAI ask the house's models with."""
